package state

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

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

// TestEveryDamagedFileIsSetAsideOrNoticed loses, cuts and alters each file of a Pebble that
// was filled and closed. Whatever comes, the next start succeeds, at once or after one
// more; it finds the state as it was, or none, and never another; and what was set aside
// is still there.
func TestEveryDamagedFileIsSetAsideOrNoticed(t *testing.T) {
	fill := func(fs vfs.FS) {
		s := openMem(t, fs, narrow)
		p := lease(t, s, 3)
		for round := range int32(3) {
			for u := range 300 {
				profile(t, p, fmt.Sprint("user", u)).See("192.0.2.1", "64500", 1000+round)
			}
			must(t, p.Commit(Checkpoint{Offset: int64(round) + 1}))
			must(t, s.Flush())
		}
		must(t, s.Close())
	}
	pristine := vfs.NewMem()
	fill(pristine)
	names, err := pristine.List("state/pebble")
	must(t, err)
	damages := map[string]func(data []byte) []byte{
		"lost":    nil,
		"empty":   func([]byte) []byte { return nil },
		"halved":  func(data []byte) []byte { return data[:len(data)/2] },
		"altered": func(data []byte) []byte { data[len(data)/2] ^= 0x40; return data },
		"garbage": func(data []byte) []byte { return bytes.Repeat([]byte("x"), len(data)) },
	}
	asideCount := 0
	for _, name := range names {
		for damage, alter := range damages {
			t.Run(damage+" "+name, func(t *testing.T) {
				fs := vfs.NewMem()
				if ok, err := vfs.Clone(pristine, fs, "state", "state"); err != nil || !ok {
					t.Fatal(ok, err)
				}
				spoil(t, fs, "state/pebble/"+name, alter)
				// A damaged table may only be noticed when it is read, and is then set aside
				// when the store closes.
				for attempt := 1; ; attempt++ {
					s := openMem(t, fs, narrow)
					ok := sound(t, s)
					err := s.Close()
					if ok && err == nil {
						break
					}
					if attempt == 2 {
						t.Fatalf("still damaged: %v", err)
					}
				}
				if _, err := fs.Stat("state/pebble.corrupt-1"); err == nil {
					asideCount++
				}
			})
		}
	}
	t.Logf("%d files, %d cases, %d set aside", len(names), len(names)*len(damages), asideCount)
	if asideCount < len(names) {
		t.Error("hardly any damage is noticed")
	}
}

func spoil(t *testing.T, fs vfs.FS, name string, alter func([]byte) []byte) {
	t.Helper()
	f, err := fs.Open(name)
	must(t, err)
	info, err := f.Stat()
	must(t, err)
	data := make([]byte, info.Size())
	if len(data) > 0 {
		_, err = f.ReadAt(data, 0)
		must(t, err)
	}
	must(t, f.Close())
	must(t, fs.Remove(name))
	if alter == nil {
		return
	}
	if len(data) > 0 {
		data = alter(data)
	}
	f, err = fs.Create(name, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(data)
	must(t, errors.Join(err, f.Sync(), f.Close()))
}

// sound reports whether all can be read; then it is the whole state or none.
func sound(t *testing.T, s *Store) bool {
	t.Helper()
	p := lease(t, s, 3)
	cp, found, err := p.Checkpoint()
	if err != nil {
		return false
	}
	if found && cp.Offset != 3 {
		t.Errorf("found checkpoint %d", cp.Offset)
	}
	for u := range 300 {
		got, err := p.Profile(fmt.Sprint("user", u))
		if err != nil {
			return false
		}
		if _, _, first, last := got.Counts(0, 2000); found && (first != 1000 || last != 1002) || !found && got.seen() {
			t.Errorf("checkpoint %v %d, but user %d was seen in %d to %d", found, cp.Offset, u, first, last)
		}
	}
	return true
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
	if _, err := fs.Stat("state/pebble.corrupt-1"); err == nil {
		t.Error("a sound store was set aside")
	}
	must(t, openMem(t, fs, narrow).Close())
}

var errDisk = errors.New("no space left on the test's device")

func TestAFullDiskFailsFlushAndEveryCommitAfterItAndEndsNoProcess(t *testing.T) {
	for _, files := range []string{".sst", "MANIFEST"} {
		t.Run(files, func(t *testing.T) {
			var full atomic.Bool
			mem := vfs.NewMem()
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
			after := openMem(t, mem, narrow)
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
