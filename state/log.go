package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// health is the Pebble logger of a store and the memory of its first failure.
//
// Pebble ends the process on a failed write of its MANIFEST and on a broken invariant
// (Fatalf), and retries a failed flush or compaction for ever. Here neither happens: the
// first of them is logged and kept, and every later call of the store returns it. Pebble
// counts on Fatalf not to return; that it does here is safe because nothing that Pebble
// says afterwards is believed: each call asks failed() after Pebble answered, and what was
// half written is a cache that the next start checks, or sets aside and restores.
type health struct {
	log  *slog.Logger
	once sync.Once
	bad  chan struct{} // closed by the first failure
	err  error         // set before bad is closed
}

func newHealth(log *slog.Logger) *health { return &health{log: log, bad: make(chan struct{})} }

// fail keeps the first failure. Pebble calls it while it holds its own locks, and in a
// tight loop while a disk is full: so it does nothing slow, and logs once.
func (h *health) fail(err error) {
	h.once.Do(func() {
		h.err = err
		close(h.bad)
		h.log.Error("the state store is broken: nothing more is read from it or written to it", "error", err)
	})
}

// failed returns the first failure, or nil.
func (h *health) failed() error {
	select {
	case <-h.bad:
		return fmt.Errorf("the state store is broken: %w", h.err)
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

// Fatalf implements pebble.Logger. See health for why it returns.
func (h *health) Fatalf(format string, args ...any) {
	h.fail(errors.New("pebble: " + fmt.Sprintf(format, args...)))
}

func (h *health) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { h.fail(fmt.Errorf("pebble, in the background: %w", err)) },
		DataCorruption:  func(info pebble.DataCorruptionInfo) { h.fail(fmt.Errorf("pebble: %s: %w", info.Path, info.Details)) },
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			h.log.Warn("writes to the state store wait for the disk", "reason", info.Reason)
		},
	}
}
