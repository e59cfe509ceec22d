package entra

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	gojson "github.com/goccy/go-json"
)

// The forms of a time beside RFC 3339: without a zone it is UTC, and some diagnostic settings
// write the American form (elastic/integrations#15976).
var otherForms = [...]string{"2006-01-02T15:04:05", "1/2/2006 3:04:05 PM"}

// Unix seconds of the first time that is accepted, and of the first that is not: nanoseconds
// since 1970 must fit into 63 bits, for that is how a sign-in travels.
const (
	firstSecond = 0
	endSecond   = math.MaxInt64 / 1_000_000_000
)

// parseTime reads any of the forms, in UTC.
func parseTime(text string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, text)
	for _, form := range otherForms {
		if err == nil {
			break
		}
		t, err = time.Parse(form, text)
	}
	if err != nil || t.Unix() < firstSecond || t.Unix() >= endSecond {
		return time.Time{}, false
	}
	return t.UTC(), true
}

// absent reports whether there was no value: no key, or null.
func absent(raw json.RawMessage) bool { return len(raw) == 0 || raw[0] == 'n' }

// scalar returns a text as it is and a number as decimal text; an absent value is "". A whole
// number is written without fraction and exponent, as Sentinel would; what is beyond the
// whole numbers that a double holds stays as it came.
func (d *Decoder) scalar(raw json.RawMessage) (text string, ok bool) {
	if absent(raw) {
		return "", true
	}
	switch c := raw[0]; {
	case c == '"':
		return d.unquote(raw)
	case c == '-' || '0' <= c && c <= '9':
		text = alias(raw)
		if strings.ContainsAny(text, ".eE-") {
			if f, err := strconv.ParseFloat(text, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
				return strconv.FormatInt(int64(f), 10), true
			}
		}
		return text, true
	}
	return "", false
}

// boolean reads true, false, and the same as texts in any case.
func boolean(raw json.RawMessage) (value, ok bool) {
	word := bytes.Trim(raw, `"`)
	value = bytes.EqualFold(word, []byte("true"))
	return value, value || bytes.EqualFold(word, []byte("false"))
}

func isTrue(raw json.RawMessage) bool {
	value, _ := boolean(raw)
	return value
}

// alias returns the bytes as a string that is valid as long as they are unchanged.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// unquote returns the text of a JSON string.
func (d *Decoder) unquote(raw json.RawMessage) (string, bool) {
	if !d.libraryOnly {
		if text, ok := d.unescape(raw[1 : len(raw)-1]); ok {
			return text, true
		}
	}
	var text string
	err := gojson.UnmarshalWithOption(raw, &text, gojson.DecodeNoCopyString())
	return text, err == nil
}

// simpleEscapes are the bytes that an escape of one letter stands for.
var simpleEscapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape returns what stands between the quotes of a JSON string as its text, if that takes no
// more than resolving escapes of one letter.
func (d *Decoder) unescape(quoted []byte) (string, bool) {
	if !utf8.Valid(quoted) {
		return "", false
	}
	at := bytes.IndexByte(quoted, '\\')
	if at < 0 {
		return alias(quoted), true
	}
	start := len(d.texts)
	for at >= 0 && at+1 < len(quoted) {
		letter := simpleEscapes[quoted[at+1]]
		if letter == 0 {
			return "", false
		}
		d.texts = append(append(d.texts, quoted[:at]...), letter)
		quoted = quoted[at+2:]
		at = bytes.IndexByte(quoted, '\\')
	}
	d.texts = append(d.texts, quoted...)
	return alias(d.texts[start:]), true
}

// innerJSON returns a value that is an object or an array in diagnostic records, and in the
// table a text that holds one; absent, it is nil.
func (d *Decoder) innerJSON(raw json.RawMessage) []byte {
	if absent(raw) {
		return nil
	}
	if raw[0] != '"' {
		return raw
	}
	text, _ := d.unquote(raw)
	return unsafe.Slice(unsafe.StringData(text), len(text))
}

// inside reads an object, or one that a text holds, into v, to which the targets of m belong. That it
// cannot be read is no reason to lose a sign-in: then it reports false, and v holds nothing that
// anyone may use. A field of a wrong type is left out and the others stay.
func (d *Decoder) inside(raw json.RawMessage, v any, m *members) bool {
	inner := bytes.TrimSpace(d.innerJSON(raw))
	if len(inner) <= len("{}") || inner[0] != '{' {
		return false
	}
	w := walker{scanner{data: inner}, d}
	if !d.libraryOnly && w.object(m, maxDepth) && w.pos == len(inner) {
		return true
	}
	d.inner.device, d.inner.location = device{}, location{} // what the walker left
	if depthOf(inner) > maxDepth {
		return false
	}
	if err := gojson.UnmarshalWithOption(inner, v, gojson.DecodeNoCopyString()); err != nil {
		var wrongType *gojson.UnmarshalTypeError
		return errors.As(err, &wrongType)
	}
	return true
}
