package round

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
)

// fullWithin is how long an instance works on a disk that is nearly full before it is stopped,
// when it must write what it has not.
const fullWithin = 10 * time.Second

// full moves the state of an instance to a small disk, on which there is room for its files and
// little more, and back when the instance has ended. To mount a disk takes root.
func (s *scene) full(r *rand.Rand) *injection {
	if os.Geteuid() != 0 {
		return nil
	}
	i := s.claim(r, nil)
	if i == nil {
		return nil
	}
	room := (4 + r.Int64N(28)) << 10
	return &injection{i.Name, func(ctx context.Context) (bool, string) {
		defer i.Busy.Unlock()
		defer s.start(i)
		s.halt(i)
		back, err := ontoSmallDisk(i.Dir, room)
		if err != nil {
			return false, err.Error()
		}
		s.startWith(i, fleet.Life{Full: true})
		working, cancel := context.WithTimeout(ctx, fullWithin)
		defer cancel()
		until(working, 50*time.Millisecond, func(context.Context) bool { return !i.Running() })
		_, detail := s.halt(i)
		met := metFullDisk(i.Last())
		if err := back(); err != nil {
			s.find("suite", "bringing the state of %s back from the small disk: %v", i.Name, err)
		}
		return met, fmt.Sprintf("%d KiB free: %t %s", room>>10, met, detail)
	}}
}

// metFullDisk reports whether a process whose disk was full ended with an error that says so. At
// the start that is one of the configuration, which names the folder.
func metFullDisk(e fleet.Exit) bool {
	return e.Life.Full && (e.Code == 1 || e.Code == 2) && strings.Contains(e.Log, syscall.ENOSPC.Error())
}

// ontoSmallDisk puts a state folder on a disk of its own with so many bytes free, and returns what
// puts it back.
func ontoSmallDisk(dir string, room int64) (back func() error, err error) {
	size, err := onDisk(dir)
	if err != nil {
		return nil, err
	}
	large := dir + ".large"
	if err := os.Rename(dir, large); err != nil {
		return nil, err
	}
	undo := func() error { return errors.Join(os.RemoveAll(dir), os.Rename(large, dir)) }
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, errors.Join(err, undo())
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size+room)); err != nil {
		return nil, errors.Join(fmt.Errorf("mounting a disk of %d bytes: %w", size+room, err), undo())
	}
	unmount := func() error { return syscall.Unmount(dir, 0) }
	if err := os.CopyFS(dir, os.DirFS(large)); err != nil {
		return nil, errors.Join(err, unmount(), undo())
	}
	return func() error {
		err := fleet.Copy(large, dir)
		return errors.Join(err, unmount(), undo())
	}, nil
}

// onDisk is what the files below a folder take on a disk whose blocks are pages.
func onDisk(dir string) (bytes int64, err error) {
	page := int64(os.Getpagesize())
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += (info.Size() + page - 1) / page * page
		}
		return err
	})
	return bytes, err
}
