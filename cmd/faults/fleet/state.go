package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// ErrNothing is returned where there is nothing yet to damage.
var ErrNothing = errors.New("the state has no such file yet")

// mark is a file that lies in a Pebble that was damaged on purpose, and goes where that goes:
// into copies, to other instances, and aside. Pebble leaves alone what it does not know.
const mark = "damaged-by-the-suite"

// damage marks the Pebble of a state folder as damaged.
func damage(dir string) error { return os.WriteFile(filepath.Join(dir, "pebble", mark), nil, 0o644) }

// Damaged reports whether the Pebble of a state folder was damaged on purpose and prtwatch has not
// met that, or it would lie aside.
func Damaged(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "pebble", mark))
	return err == nil
}

// AsideForNothing reports whether prtwatch has set a Pebble aside below a state folder though nobody
// had damaged it, and does so once.
func AsideForNothing(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, "pebble.corrupt", mark), os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return false // there is none, or it is marked
	}
	return f.Close() == nil
}

// Copy copies a state folder, which no process may use meanwhile; what is at to goes.
func Copy(to, from string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

// Swap exchanges two state folders, which need not exist.
func Swap(a, b string) error {
	aside := a + ".swap"
	return errors.Join(move(aside, a), move(a, b), move(b, aside))
}

func move(to, from string) error {
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Truncate cuts off a file of Pebble at a random place and says which and where.
func Truncate(dir string, random *rand.Rand) (string, error) {
	path, size, err := pick(dir, random, func(string) bool { return true })
	if err != nil {
		return "", err
	}
	if err := damage(dir); err != nil {
		return "", err
	}
	at := random.Int64N(size)
	return fmt.Sprintf("%s at %d of %d", filepath.Base(path), at, size), os.Truncate(path, at)
}

// Flip flips a bit in a table of Pebble and says which.
func Flip(dir string, random *rand.Rand) (string, error) {
	path, size, err := pick(dir, random, func(name string) bool { return strings.HasSuffix(name, ".sst") })
	if err != nil {
		return "", err
	}
	if err := damage(dir); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b [1]byte
	at, bit := random.Int64N(size), random.IntN(8)
	if _, err := f.ReadAt(b[:], at); err != nil {
		return "", err
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b[:], at); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s byte %d of %d bit %d", filepath.Base(path), at, size, bit), nil
}

// pick chooses a file of the Pebble folder that is not empty.
func pick(dir string, random *rand.Rand, fits func(name string) bool) (path string, size int64, err error) {
	dir = filepath.Join(dir, "pebble")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, ErrNothing
	}
	if err != nil {
		return "", 0, err
	}
	var paths []string
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && info.Size() > 0 && e.Name() != mark && fits(e.Name()) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	if len(paths) == 0 {
		return "", 0, ErrNothing
	}
	path = paths[random.IntN(len(paths))]
	info, err := os.Stat(path)
	if err != nil {
		return "", 0, err
	}
	return path, info.Size(), nil
}
