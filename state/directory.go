package state

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// formatVersion is the version of all that is below the folder: the layout, the keys and
// what the keys hold. A profile carries a version of its own as well, because it travels.
const formatVersion = 1

var (
	// ErrInUse is returned by Open where another process has the folder.
	ErrInUse = errors.New("state folder is in use")
	// ErrFormat is returned by Open where the folder was written by another version of the
	// program. Nothing in it is touched.
	ErrFormat = errors.New("state folder has another format")
)

// directory is the folder of a store: DIR/lock, DIR/format, DIR/instance, DIR/open while a
// process works in it, DIR/pebble and, where one was damaged, DIR/pebble.corrupt: the last such, for whoever wants to know why.
type directory struct {
	fs       vfs.FS
	path     string
	lock     io.Closer
	instance string
}

// openDirectory makes the folder where it is missing, locks it, and checks its format.
func openDirectory(fs vfs.FS, path string) (*directory, error) {
	d := &directory{fs: fs, path: path}
	if err := d.make(); err != nil {
		return nil, fmt.Errorf("making the state folder %s: %w", path, err)
	}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	err := d.checkFormat()
	if err == nil {
		err = d.readInstance()
	}
	if err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	return d, nil
}

// make makes the folder and those above it, for our user alone: it says who was where. They outlive a loss of
// power: a folder is an entry of the one above, which is synced for that.
func (d *directory) make() error {
	var missing []string
	for path := d.path; ; path = d.fs.PathDir(path) {
		_, err := d.fs.Stat(path)
		if err == nil || path == d.fs.PathDir(path) {
			break
		}
		missing = append(missing, path)
	}
	if err := d.fs.MkdirAll(d.path, 0o700); err != nil {
		return err
	}
	for _, path := range missing {
		if err := syncDir(d.fs, d.fs.PathDir(path)); err != nil {
			return err
		}
	}
	return nil
}

func (d *directory) file(name string) string { return d.fs.PathJoin(d.path, name) }

func (d *directory) acquire() (err error) {
	d.lock, err = d.fs.Lock(d.file("lock"))
	if err == nil {
		return nil
	}
	// A file that cannot be made is a PathError; a lock that is held is not.
	var path *os.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("locking the state folder %s: %w", d.path, err)
	}
	return fmt.Errorf("%w: another process works in %s: stop it, or give this one a folder of its own (state.dir)", ErrInUse, d.path)
}

// checkFormat is done before Pebble makes a file, so a store without a format is none of
// ours.
func (d *directory) checkFormat() error {
	text, err := d.read("format")
	switch {
	case errors.Is(err, os.ErrNotExist):
		if _, err := d.fs.Stat(d.file("pebble")); err == nil {
			return d.wrongFormat("none")
		}
		return d.write("format", strconv.Itoa(formatVersion))
	case err != nil:
		return fmt.Errorf("reading the format of the state folder: %w", err)
	case text != strconv.Itoa(formatVersion):
		return d.wrongFormat(fmt.Sprintf("%.20q", text))
	}
	return nil
}

func (d *directory) wrongFormat(found string) error {
	return fmt.Errorf("%w: %s says %s, this program supports %d: run the version that wrote it, or set state.dir to another folder (it is filled from the baseline topic)",
		ErrFormat, d.file("format"), found, formatVersion)
}

var validInstance = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// readInstance reads the random name of this folder, which it makes the first time.
func (d *directory) readInstance() error {
	text, err := d.read("instance")
	switch {
	case errors.Is(err, os.ErrNotExist):
		var random [6]byte
		rand.Read(random[:])
		d.instance = hex.EncodeToString(random[:])
		return d.write("instance", d.instance)
	case err != nil:
		return fmt.Errorf("reading the instance name: %w", err)
	case !validInstance.MatchString(text):
		return fmt.Errorf("%s holds no instance name (1 to 64 of A-Z a-z 0-9 . _ -): remove it: a new name is made, and the state filled again from the baseline topic", d.file("instance"))
	}
	d.instance = text
	return nil
}

// wasLeft reports whether the process before this one did not close the folder.
func (d *directory) wasLeft() bool {
	_, err := d.fs.Stat(d.file("open"))
	return err == nil
}

// enter marks the folder as open until leave does away with it.
func (d *directory) enter() error { return d.write("open", strconv.Itoa(os.Getpid())) }

func (d *directory) leave() error {
	err := d.fs.Remove(d.file("open"))
	if err == nil {
		err = d.sync()
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", d.file("open"), err)
	}
	return nil
}

func (d *directory) read(name string) (string, error) {
	f, err := d.fs.Open(d.file(name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<10))
	return strings.TrimSpace(string(text)), err
}

// write makes a small file whole or not at all, also when the power goes.
func (d *directory) write(name, text string) error {
	err := func() error {
		f, err := d.fs.Create(d.file(name+".new"), vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		_, err = f.Write([]byte(text + "\n"))
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		if err := d.fs.Rename(d.file(name+".new"), d.file(name)); err != nil {
			return err
		}
		return d.sync()
	}()
	if err != nil {
		return fmt.Errorf("writing %s: %w", d.file(name), err)
	}
	return nil
}

func (d *directory) sync() error { return syncDir(d.fs, d.path) }

func syncDir(fs vfs.FS, path string) error {
	dir, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// setAside renames the Pebble folder, and returns the new name. What was set aside before goes: a
// disk that damages one after the other would be filled by them.
func (d *directory) setAside() (string, error) {
	name := d.file("pebble.corrupt")
	if err := d.fs.RemoveAll(name); err != nil {
		return "", fmt.Errorf("removing the damaged store %s, to set another aside: %w", name, err)
	}
	if err := d.fs.Rename(d.file("pebble"), name); err != nil {
		return "", fmt.Errorf("setting a damaged store aside as %s: %w", name, err)
	}
	return name, d.sync()
}
