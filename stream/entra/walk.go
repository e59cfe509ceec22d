package entra

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
)

// walker reads JSON in one pass: it fills what is wanted, walks over the rest, and holds all of
// it to the grammar. It knows nothing of errors. Whatever is not as Azure writes it (what is not JSON, a
// value of another type than is wanted, a key with an escape or that comes twice) it declines, and
// the JSON library decides. So all that it has to be right about is what it accepts, and that is
// the library's answer (TestWalkerAgreesWithTheLibrary, FuzzDecode).
//
// It is here for its speed: decoding is nearly half of what a sign-in costs, and the library copies
// what it is given, is given each record after it was cut out, and is called again for texts that hold
// JSON (BenchmarkDecode; BenchmarkLibraryAlone is one call of the library for a whole message).
type walker struct {
	scanner
	d *Decoder // whose memory texts with escapes are written to
}

// object reads the object at w into m's targets. It may be nested as deep as room, itself counted.
func (w *walker) object(m *members, room int) bool {
	if room < 1 || w.peek() != '{' {
		return false
	}
	w.pos++
	if w.peek() == '}' {
		w.pos++
		return true
	}
	var seen uint64 // by index of the name
	for next := 0; ; {
		if w.peek() != '"' {
			return false
		}
		i, k, ok := w.member(m, &next)
		if !ok {
			return false
		}
		if i < 0 {
			ok = w.pass(k, room-1)
		} else {
			bit := uint64(1) << i
			ok = seen&bit == 0 && w.into(&m.targets[i], room-1)
			seen |= bit
		}
		if !ok {
			return false
		}
		switch w.peek() {
		case ',':
			w.pos++
		case '}':
			w.pos++
			return true
		default:
			return false
		}
	}
}

// member moves behind the key at w and its colon. It returns the index of its name, -1 where nobody
// wants it, and what is remembered of it, if anything. Most often it is the key that followed in the
// record before; next is its place there.
func (w *walker) member(m *members, next *int) (i int, k *key, ok bool) {
	rest := w.data[w.pos:]
	for n := *next; n < min(*next+ahead, len(m.order)); n++ {
		if k := m.order[n]; bytes.HasPrefix(rest, k.text) {
			w.pos += len(k.text)
			*next = n + 1
			return k.index, k, true
		}
	}
	start := w.pos
	strange, ok := w.text()
	if !ok || strange {
		return -1, nil, false
	}
	i = m.find(w.data[start+1 : w.pos-1])
	if w.peek() != ':' {
		return -1, nil, false
	}
	w.pos++
	// What is not remembered has no place, so that whatever comes next keeps its own.
	if text := w.data[start:w.pos]; len(text) <= maxKeyBytes && *next < maxKeys {
		k = &key{text: bytes.Clone(text), index: i}
		if len(m.order) == maxKeys { // strange records bring ever others
			m.order = slices.Delete(m.order, *next, maxKeys)
		}
		m.order = slices.Insert(m.order, *next, k)
		*next++
		w.d.remembered += keyBytes + len(text)
	}
	return i, k, true
}

// into reads the value at w into t.
func (w *walker) into(t *target, room int) bool {
	c := w.peek()
	start := w.pos
	switch {
	case t.raw != nil:
		if !w.skip(room) {
			return false
		}
		*t.raw = w.data[start:w.pos:w.pos]
		return true
	case c == 'n':
		return w.word("null")
	case t.object != nil:
		return w.object(t.object, room)
	case c != '"':
		return false
	}
	strange, ok := w.text()
	switch {
	case !ok:
	case strange:
		*t.text, ok = w.d.unquote(w.data[start:w.pos])
	default:
		*t.text = alias(w.data[start+1 : w.pos-1])
	}
	return ok
}

// pass moves behind the value of k, which nobody wants.
func (w *walker) pass(k *key, room int) bool {
	if c := w.peek(); c != '[' && c != '{' || k == nil {
		return w.skip(room)
	}
	start := w.pos
	for _, v := range k.passed {
		if len(v) > 0 && bytes.HasPrefix(w.data[start:], v) {
			w.pos += len(v)
			return true
		}
	}
	if !w.skip(room) {
		return false
	}
	if n := w.pos - start; leastPassed <= n && n <= mostPassed {
		k.passed[k.next] = append(k.passed[k.next][:0], w.data[start:w.pos]...)
		k.next = (k.next + 1) % len(k.passed)
		w.d.remembered += n
	}
	return true
}

// skip moves behind the value at w. Nothing in it may be nested deeper than room, which is at most
// the bits of a word.
func (w *walker) skip(room int) bool {
	var objects uint64 // a bit for each open bracket, the innermost lowest: set for an object's
	for depth := 0; ; {
		var ok bool
		switch c := w.peek(); c {
		case '"':
			_, ok = w.text()
		case '{', '[':
			w.pos++
			depth++
			objects <<= 1
			if depth > room {
				return false
			}
			if c == '{' {
				objects |= 1
			}
			if w.peek() != c+2 { // the bracket that closes it
				if c == '{' && !w.anyKey() {
					return false
				}
				continue
			}
			ok = true // closed below
		case 't':
			ok = w.word("true")
		case 'f':
			ok = w.word("false")
		case 'n':
			ok = w.word("null")
		default:
			ok = w.number()
		}
		if !ok {
			return false
		}
		for more := false; !more; {
			if depth == 0 {
				return true
			}
			closing := byte(']')
			if objects&1 != 0 {
				closing = '}'
			}
			switch w.peek() {
			case ',':
				w.pos++
				if more = true; objects&1 != 0 && !w.anyKey() {
					return false
				}
			case closing:
				w.pos++
				depth--
				objects >>= 1
			default:
				return false
			}
		}
	}
}

// anyKey moves behind a key and its colon.
func (w *walker) anyKey() bool {
	if w.peek() != '"' {
		return false
	}
	if _, ok := w.text(); !ok || w.peek() != ':' {
		return false
	}
	w.pos++
	return true
}

// text moves behind the string at w. It is strange if its bytes are not its text: there are
// escapes, or bytes that may not be UTF-8.
func (w *walker) text() (strange, ok bool) {
	var seen uint64
	data, i := w.data, w.pos+1
	for len(data)-i >= 8 {
		word := binary.LittleEndian.Uint64(data[i:])
		found := (below(word^eachByte*'"', 1) | below(word^eachByte*'\\', 1) | below(word, ' ')) & highBits
		if found == 0 {
			seen |= word
			i += 8
			continue
		}
		n := bits.TrailingZeros64(found) / 8
		seen |= word & (1<<(8*n) - 1)
		if i += n; data[i] == '"' {
			w.pos = i + 1
			return strange || seen&highBits != 0, true
		}
		if strange = true; !w.escape(&i) {
			return true, false
		}
	}
	for i < len(data) {
		switch b := data[i]; {
		case b == '"':
			w.pos = i + 1
			return strange || seen&highBits != 0, true
		case b < ' ' || b == '\\':
			if strange = true; !w.escape(&i) {
				return true, false
			}
		default:
			seen |= uint64(b)
			i++
		}
	}
	return false, false
}

// escape moves *i behind the escape there, if it is one.
func (w *walker) escape(i *int) bool {
	rest := w.data[*i:]
	if len(rest) < 2 || rest[0] != '\\' {
		return false
	}
	switch rest[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		*i += 2
		return true
	case 'u':
		if len(rest) < 6 {
			return false
		}
		for _, b := range rest[2:6] {
			if !('0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'f') {
				return false
			}
		}
		*i += 6
		return true
	}
	return false
}

// word moves behind a literal.
func (w *walker) word(literal string) bool {
	end := w.pos + len(literal)
	if end > len(w.data) || string(w.data[w.pos:end]) != literal {
		return false
	}
	w.pos = end
	return true
}

// number moves behind a number.
func (w *walker) number() bool {
	if w.at() == '-' {
		w.pos++
	}
	switch first := w.at(); {
	case first == '0':
		w.pos++
	case !w.digits():
		return false
	}
	if w.at() == '.' {
		w.pos++
		if !w.digits() {
			return false
		}
	}
	if w.at()|0x20 == 'e' {
		w.pos++
		if sign := w.at(); sign == '+' || sign == '-' {
			w.pos++
		}
		return w.digits()
	}
	return true
}

// at returns the byte at w, 0 at the end.
func (w *walker) at() byte {
	if w.pos == len(w.data) {
		return 0
	}
	return w.data[w.pos]
}

// digits moves behind at least one digit.
func (w *walker) digits() bool {
	start := w.pos
	for b := w.at(); '0' <= b && b <= '9'; b = w.at() {
		w.pos++
	}
	return w.pos > start
}
