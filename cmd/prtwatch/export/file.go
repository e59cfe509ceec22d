package export

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/readahead"
)

// File is an opened file of an export, decompressed where it is gzip or zstd, which its
// first bytes say and not its name.
type File struct {
	Name string
	// Size is how many bytes the file has as it lies on disk, -1 where that is not known.
	Size int64

	file   *os.File // nil for standard input
	read   counter
	text   io.Reader
	begun  error // why there is no text, once that was tried, or no more
	closer func()
}

// FormError says that a file is, from its first bytes on, nothing that can be read.
type FormError struct {
	Name    string // of the file
	Problem string // and what to do about it
}

// Error names the file first.
func (e *FormError) Error() string { return e.Name + ": " + e.Problem }

// largestWindow is the memory that a zstd file may ask for: that of `zstd --long=27`, which
// is the most that the zstd command takes unasked.
const largestWindow = 128 << 20

// Open opens a file. The name - is stdin. An error names the file and what would be right;
// of a regular file the first bytes are looked at already.
func Open(name string, stdin io.Reader) (*File, error) {
	f := &File{Name: name, Size: -1, closer: func() {}}
	f.read.from = stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			var path *fs.PathError
			if errors.As(err, &path) {
				err = path.Err
			}
			return nil, fmt.Errorf("%s: %w; name a file that can be read, or - for standard input", name, err)
		}
		f.file, f.read.from = file, file
		info, err := file.Stat()
		if err == nil && info.IsDir() {
			file.Close()
			return nil, fmt.Errorf("%s: is a folder; name the files in it", name)
		}
		if err == nil && info.Mode().IsRegular() {
			f.Size = info.Size()
			_, closer, err := decompress(name, bufio.NewReader(io.NewSectionReader(file, 0, f.Size)))
			if err != nil {
				file.Close()
				return nil, err
			}
			closer()
		}
	}
	return f, nil
}

// decompress looks at the first bytes and returns the text.
func decompress(name string, from *bufio.Reader) (text io.Reader, closer func(), err error) {
	first, err := from.Peek(4)
	if err != nil && err != io.EOF {
		return nil, nil, fmt.Errorf("reading %s: %w", name, err)
	}
	switch magic := string(first); {
	case strings.HasPrefix(magic, "\x1f\x8b"):
		z, err := kgzip.NewReader(from)
		if err != nil {
			return nil, nil, &FormError{name, fmt.Sprintf("begins as gzip does, but its header is damaged or cut off (%v); export or copy it again", err)}
		}
		return z, func() {}, nil
	case magic == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(largestWindow))
		if err != nil {
			return nil, nil, &FormError{name, fmt.Sprintf("begins as zstd does, but its header is damaged or cut off (%v); export or copy it again", err)}
		}
		return z, z.Close, nil
	case strings.HasPrefix(magic, "\xff\xfe"), strings.HasPrefix(magic, "\xfe\xff"):
		return nil, nil, &FormError{name, "is UTF-16, by its first two bytes; save it as UTF-8: iconv -f UTF-16 -t UTF-8"}
	}
	return from, func() {}, nil
}

// start makes the text. It is not done by Open because the first bytes of standard input
// may come late. A second try would begin in the middle of the file.
func (f *File) start() error {
	if f.text == nil && f.begun == nil {
		text, closer, err := decompress(f.Name, bufio.NewReaderSize(&f.read, 256<<10))
		if err != nil {
			if f.read.failed != nil { // not what is in the file
				err = fmt.Errorf("reading %s: %w", f.Name, f.read.failed)
			}
			f.begun = err
			return err
		}
		f.text, f.closer = text, closer
		if f.Size >= 0 { // reading from a pipe or a terminal, which may wait, could not be ended
			ahead := readahead.NewReader(text)
			f.text, f.closer = ahead, func() { ahead.Close(); closer() }
		}
	}
	return f.begun
}

// Read reads the text of the file. Its error names the file.
func (f *File) Read(p []byte) (int, error) {
	if err := f.start(); err != nil {
		return 0, err
	}
	n, err := f.text.Read(p)
	switch {
	case err == nil || err == io.EOF:
	case f.read.failed != nil:
		err = fmt.Errorf("reading %s: %w", f.Name, f.read.failed)
	default: // the bytes came, and could not be decompressed
		err = fmt.Errorf("reading %s: %w: it is damaged or cut off from here on; export or copy it again", f.Name, err)
	}
	return n, err
}

// Progress is how many bytes were read, as they lie on disk. It is safe for use by many
// goroutines.
func (f *File) Progress() int64 { return f.read.bytes.Load() }

// Close closes the file, and lets go of what reading it took. Closing again does nothing.
func (f *File) Close() error {
	f.closer()
	f.text, f.begun, f.closer = nil, fs.ErrClosed, func() {}
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return file.Close()
}

// counter counts the bytes that it reads, and keeps the first error that is not the end.
type counter struct {
	from   io.Reader
	bytes  atomic.Int64
	failed error
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.bytes.Add(int64(n))
	if err != nil && err != io.EOF && c.failed == nil {
		c.failed = err
	}
	return n, err
}
