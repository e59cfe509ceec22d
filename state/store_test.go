package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func openDir(t *testing.T, dir string) (*Store, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	cfg := DefaultConfig()
	cfg.Dir = dir
	s, err := Open(cfg, 335, slog.New(slog.NewTextHandler(&log, nil)))
	must(t, err)
	return s, &log
}

func TestAFolderOfAnotherFormatIsRefusedAndLeftAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, _ := openDir(t, dir)
	must(t, s.Close())
	for found, spoil := range map[string]func(file string) error{
		`"2"`:  func(file string) error { return os.WriteFile(file, []byte("2\n"), 0o644) },
		`""`:   func(file string) error { return os.WriteFile(file, nil, 0o644) },
		"none": os.Remove,
	} {
		must(t, spoil(filepath.Join(dir, "format")))
		before := list(t, dir)
		cfg := DefaultConfig()
		cfg.Dir = dir
		_, err := Open(cfg, 335, slog.New(slog.DiscardHandler))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "says "+found+", this program supports 1") {
			t.Errorf("got %v", err)
		}
		if after := list(t, dir); after != before {
			t.Errorf("the folder was changed from %s to %s", before, after)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "format"), []byte("1\n"), 0o644))
	s, _ = openDir(t, dir)
	must(t, s.Close())
}

func list(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	must(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		fmt.Fprintln(&out, path, info.Size())
		return err
	}))
	return out.String()
}

func TestAFolderHasOneProcessAndKeepsItsName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	s, log := openDir(t, dir)
	name := s.Instance()
	cfg := DefaultConfig()
	cfg.Dir = dir
	_, err := Open(cfg, 335, slog.New(slog.DiscardHandler))
	if !errors.Is(err, ErrInUse) {
		t.Errorf("got %v", err)
	}
	checkInUse(t, err, dir)
	must(t, s.Close())
	must(t, s.Close())
	s, _ = openDir(t, dir)
	if s.Instance() != name || !validInstance.MatchString(name) {
		t.Errorf("%q became %q", name, s.Instance())
	}
	must(t, s.Close())
	if log.Len() > 0 {
		t.Errorf("an ordinary life is logged: %s", log)
	}
	must(t, os.WriteFile(filepath.Join(dir, "instance"), []byte("no name\n"), 0o644))
	if _, err := Open(cfg, 335, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("got %v", err)
	}
}

// It says who was where.
func TestAFolderIsForItsUserAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	s, _ := openDir(t, dir)
	must(t, s.Close())
	for _, folder := range []string{dir, filepath.Dir(dir)} {
		info, err := os.Stat(folder)
		must(t, err)
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", folder, info.Mode())
		}
	}
}

func TestATemporaryStoreLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := OpenTemporary(DefaultConfig(), 335, slog.New(slog.DiscardHandler))
	must(t, err)
	p := lease(t, s, 0)
	profile(t, p, "a").See("192.0.2.1", "64500", 1000)
	must(t, p.Commit(Checkpoint{}))
	if entries, _ := os.ReadDir(os.Getenv("TMPDIR")); len(entries) != 1 {
		t.Errorf("%d folders while it is open", len(entries))
	}
	must(t, s.Close())
	if entries, _ := os.ReadDir(os.Getenv("TMPDIR")); len(entries) != 0 {
		t.Errorf("%d folders are left", len(entries))
	}
}

func TestAPartitionThatOutlivesItsStoreGetsAnError(t *testing.T) {
	s := openMem(t, vfs.NewMem(), narrow)
	p := lease(t, s, 3)
	profile(t, p, "a").See("192.0.2.1", "64500", 1000)
	must(t, s.Close())
	_, readErr := p.Profile("b")
	for _, err := range []error{readErr, p.Commit(Checkpoint{}), p.Drop(), p.Release(), s.Flush()} {
		if !errors.Is(err, errClosed) {
			t.Errorf("got %v", err)
		}
	}
}

func TestOfDamagedStoresTheLastIsKept(t *testing.T) {
	t.Chdir(t.TempDir())
	fs := vfs.Default // in memory a folder may be renamed to what is there
	for range 3 {
		must(t, openMem(t, fs, narrow).Close())
		names, err := fs.List("state/pebble")
		must(t, err)
		for _, name := range names {
			if strings.HasPrefix(name, "MANIFEST") {
				must(t, fs.Remove("state/pebble/"+name))
			}
		}
	}
	must(t, openMem(t, fs, narrow).Close())
	names, err := fs.List("state")
	must(t, err)
	slices.Sort(names)
	if want := []string{"format", "instance", "lock", "pebble", "pebble.corrupt"}; !slices.Equal(names, want) {
		t.Errorf("the folder has %q", names)
	}
}

func TestAFolderThatCannotBeWrittenIsNotTakenForDamage(t *testing.T) {
	fs := vfs.NewMem()
	must(t, openMem(t, fs, narrow).Close())
	denied := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.Contains(op.Path, "MANIFEST") {
			return &os.PathError{Op: "open", Path: op.Path, Err: os.ErrPermission}
		}
		return nil
	}))
	cfg := DefaultConfig()
	cfg.Dir = "state"
	_, err := open(cfg, 335, slog.New(slog.DiscardHandler), denied)
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v", err)
	}
	if _, err := fs.Stat("state/pebble.corrupt"); err == nil {
		t.Error("a sound store was set aside")
	}
	must(t, openMem(t, fs, narrow).Close())
}

var errDisk = errors.New("no space left on the test's device")

func TestAFullDiskFailsFlushAndEveryCommitAfterItAndEndsNoProcess(t *testing.T) {
	for _, files := range []string{".sst", "MANIFEST"} {
		t.Run(files, func(t *testing.T) {
			var full atomic.Bool
			mem := vfs.NewCrashableMem()
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.Contains(op.Path, files) {
					return errDisk
				}
				return nil
			}))
			s := openMem(t, fs, narrow)
			p := lease(t, s, 3)
			commit := func(offset int64) error {
				profile(t, p, "a").See("192.0.2.1", "64500", int32(offset))
				return p.Commit(Checkpoint{Offset: offset})
			}
			must(t, commit(1000))
			must(t, s.Flush())
			must(t, commit(1001))
			full.Store(true)
			if err := s.Flush(); err == nil || !strings.Contains(err.Error(), errDisk.Error()) {
				t.Errorf("Flush: %v", err)
			}
			if err := commit(1002); err == nil || !strings.Contains(err.Error(), errDisk.Error()) {
				t.Errorf("Commit: %v", err)
			}
			if err := s.Close(); err == nil || strings.Contains(err.Error(), "set aside") {
				t.Errorf("Close: %v", err)
			}
			full.Store(false)
			// As another process finds it: this one keeps Pebble's lock when that stands still.
			after := openMem(t, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))}), narrow)
			defer after.Close()
			q := lease(t, after, 3)
			cp, found, err := q.Checkpoint()
			must(t, err)
			_, _, _, last := profile(t, q, "a").Counts(0, 2000)
			if int64(last) != cp.Offset || found && cp.Offset < 1000 || cp.Offset > 1001 {
				t.Errorf("the user is at %d, the checkpoint at %d", last, cp.Offset)
			}
		})
	}
}

// A restore writes faster than a disk: when that fails, somebody waits for room already.
func TestAWriterThatWaitsForADiskIsToldWhenItFails(t *testing.T) {
	full, waits := make(chan struct{}), make(chan struct{}, 1)
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst") {
			<-full
			return errDisk
		}
		return nil
	}))
	cfg := DefaultConfig()
	cfg.Dir, cfg.Cache = "state", minCache
	s, err := open(cfg, 335, slog.New(told{waits}), fs)
	must(t, err)
	s.batchBytes, s.tableBytes = 4<<20, math.MaxInt // for a table nobody waits who could be told
	go func() {
		<-waits
		close(full)
	}()
	err = soon(t, func() error {
		p := lease(t, s, 3)
		for i := 0; ; i++ {
			if err := p.Put(fmt.Append(nil, "user", i), make([]byte, 1<<20)); err != nil {
				return err
			}
		}
	})
	if err == nil || !strings.Contains(err.Error(), errDisk.Error()) {
		t.Errorf("Put: %v", err)
	}
	if err := soon(t, s.Close); err == nil || !strings.Contains(err.Error(), errDisk.Error()) {
		t.Errorf("Close: %v", err)
	}
}

// told is a log handler that tells of the first message that a writer waits.
type told struct{ waits chan struct{} }

func (h told) Enabled(context.Context, slog.Level) bool { return true }
func (h told) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h told) WithGroup(string) slog.Handler            { return h }

func (h told) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "wait for the disk") {
		select {
		case h.waits <- struct{}{}:
		default:
		}
	}
	return nil
}

// What a crash can cost is what was committed since the last flush.
func TestAStoreFlushesByItselfFromTimeToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		s := openMem(t, fs, narrow)
		must(t, lease(t, s, 3).Commit(Checkpoint{Offset: 7}))
		time.Sleep(flushEvery) // of the bubble's clock
		synctest.Wait()
		left := openMem(t, fs.CrashClone(vfs.CrashCloneCfg{}), narrow)
		cp, _, err := lease(t, left, 3).Checkpoint()
		if err != nil || cp.Offset != 7 {
			t.Errorf("after a crash the checkpoint is %+v (%v), want offset 7", cp, err)
		}
		must(t, errors.Join(left.Close(), s.Close()))
	})
}

// Pebble makes a new file for each of its attempts, and would take a core for them.
func TestABrokenStoreIsNotTriedAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth(slog.New(slog.DiscardHandler))
		fs, began := h.guard(vfs.NewMem()), time.Now()
		f, err := fs.Create("before", vfs.WriteCategoryUnspecified)
		must(t, errors.Join(err, f.Close()))
		if took := time.Since(began); took != 0 {
			t.Errorf("a file of a store that is not broken took %v", took)
		}
		h.fail(errors.New("no room"))
		if _, err := fs.Create("after", vfs.WriteCategoryUnspecified); !errors.Is(err, errBroken) || time.Since(began) != retryPause {
			t.Errorf("an attempt of a broken store ended after %v with %v, want after %v", time.Since(began), err, retryPause)
		}
	})
}
