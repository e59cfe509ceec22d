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

	collecting bool
	tail       bool // what is collected is the rest of an envelope, behind its array
	outline    outline
	value      []byte // what is collected; never nil, as text that was reported is (see broken)
	line       int    // on which it begins
	lineIndent []byte // the blanks that this line begins with
}

// document reads on from the line at hand until what it begins has ended at the end of a
// line. The first settled elements of the array that the line begins are done with.
func (r *Reader) document(settled int) error {
	indent := indentOf(r.lines.line)
	d := &document{r: r, indent: indent, lineIndent: indent, index: -1, value: []byte{}}
	text := r.lines.line
	if settled > 0 {
		text = d.behind(settled, text)
	}
	for {
		stop, err := d.piece(text, indent)
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
		text = r.lines.line
	}
}

var arrayBegins = regexp.MustCompile(`^\s*(\{\s*(?i:"records")\s*:\s*)?\[`)

// behind enters the array of the message and returns what is behind its first n elements,
// cut where the Decoder cuts them, whether they are JSON or not.
func (d *document) behind(n int, message []byte) []byte {
	found := arrayBegins.FindSubmatchIndex(message)
	if found == nil {
		panic("BUG: records were decoded, and there is no array")
	}
	d.enterArray(found[2] >= 0)
	d.index = n
	rest := message[found[1]:]
	for i := range n {
		if i > 0 {
			rest = bytes.TrimLeft(rest, " \t\r\n")[1:] // the comma
		}
		rest = rest[valueEnd(rest):]
	}
	return rest
}

// valueEnd returns where the first value of the text ends by its strings and brackets alone,
// of whatever kind these are. It is empty where a comma or the array's end comes at once.
func valueEnd(text []byte) int {
	open, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case inString:
			if b == '\\' {
				i++
			} else if inString = b != '"'; !inString && open == 0 {
				return i + 1
			}
		case b == '"':
			inString = true
		case b == '{' || b == '[':
			open++
		case open == 0 && (b == ',' || b == ']' || b == '}'):
			return i
		case b == '}' || b == ']':
			if open--; open == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

func indentOf(line []byte) []byte {
	return bytes.Clone(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
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
	d.inArray, d.index = false, -1
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
	if d.tail {
		d.tail = false
		return
	}
	d.r.element(d.value, d.index, d.line)
	if d.inArray {
		d.index++
	}
}

// broken reports what was collected up to the line where reading goes on (see the package
// comment). rest is what follows in the piece at hand. It reports whether the document is
// over.
func (d *document) broken(reason string, rest []byte) (over bool, err error) {
	lines := d.r.lines
	d.collecting, d.tail = false, false
	text := append(d.value, rest...)
	for at := 0; ; {
		n := bytes.IndexByte(text[at:], '\n') + 1
		if at += n; n == 0 || at == len(text) {
			break
		}
		if d.resumes(text[at:]) {
			lines.unread(text[at:], d.line+bytes.Count(text[:at], []byte("\n")))
			return d.passed(reason, text[:at], text[at:]), nil
		}
	}
	if reason == ReasonTooLarge { // of it the beginning is enough
		d.report(reason, text)
		text = nil
		err = lines.pass()
		d.line = lines.number + 1
	}
	for err == nil {
		begins := lines.ended
		if begins && !d.inArray {
			return d.passed(reason, text, nil), nil
		}
		if len(text) >= MaxRecord {
			d.report(reason, text)
			text, d.line = nil, lines.number
			if begins {
				d.line++
			}
		}
		err = lines.more()
		if err == nil && begins && d.resumes(lines.line) {
			over = d.passed(reason, text, lines.line)
			lines.unread(lines.line, lines.number)
			return over, nil
		}
		if text != nil || len(bytes.TrimSpace(lines.line)) > 0 {
			text = append(text, lines.line...)
		}
	}
	d.passed(reason, text, nil)
	if err == io.EOF {
		err = nil
	}
	return true, err
}

// resumes reports whether the next record may begin with this line, which comes after one
// that is broken. Outside of arrays every line may be one. In an array what is indented more
// than the record was belongs to it.
func (d *document) resumes(line []byte) bool {
	if !d.inArray {
		return true
	}
	text := bytes.TrimLeft(line, " \t")
	return len(text) > 0 && opens(text[0]) && bytes.HasPrefix(d.lineIndent, line[:len(line)-len(text)])
}

// passed reports the text of a broken record, or what is left of it, if any. It reports whether the
// document is over, by the line where reading goes on: that is not known to be in the array
// where it is indented less than the record was, or as the document is.
func (d *document) passed(reason string, text, next []byte) (over bool) {
	if text != nil {
		d.report(reason, text)
	}
	if !d.inArray {
		return true
	}
	d.index++
	return bytes.Equal(d.lineIndent, d.indent) || !bytes.HasPrefix(next, d.lineIndent)
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
