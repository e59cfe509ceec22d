package signins

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Term is under which ownership of the input a sign-in was split. Of two terms of one group the one with the
// higher number began later, and whoever had the other one owns nothing any more: what arrives of it after
// a record of the later one is a copy of what the new owner has split, or will. Terms of two groups say nothing
// about each other. The zero Term is that of a record which carries none.
type Term struct {
	Group  uint32 // made by chance when a splitting group begins
	Number uint64 // grows from owner to owner
}

// Before reports whether t is of an owner who has been replaced by that of other.
func (t Term) Before(other Term) bool { return t.Group == other.Group && t.Number < other.Number }

// The fields of a term are written first, so that it is found without the others.
const (
	fieldTermGroup  protowire.Number = 30 // fixed, 4 bytes
	fieldTermNumber protowire.Number = 31 // varint
)

func appendTerm(dst []byte, t Term) []byte {
	if t == (Term{}) {
		return dst
	}
	dst = protowire.AppendFixed32(protowire.AppendTag(dst, fieldTermGroup, protowire.Fixed32Type), t.Group)
	return appendVarint(dst, fieldTermNumber, t.Number)
}

// TermOf returns the term in a value that Append wrote, the zero Term where there is none.
func TermOf(value []byte) (t Term) {
	body, err := bodyOf(value)
	if err != nil {
		return Term{}
	}
	number, kind, n := protowire.ConsumeTag(body)
	if n < 0 || number != fieldTermGroup || kind != protowire.Fixed32Type {
		return Term{}
	}
	body = body[n:]
	if t.Group, n = protowire.ConsumeFixed32(body); n < 0 {
		return Term{}
	}
	body = body[n:]
	number, kind, n = protowire.ConsumeTag(body)
	if n < 0 || number != fieldTermNumber || kind != protowire.VarintType {
		return Term{}
	}
	if t.Number, n = protowire.ConsumeVarint(body[n:]); n < 0 {
		return Term{}
	}
	return t
}
