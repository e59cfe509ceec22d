package export

// outline follows the brackets and strings of one JSON value, as much as tells where it
// ends and, early, that what comes cannot belong to it. Whether it is JSON the Decoder says.
type outline struct {
	open     []byte // the brackets that are open
	last     byte   // the last byte outside of strings and blanks; quote and word for those
	inString bool
	escaped  bool
}

// What outline.last is for what has more than one byte.
const (
	quote = '"'
	word  = 'a' // a number, true, false or null
)

// maxOpen is how many brackets may be open, beyond what stream/entra takes for a record.
const maxOpen = 100

// step is what a byte means for a value.
type step uint8

const (
	within step = iota
	ends        // the value ends with this byte
	ended       // it had ended before this byte
	broken      // the byte cannot be where it is
)

func (o *outline) reset() { *o = outline{open: o.open[:0]} }

func (o *outline) top() byte {
	if len(o.open) == 0 {
		return 0
	}
	return o.open[len(o.open)-1]
}

// take follows one byte.
func (o *outline) take(b byte) step {
	if o.inString {
		return o.takeInString(b)
	}
	switch b {
	case ' ', '\t', '\r', '\n':
		if o.last == word && len(o.open) == 0 {
			return ended
		}
		return within
	case '{', '[':
		if !o.valueMayBegin() || len(o.open) == maxOpen {
			return broken
		}
		o.open = append(o.open, b)
	case '}', ']':
		if o.last == word && len(o.open) == 0 {
			return ended
		}
		if o.top() != b-2 || o.last == ',' || o.last == ':' { // in ASCII each pair is two apart
			return broken
		}
		o.open = o.open[:len(o.open)-1]
		o.last = b
		if len(o.open) == 0 {
			return ends
		}
		return within
	case ',':
		if o.last == word && len(o.open) == 0 {
			return ended
		}
		if !o.valueEnded() {
			return broken
		}
	case ':':
		if o.last != quote || o.top() != '{' {
			return broken
		}
	case quote:
		if o.valueEnded() {
			return broken
		}
		o.inString = true
	default:
		if o.last != word && !o.valueMayBegin() {
			return broken
		}
		b = word
	}
	o.last = b
	return within
}

// takeInString follows one byte of a string, which has no line break in it.
func (o *outline) takeInString(b byte) step {
	switch {
	case o.escaped:
		o.escaped = false
	case b == '\\':
		o.escaped = true
	case b == '\n':
		return broken
	case b == quote:
		o.inString = false
		if len(o.open) == 0 {
			return ends
		}
	}
	return within
}

// valueMayBegin reports whether a value that is no string may begin here: not where a key
// belongs.
func (o *outline) valueMayBegin() bool {
	switch o.last {
	case 0, ':', '[':
		return true
	case ',':
		return o.top() == '['
	}
	return false
}

func (o *outline) valueEnded() bool {
	switch o.last {
	case quote, word, '}', ']':
		return true
	}
	return false
}
