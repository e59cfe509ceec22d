package entra

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// maxDepth is how deep a record may be nested. Real ones are 5 deep; the bound is there so
// that no bytes, whatever they are, decide how deep a decoder goes.
const maxDepth = 64

// scanner walks over a message and cuts values out of it. It looks at strings and brackets
// only: that is enough to find where a value ends, and leaves it to the decoder to say
// whether the value is JSON, so that one broken record is one broken record.
type scanner struct {
	data []byte
	pos  int
}

var byteOrderMark = []byte("\xef\xbb\xbf")

func newScanner(message []byte) scanner {
	return scanner{data: bytes.TrimPrefix(message, byteOrderMark)}
}

// peek skips white space and returns the byte there, or 0 at the end, where atEnd tells it
// from a 0 in the message.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		b := s.data[s.pos]
		if b > ' ' || b != ' ' && b != '\n' && b != '\t' && b != '\r' {
			return b
		}
		s.pos++
	}
	return 0
}

// atEnd reports whether nothing but white space is left.
func (s *scanner) atEnd() bool {
	s.peek()
	return s.pos == len(s.data)
}

// rest returns what is left, without white space around it.
func (s *scanner) rest() []byte {
	return bytes.Trim(s.data[s.pos:], " \t\n\r")
}

var recordsKey = []byte(`"records"`)

// enterRecords moves behind the colon when the object at s begins with the key `records`,
// as every envelope that Azure writes does.
func (s *scanner) enterRecords() bool {
	t := *s
	t.pos++
	t.peek()
	if len(t.data)-t.pos < len(recordsKey) || !bytes.EqualFold(t.data[t.pos:t.pos+len(recordsKey)], recordsKey) {
		return false
	}
	t.pos += len(recordsKey)
	if t.peek() != ':' {
		return false
	}
	t.pos++
	*s = t
	return true
}

// endsObject reports whether the rest is the end of an object whose last read value lies
// before s: further members, which it only walks over, and the bracket.
func (s *scanner) endsObject() bool {
	for s.peek() == ',' {
		s.pos++
		if s.peek() != '"' {
			return false
		}
		if _, _, ok := s.value(); !ok || s.peek() != ':' {
			return false
		}
		s.pos++
		if raw, _, ok := s.value(); !ok || len(raw) == 0 {
			return false
		}
	}
	if s.peek() != '}' {
		return false
	}
	s.pos++
	return s.atEnd()
}

// What a byte outside of strings means for where a value ends.
const (
	plain = iota
	quote
	opens
	closes
	comma
)

var classes = [256]byte{'"': quote, '{': opens, '[': opens, '}': closes, ']': closes, ',': comma}

// value moves behind the value at s and returns its bytes, without white space around it,
// and how deep it is nested. ok is false when it does not end; then the bytes are the rest.
func (s *scanner) value() (raw []byte, depth int, ok bool) {
	s.peek()
	data, start, i, open := s.data, s.pos, s.pos, 0
scan:
	for ; i < len(data); i++ {
		switch classes[data[i]] {
		case quote:
			if i = endOfString(data, i); i < 0 {
				s.pos = len(data)
				return s.data[start:], depth, false
			}
			if open == 0 {
				i++
				break scan
			}
		case opens:
			open++
			depth = max(depth, open)
		case closes:
			if open--; open == 0 {
				i++
				break scan
			}
			if open < 0 { // the bracket is that of the array around
				break scan
			}
		case comma:
			if open == 0 {
				break scan
			}
		}
	}
	s.pos = i
	return bytes.TrimRight(data[start:i], " \t\n\r"), depth, i < len(data) || open == 0 && i > start
}

// endOfString returns the position of the quote that ends the string which begins at start,
// or -1. It looks at eight bytes at once: most strings are short, and what it takes to call
// bytes.IndexByte for each was more than the decoding of the record (BenchmarkSplit).
func endOfString(data []byte, start int) int {
	for i := start + 1; i < len(data); {
		if len(data)-i >= 8 {
			word := binary.LittleEndian.Uint64(data[i:])
			found := (below(word^eachByte*'"', 1) | below(word^eachByte*'\\', 1)) & highBits
			if found == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(found) / 8
		}
		switch data[i] {
		case '"':
			return i
		case '\\':
			i += 2
		default:
			i++
		}
	}
	return -1
}

const (
	eachByte = 0x0101010101010101 // times a byte is a word of that byte
	highBits = eachByte * 0x80    // of each byte of a word
)

// below finds the lowest byte of a word that is less than n, which is at most 128: of the highBits,
// the lowest that is set is that byte's. The other bits mean nothing.
func below(word uint64, n byte) uint64 { return (word - eachByte*uint64(n)) &^ word }

// depthOf returns how deep the brackets outside of strings are nested.
func depthOf(data []byte) int {
	s := scanner{data: data}
	_, depth, _ := s.value()
	return depth
}
