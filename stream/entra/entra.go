// Package entra turns the bytes of either Azure export into sign-ins: diagnostic settings
// (camel case, nested) and Log Analytics export (Pascal case, flat). It owns both shapes,
// the envelope around them, their time formats and their oddities. It knows nothing of
// Kafka and decides nothing. Start at Decoder.Decode, then record.go.
//
// One way leads through its files: walk.go reads a record in one pass, if it is as Azure writes them,
// with what members.go remembers of those before; else split.go cuts its bytes out of the message and
// record.go has the JSON library decode them, or say why not. Either way record.go projects it, and
// value.go reads the single values whose type or form varies. Each record is decoded alone into one
// struct that is cleared first, so that a bad record cannot take its neighbours with it, none can
// leave anything behind for the next, and a message of a million tiny records costs no more memory
// than one large one.
package entra

import (
	"github.com/prtwatch/prtwatch/detector"
)

// Decoder decodes messages; NewDecoder makes one. It may be reused, by one goroutine at a time, and
// must not be copied. Between calls it keeps a buffer of at most maxKept bytes, and what it has
// remembered of records: maxRemembered bytes, and what one record may add to that.
type Decoder struct {
	doc    document
	signIn detector.SignIn
	inner  struct {
		device   device
		location location
	}
	// wanted is what a walker fills: fields of doc and inner; remembered is how many bytes were
	// remembered in there since they were forgotten last.
	wanted     struct{ document, record, device, location *members }
	remembered int

	index int    // of the record in hand
	texts []byte // of the record in hand that had escapes
	// managed and compliant are what SignIn.DeviceManaged and DeviceCompliant point at.
	managed, compliant bool
	libraryOnly        bool // no walker: what a test compares with
}

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder {
	d := new(Decoder)
	d.wanted.document, d.wanted.record = membersOf(&d.doc), membersOf(&d.doc.record)
	d.wanted.device, d.wanted.location = membersOf(&d.inner.device), membersOf(&d.inner.location)
	return d
}

// Unreadable is a record, or a whole message, that could not be decoded.
type Unreadable struct {
	Record int    // index in the message; -1 when it is the envelope that is unreadable
	Reason string // one of the Reason constants, fit for a metric label
	Detail string // what exactly, for a person; without the content of fields
	// Bytes are the record's, or the message's where Record is -1. They are part of the
	// message, valid while that is unchanged (or of a copy that nobody writes to).
	Bytes []byte
}

// Error makes an Unreadable printable as one line.
func (u Unreadable) Error() string { return u.Reason + ": " + u.Detail }

// The reasons, all there are. They are values of a metric label and of the dead letters'
// header `reason`: none is ever renamed.
const (
	ReasonEmpty     = "empty"          // no value: nil, only white space, or JSON null
	ReasonMalformed = "malformed_json" // not JSON, or cut off
	ReasonTooDeep   = "too_deep"       // nested deeper than maxDepth
	ReasonNotRecord = "not_a_record"   // JSON, but no object where a record belongs, or no array under `records`
	ReasonWrongType = "wrong_type"     // a field that is needed has another JSON type than it can have
	ReasonNoID      = "missing_id"     // no sign-in id
	ReasonNoTime    = "missing_time"   // no time / TimeGenerated
	ReasonBadTime   = "bad_time"       // a time in none of the known forms, or outside of 1970 to 2262
	ReasonTooLong   = "too_long"       // id, UPN or object id beyond detector.MaxID bytes
)

// Reasons lists every reason, so that a metric can start each at zero.
func Reasons() []string {
	return []string{
		ReasonEmpty, ReasonMalformed, ReasonTooDeep, ReasonNotRecord, ReasonWrongType,
		ReasonNoID, ReasonNoTime, ReasonBadTime, ReasonTooLong,
	}
}

// Decode calls signIn for each non-interactive sign-in of the message and unreadable for
// each record that cannot be read, both in the order of the message. It returns how many
// records of other categories it skipped.
//
// NOTHING OUTLIVES THE CALL: the *SignIn is used again for the next record, and its texts
// are not copies: they point into message, or into a buffer of the decoder. They are valid
// only during the call of signIn and while message is unchanged. Whoever keeps one clones
// it (strings.Clone). The splitter encodes a sign-in at once and replay judges it at once,
// so neither pays for copies.
//
// A message is {"records": [...]}, a bare array, or one bare record; shapes may be mixed. A
// UTF-8 byte order mark before it is ignored. A record that is broken but whose brackets
// balance is reported alone; one that never ends is reported with the rest of the message,
// and the records before it stand. Where something is wrong with the envelope after records
// were read, they stand too, and the message is reported once, with Record -1.
//
// As in encoding/json, keys match in any case, the last of several equal keys wins, a null
// is an absent value (a null after a value of the same key leaves that value), and bytes
// that are not UTF-8 become U+FFFD.
func (d *Decoder) Decode(message []byte, signIn func(*detector.SignIn), unreadable func(Unreadable)) (skipped int) {
	d.index = 0
	c := call{d: d, message: message, signIn: signIn, unreadable: unreadable}
	c.decode()
	d.reset() // the message is the caller's again
	d.signIn = detector.SignIn{}
	return c.skipped
}

// Record returns the index in the message of the record whose sign-in Decode is handing on. All records before it
// count, those too that were skipped or cannot be read.
func (d *Decoder) Record() int { return d.index }

// call is one call of Decode.
type call struct {
	d          *Decoder
	message    []byte
	signIn     func(*detector.SignIn)
	unreadable func(Unreadable)
	skipped    int
}

func (c *call) envelopeUnreadable(reason, detail string) {
	c.unreadable(Unreadable{Record: -1, Reason: reason, Detail: detail, Bytes: c.message})
}

// decode finds out which envelope the message has.
func (c *call) decode() {
	s := newScanner(c.message)
	first := s.peek()
	if s.atEnd() {
		c.envelopeUnreadable(ReasonEmpty, "the message has no value")
		return
	}
	switch first {
	case '[':
		if c.array(&s) && !s.atEnd() {
			c.envelopeUnreadable(ReasonMalformed, "more follows after the array of records")
		}
	case '{':
		if s.enterRecords() {
			c.envelope(&s)
			return
		}
		c.bare(s.rest())
	case 'n':
		if string(s.rest()) == "null" {
			c.envelopeUnreadable(ReasonEmpty, "the message is null")
			return
		}
		c.envelopeUnreadable(ReasonMalformed, "the message is not JSON")
	default:
		// Not told apart from plain text, which is what arrives where a hub is shared.
		c.envelopeUnreadable(ReasonNotRecord, "the message is neither an object nor an array")
	}
}

const noArray = "`records` is no array"

// envelope reads {"records": ...} from the value of that key on, the first of the object.
func (c *call) envelope(s *scanner) {
	if s.peek() != '[' {
		c.envelopeUnreadable(ReasonNotRecord, noArray)
		return
	}
	if c.array(s) && !s.endsObject() {
		c.envelopeUnreadable(ReasonMalformed, "the envelope does not end after `records`")
	}
}

// bare reads an object that does not begin with the key `records`: one record, or an
// envelope that has other keys first.
func (c *call) bare(object []byte) {
	var (
		out outcome
		u   Unreadable
	)
	if end, ok := c.d.walk(object, 0, c.d.wanted.document); ok && end == len(object) {
		out, u = c.d.decoded()
	} else if depthOf(object) > maxDepth {
		c.envelopeUnreadable(ReasonTooDeep, "nested too deep")
		return
	} else if out, u = c.d.decodeRecord(object, &c.d.doc); u.Reason == ReasonMalformed {
		c.envelopeUnreadable(u.Reason, u.Detail)
		return
	}
	records := c.d.doc.Records
	if len(records) == 0 {
		c.deliver(object, out, u)
		return
	}
	c.d.doc.Records = nil // the decoder's no more: it is read while records are decoded
	s := newScanner(records)
	if s.peek() != '[' {
		c.envelopeUnreadable(ReasonNotRecord, noArray)
		return
	}
	c.array(&s)
}

// array reads the records of the array that begins at s. It reports whether the array came
// to its end; when it did not, that has been reported.
func (c *call) array(s *scanner) bool {
	s.pos++ // the bracket
	if s.peek() == ']' {
		s.pos++
		return true
	}
	for {
		if s.atEnd() {
			c.envelopeUnreadable(ReasonMalformed, "the array of records does not end")
			return false
		}
		if end, ok := c.d.walk(s.data, s.pos, c.d.wanted.record); ok {
			raw := s.data[s.pos:end]
			s.pos = end
			out, u := c.d.decoded()
			c.deliver(raw, out, u)
		} else {
			raw, depth, ok := s.value()
			if !ok {
				c.unreadable(Unreadable{c.d.index, ReasonMalformed, "the record does not end", raw})
				c.d.index++
				return false
			}
			c.element(raw, depth)
		}
		switch s.peek() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return true
		default:
			c.envelopeUnreadable(ReasonMalformed, "no comma or bracket after a record")
			return false
		}
	}
}

// element decodes one element of an array of records.
func (c *call) element(raw []byte, depth int) {
	var (
		out outcome
		u   Unreadable
	)
	switch {
	case len(raw) == 0:
		u.Reason, u.Detail = ReasonMalformed, "no value where a record belongs"
	case depth > maxDepth:
		u.Reason, u.Detail = ReasonTooDeep, "nested too deep"
	case raw[0] != '{':
		u.Reason, u.Detail = ReasonNotRecord, "the record is no object"
	default:
		out, u = c.d.decodeRecord(raw, &c.d.doc.record)
	}
	c.deliver(raw, out, u)
}

// deliver hands on what became of the record with the next index.
func (c *call) deliver(raw []byte, out outcome, u Unreadable) {
	switch {
	case u.Reason != "":
		u.Record, u.Bytes = c.d.index, raw
		c.unreadable(u)
	case out == otherCategory:
		c.skipped++
	default:
		c.signIn(&c.d.signIn)
	}
	c.d.index++
}
