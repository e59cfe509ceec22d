package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// health is the Pebble logger of a store and the memory of its first failure.
//
// Pebble ends the process on a failed write of its MANIFEST and on a broken invariant
// (Fatalf), panics on a directory that cannot be synced, and retries a failed flush or
// compaction for ever. Here none of it happens: the first of them is logged and kept, and
// every later call of the store returns it.
//
// Pebble counts on Fatalf not to return. After a failed write of the MANIFEST it does not: what
// Pebble holds in memory is half changed, and whoever went on with it would panic, or write a
// table into the MANIFEST twice, of which every later start dies. So Pebble stands still there,
// nobody waits for it (see Store.unlessBroken), and the process ends before long. Elsewhere it
// is safe to return, because from the first failure on nothing that Pebble says is believed
// (each call asks failed() after Pebble answered) and nothing that it writes reaches the disk
// (see guard): what is there is what a crash at that moment would have left.
type health struct {
	log  *slog.Logger
	once sync.Once
	bad  chan struct{} // closed by the first failure
	err  error         // set before bad is closed

	stalls stalls

	frozen func()        // closes still, once
	still  chan struct{} // closed when Pebble stands still, and cannot be closed
}

func newHealth(log *slog.Logger) *health {
	h := &health{log: log, bad: make(chan struct{}), still: make(chan struct{})}
	h.frozen = sync.OnceFunc(func() { close(h.still) })
	return h
}

// fail keeps the first failure. Pebble calls it while it holds its own locks, and in a
// loop while a disk is full: so it does nothing slow, and logs once.
func (h *health) fail(err error) {
	h.once.Do(func() {
		h.err = err
		close(h.bad)
		h.log.Error("the state store is broken: nothing more is read from it or written to it", "error", err)
	})
}

// errBroken is what every call gets after the first failure, with that failure.
var errBroken = errors.New("the state store is broken")

// failed returns the first failure, or nil.
func (h *health) failed() error {
	select {
	case <-h.bad:
		return fmt.Errorf("%w: %w", errBroken, h.err)
	default:
		return nil
	}
}

// corrupt reports whether the first failure is damage that Pebble found.
func (h *health) corrupt() bool {
	err := h.failed()
	return err != nil && pebble.IsCorruptionError(err)
}

// Infof implements pebble.Logger.
func (h *health) Infof(format string, args ...any) {
	if h.log.Enabled(context.Background(), slog.LevelDebug) {
		h.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

// Errorf implements pebble.Logger.
func (h *health) Errorf(format string, args ...any) {
	if h.failed() == nil { // afterwards it repeats itself
		h.log.Error("pebble: " + fmt.Sprintf(format, args...))
	}
}

// Fatalf implements pebble.Logger. See health for when it returns.
func (h *health) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	h.fail(errors.New("pebble: " + text))
	if strings.HasPrefix(text, "MANIFEST") {
		h.frozen()
		select {}
	}
}

func (h *health) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { h.fail(fmt.Errorf("pebble, in the background: %w", err)) },
		DataCorruption:  func(info pebble.DataCorruptionInfo) { h.fail(fmt.Errorf("pebble: %s: %w", info.Path, info.Details)) },
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			h.stalls.begin()
			h.log.Warn("writes to the state store wait for the disk", "reason", info.Reason)
		},
		WriteStallEnd: h.stalls.end,
	}
}

// retryPause keeps Pebble, which tries at once and for ever what failed, from taking a core.
const retryPause = 5 * time.Millisecond

// guard puts health between Pebble and its disk: after the first failure nothing is written.
func (h *health) guard(fs vfs.FS) vfs.FS {
	return watchedDirs{errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return nil
		}
		err := h.failed()
		if err != nil && op.Kind == errorfs.OpCreate {
			time.Sleep(retryPause)
		}
		return err
	})), h}
}

// watchedDirs is a file system whose directories tell health of a sync that fails, and nobody
// else: Pebble panics then, in the background too, where nobody could recover it.
type watchedDirs struct {
	vfs.FS
	health *health
}

type watchedDir struct {
	vfs.File
	health *health
}

// OpenDir implements vfs.FS.
func (w watchedDirs) OpenDir(name string) (vfs.File, error) {
	dir, err := w.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return watchedDir{dir, w.health}, nil
}

// Sync implements vfs.File.
func (w watchedDir) Sync() error {
	if err := w.File.Sync(); err != nil {
		w.health.fail(fmt.Errorf("syncing the directory of the state store: %w", err))
	}
	return nil
}
