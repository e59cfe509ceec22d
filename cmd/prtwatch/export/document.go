package export

import (
	"bytes"
	"io"
	"regexp"

	"github.com/prtwatch/prtwatch/stream/entra"
)

// document is JSON that is spread over lines, while it is read: one value, or several one
// after another.
type document struct {
	r      *Reader
	indent []byte // the blanks that its first line begins with

	inArray  bool // the elements of the outermost array, or of `records`, are read
	envelope bool // that array is `records`
	index    int  // of the next element, -1 outside of arrays
	drop     int  // elements that the visitor has been told of already

	collecting bool
	tail       bool // what is collected is the rest of an envelope, behind its array
	outline    outline
	value      []byte // what is collected
	line       int    // on which it begins
	lineIndent []byte // the blanks that this line begins with
}

// document reads on from the line at hand until what it begins has ended at the end of a
// line. Of its first array the first drop elements are not decoded.
func (r *Reader) document(drop int) error {
	indent := indentOf(r.lines.line)
	d := &document{r: r, indent: indent, lineIndent: indent, drop: drop, index: -1}
	for {
		stop, err := d.piece(r.lines.line, indent)
		if stop || err != nil {
			return err
		}
		fresh := r.lines.ended
		if fresh && !d.collecting && !d.inArray {
			return nil
		}
		if err := r.visit.Stop(); err != nil {
			return err
		}
		switch err := r.lines.more(); {
		case err == io.EOF:
			if over, err := d.cutOff(); over || err != nil {
				return err
			}
		case err != nil:
			return err
		case fresh:
			indent = indentOf(r.lines.line)
		}
	}
}

func indentOf(line []byte) []byte {
	return bytes.Clone(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

// beginsLike reports whether the line begins with the blanks and a bracket.
func beginsLike(line, indent []byte) bool {
	return len(line) > len(indent) && bytes.HasPrefix(line, indent) && opens(line[len(indent)])
}

// piece follows a line or a piece of one. It reports whether the document is over.
func (d *document) piece(text, indent []byte) (stop bool, err error) {
	for i := 0; i < len(text); {
		if !d.collecting {
			b := text[i]
			switch {
			case b == ' ' || b == '\t' || b == '\r' || b == '\n' || b == ',':
				i++
			case d.inArray && b == ']':
				i++
				d.leaveArray()
			case !d.inArray && b == '[':
				i++
				d.enterArray(false)
			case !d.inArray && b != '{':
				d.r.element(bytes.TrimSpace(text[i:]), -1, d.r.lines.number)
				i = len(text)
			default:
				d.collecting, d.line, d.lineIndent = true, d.r.lines.number, indent
				d.outline.reset()
				d.value = d.value[:0]
			}
			continue
		}
		n, s := d.collect(text[i:])
		i += n
		switch {
		case s == ends || s == ended:
			d.finish()
		case s == broken:
			return d.broken(entra.ReasonMalformed, text[i:])
		case len(d.value) > MaxRecord:
			return d.broken(ReasonTooLarge, text[i:])
		}
	}
	return false, nil
}

// collect takes bytes for the value until something is to be done about it, and returns how
// many. What it says last is within when the text is at its end.
func (d *document) collect(text []byte) (n int, s step) {
	text = text[:min(len(text), MaxRecord+1-min(len(d.value), MaxRecord))]
	for i, b := range text {
		if b == '[' && d.opensRecords(text[:i]) {
			d.enterArray(true)
			return i + 1, within
		}
		switch s := d.outline.take(b); s {
		case ends:
			d.value = append(d.value, text[:i+1]...)
			return i + 1, s
		case ended, broken:
			d.value = append(d.value, text[:i]...)
			return i, s
		}
	}
	d.value = append(d.value, text...)
	return len(text), within
}

var recordsKey = regexp.MustCompile(`^\{\s*(?i:"records")\s*:\s*$`)

// opensRecords reports whether the bracket that comes opens the array of an envelope.
func (d *document) opensRecords(text []byte) bool {
	o := &d.outline
	if d.inArray || d.tail || o.inString || o.last != ':' || len(o.open) != 1 || len(d.value)+len(text) > 100 {
		return false
	}
	return recordsKey.Match(append(d.value[:len(d.value):len(d.value)], text...))
}

func (d *document) enterArray(envelope bool) {
	d.inArray, d.envelope, d.collecting, d.index = true, envelope, false, 0
}

// leaveArray ends the array. Behind that of an envelope the rest of the object is collected,
// to be looked at by nobody.
func (d *document) leaveArray() {
	d.inArray, d.index, d.drop = false, -1, 0
	if !d.envelope {
		return
	}
	d.collecting, d.tail, d.line = true, true, d.r.lines.number
	d.outline = outline{open: append(d.outline.open[:0], '{'), last: ']'}
	d.value = d.value[:0]
}

// finish hands on what was collected.
func (d *document) finish() {
	d.collecting = false
	switch {
	case d.tail:
		d.tail = false
		return
	case d.drop > 0:
		d.drop--
	default:
		d.r.element(d.value, d.index, d.line)
	}
	if d.inArray {
		d.index++
	}
}

// broken reports what was collected, without what of it seems to be the next record, and
// goes on there (see the package comment). rest is what follows in the piece at hand. It
// reports whether the document is over.
func (d *document) broken(reason string, rest []byte) (over bool, err error) {
	lines := d.r.lines
	d.collecting, d.tail = false, false
	over = !d.inArray || bytes.Equal(d.lineIndent, d.indent)
	text := append(d.value, rest...)
	next := d.nextLike(text)
	d.report(reason, text[:next])
	if d.inArray {
		d.index++
	}
	if next < len(text) {
		lines.unread(text[next:], d.line+bytes.Count(text[:next], []byte("\n")))
		return over, nil
	}
	for {
		if err := lines.pass(); err != nil {
			return true, err
		}
		if err := lines.more(); err == io.EOF {
			return true, nil
		} else if err != nil {
			return true, err
		}
		if beginsLike(lines.line, d.lineIndent) {
			lines.unread(lines.line, lines.number)
			return over, nil
		}
	}
}

// nextLike returns where a line of the text, but its first, begins as the value's own line
// does, and the text's length where none does.
func (d *document) nextLike(text []byte) int {
	for at := 0; ; {
		n := bytes.IndexByte(text[at:], '\n')
		if n < 0 {
			return len(text)
		}
		if at += n + 1; beginsLike(text[at:], d.lineIndent) {
			return at
		}
	}
}

func (d *document) report(reason string, text []byte) {
	detail := "the JSON is broken, or does not end"
	if reason == ReasonTooLarge {
		detail = "the record is too large"
	}
	d.r.visit.Unreadable(Unreadable{
		entra.Unreadable{Record: d.index, Reason: reason, Detail: detail, Bytes: bytes.TrimSpace(text)}, d.line,
	})
}

// cutOff reports what the end of the file has cut off. It reports whether that was all:
// what was collected may hold more (see broken).
func (d *document) cutOff() (over bool, err error) {
	if d.collecting {
		return d.broken(entra.ReasonMalformed, nil)
	}
	d.line, d.index = d.r.lines.number, -1
	d.report(entra.ReasonMalformed, nil)
	return true, nil
}
