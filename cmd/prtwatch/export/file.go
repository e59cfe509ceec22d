package export

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
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
	closer func()
}

// largestWindow is the memory that a zstd file may ask for: that of `zstd --long=27`, which
// is the most that the zstd command takes unasked.
const largestWindow = 128 << 20

// Open opens a file. The name - is stdin. An error names the file and what would be right.
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
		}
	}
	return f, nil
}

// start looks at the first bytes. It is not done by Open because those of standard input
// may come late.
func (f *File) start() error {
	buffered := bufio.NewReaderSize(&f.read, 256<<10)
	first, err := buffered.Peek(4)
	if err != nil && err != io.EOF {
		return err
	}
	switch magic := string(first); {
	case len(magic) >= 2 && magic[:2] == "\x1f\x8b":
		z, err := kgzip.NewReader(buffered)
		if err != nil {
			return err
		}
		f.text = z
	case magic == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(largestWindow))
		if err != nil {
			return err
		}
		f.text, f.closer = z, z.Close
	case len(magic) >= 2 && (magic[:2] == "\xff\xfe" || magic[:2] == "\xfe\xff"):
		return errors.New("it is UTF-16; save it as UTF-8")
	default:
		f.text = buffered
	}
	return nil
}

// Read reads the text of the file.
func (f *File) Read(p []byte) (int, error) {
	if f.text == nil {
		if err := f.start(); err != nil {
			return 0, fmt.Errorf("reading %s: %w", f.Name, err)
		}
	}
	n, err := f.text.Read(p)
	if err != nil && err != io.EOF {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrHeader) {
			err = fmt.Errorf("%w: the file is cut off or damaged", err)
		}
		err = fmt.Errorf("reading %s: %w", f.Name, err)
	}
	return n, err
}

// Progress is how many bytes were read, as they lie on disk. It is safe for use by many
// goroutines.
func (f *File) Progress() int64 { return f.read.bytes.Load() }

// Close closes the file.
func (f *File) Close() error {
	f.closer()
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

type counter struct {
	from  io.Reader
	bytes atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}
