package export

import (
	"bufio"
	"bytes"
	"io"
)

// lines cuts a text into lines, and a line that is longer than can be held into pieces.
type lines struct {
	from   *bufio.Reader
	pushed []byte // what was unread; of it the first taken bytes are read again
	taken  int
	line   []byte // the line, or piece, at hand; with its line break
	ended  bool   // whether line reaches to the line's end
	number int    // of the line at hand, from 1
}

// piece is how much of a line is read at once where the whole line is not needed.
const piece = 1 << 20

var byteOrderMark = []byte("\xef\xbb\xbf")

func newLines(from io.Reader) (*lines, error) {
	l := &lines{from: bufio.NewReaderSize(from, 256<<10), ended: true}
	first, err := l.from.Peek(len(byteOrderMark))
	if err != nil && err != io.EOF {
		return nil, err // bufio says it once
	}
	if bytes.Equal(first, byteOrderMark) {
		_, _ = l.from.Discard(len(byteOrderMark))
	}
	return l, nil
}

// next reads the next line, whole if it has no more than MaxRecord bytes.
func (l *lines) next() (line []byte, whole bool, err error) {
	err = l.fill(MaxRecord)
	return l.line, l.ended, err
}

// more reads on: the next piece of the line at hand, or the next line.
func (l *lines) more() error { return l.fill(piece) }

// pass reads to the end of the line at hand.
func (l *lines) pass() error {
	for !l.ended {
		if err := l.more(); err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// unread puts text back, which is what was read last, from the beginning of line number on.
func (l *lines) unread(text []byte, number int) {
	if len(text) <= l.taken {
		l.taken -= len(text) // no copy: a text may be unread line by line
	} else {
		l.pushed, l.taken = append(bytes.Clone(text), l.pushed[l.taken:]...), 0
	}
	l.line, l.number, l.ended = l.line[:0], number-1, true
}

// fill reads some limit bytes of a line. It returns io.EOF only without any.
func (l *lines) fill(limit int) error {
	if l.ended {
		l.number++
	}
	l.line, l.ended = l.line[:0], false
	for !l.ended && len(l.line) < limit {
		if rest := l.pushed[l.taken:]; len(rest) > 0 {
			n := bytes.IndexByte(rest, '\n') + 1
			if l.ended = n > 0; !l.ended {
				n = len(rest)
			}
			l.line = append(l.line, rest[:n]...)
			l.taken += n
			continue
		}
		l.pushed, l.taken = nil, 0
		part, err := l.from.ReadSlice('\n')
		l.line = append(l.line, part...)
		switch err {
		case nil:
			l.ended = true
		case bufio.ErrBufferFull:
		case io.EOF:
			l.ended = true
			if len(l.line) == 0 {
				return io.EOF
			}
		default:
			return err
		}
	}
	return nil
}
