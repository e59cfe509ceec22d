// Package export reads the files of an export: what an Event Hubs consumer, the Azure CLI, jq
// or a person's editor left of it. It owns how messages lie in a file (a line each, or
// spread over lines), and opening gzip and zstd. What a message means is stream/entra's; it
// must never know what becomes of a sign-in.
//
// Start at Reader.Read.
//
// A line is nearly always a whole message, so it goes straight to the Decoder. One whose
// JSON does not end is the first of a document that is spread over lines. From there on
// outline.go follows the brackets, and hands each record of the document to the Decoder by
// itself: of a document of any size only one record is held.
//
// # Where JSON is broken
//
// A line that was cut off also does not end. So when brackets or strings turn out not to
// fit, the line on which the record began is reported as unreadable, and reading goes on
// with the next line, whatever it is: a file with a message a line loses one. In an array
// that is spread over lines, where most lines are no records, the lines that follow are
// reported with the broken one, up to the next that has a bracket where the record's line
// had it, or further left.
//
// Nothing is passed in silence: each byte is in a record that was read, or in exactly one
// that is reported, or is punctuation between records, as are an envelope's other keys. Only
// of what is too large the rest of the line is left out.
package export

import (
	"bytes"
	"io"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/stream/entra"
)

// MaxRecord bounds, in bytes, a line that is taken for a message, and a record in a document.
// Azure's messages are below 1 MiB; somebody's array of everything on one line is read as a
// document.
const MaxRecord = 16 << 20

// ReasonTooLarge is the reason of a record beyond MaxRecord. The others are stream/entra's.
const ReasonTooLarge = "too_large"

// Unreadable is a record that could not be read, and the line on which it, or the message
// that it is in, begins; from 1.
type Unreadable struct {
	entra.Unreadable
	Line int
}

// Visitor is told what a file holds, in its order. Nothing that it is given outlives the
// call (see entra.Decoder.Decode).
type Visitor struct {
	SignIn     func(*detector.SignIn)
	Unreadable func(Unreadable)
	// Skipped is told how many records were of another category.
	Skipped func(int)
	// Stop ends the reading with its error; it is asked after each message.
	Stop func() error
}

// Reader reads files, one after another.
type Reader struct {
	decoder *entra.Decoder
	visit   Visitor

	lines    *lines
	pending  []entra.Unreadable // of the line that is decoded
	settled  int                // records of that line that the visitor was told of
	complain func(entra.Unreadable)
	tell     func(*detector.SignIn)
}

// NewReader returns a Reader that tells visit.
func NewReader(visit Visitor) *Reader {
	r := &Reader{decoder: entra.NewDecoder(), visit: visit}
	r.complain = func(u entra.Unreadable) { r.pending = append(r.pending, u) }
	r.tell = func(s *detector.SignIn) {
		r.settled++
		r.flush() // in the order of the message
		r.visit.SignIn(s)
	}
	return r
}

// Read reads a file to its end, or until the visitor's Stop says so.
func (r *Reader) Read(file io.Reader) error {
	lines, err := newLines(file)
	if err != nil {
		return err
	}
	r.lines = lines
	for {
		line, whole, err := r.lines.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.visit.Stop(); err != nil {
			return err
		}
		text := bytes.TrimSpace(line)
		switch {
		case len(text) == 0:
		case !whole && !opens(text[0]):
			err = r.tooLarge()
		case !whole:
			err = r.document(0)
		default:
			if r.message(text) {
				err = r.document(r.settled)
			}
		}
		if err != nil {
			return err
		}
	}
}

func opens(b byte) bool { return b == '{' || b == '[' }

// message decodes a line. It reports whether the JSON of it does not end, so that it may
// begin a document; then its last complaint is dropped, and settled is how many records of
// it are done with.
func (r *Reader) message(text []byte) (unfinished bool) {
	r.settled, r.pending = 0, r.pending[:0]
	skipped := r.decoder.Decode(text, r.tell, r.complain)
	r.visit.Skipped(skipped)
	r.settled += skipped
	if n := len(r.pending); n > 0 && opens(text[0]) {
		last := r.pending[n-1]
		// Where `records` is followed by a line break, it is no array yet.
		unfinished = last.Record < 0 && last.Reason != entra.ReasonTooDeep ||
			last.Reason == entra.ReasonMalformed && endsWith(text, last.Bytes)
		if unfinished {
			r.pending = r.pending[:n-1]
		}
	}
	r.flush()
	return unfinished
}

// flush tells the visitor of the complaints.
func (r *Reader) flush() {
	for _, u := range r.pending {
		r.settled++
		r.visit.Unreadable(Unreadable{u, r.lines.number})
	}
	r.pending = r.pending[:0]
}

// endsWith reports whether part is the end of text, in the same memory.
func endsWith(text, part []byte) bool {
	part = bytes.TrimRight(part, " \t\r\n")
	return len(part) > 0 && len(part) <= len(text) && &text[len(text)-1] == &part[len(part)-1]
}

// tooLarge reports a line that is neither whole nor a document, and passes it.
func (r *Reader) tooLarge() error {
	r.visit.Unreadable(Unreadable{entra.Unreadable{
		Record: -1, Reason: ReasonTooLarge, Detail: "the line is no JSON and too long", Bytes: r.lines.line,
	}, r.lines.number})
	return r.lines.pass()
}

// element decodes one record of a document, which stands alone: whatever is wrong with it
// now is final.
func (r *Reader) element(text []byte, index, line int) {
	skipped := r.decoder.Decode(text, r.visit.SignIn, func(u entra.Unreadable) {
		if u.Record <= 0 && index >= 0 {
			u.Record = index
		}
		r.visit.Unreadable(Unreadable{u, line})
	})
	r.visit.Skipped(skipped)
}
