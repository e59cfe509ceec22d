// Package entra turns the bytes of either Azure export into sign-ins: diagnostic settings
// (camel case, nested) and Log Analytics export (Pascal case, flat). It owns both shapes,
// the envelope around them, their time formats and their oddities. It knows nothing of
// Kafka and decides nothing. Start at Decoder.Decode.
package entra

import "github.com/prtwatch/prtwatch/detector"

// Decoder decodes messages. It may be reused, by one goroutine at a time.
type Decoder struct{}

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder { panic("stub") }

// Unreadable is a record, or a whole message, that could not be decoded.
type Unreadable struct {
	Record int    // index in the message; -1 when it is the envelope that is unreadable
	Reason string // one of a small fixed set of snake_case words, fit for a metric label
	Detail string // what exactly, for a person; without the content of fields
	Bytes  []byte // the record's bytes, or the message's; valid until the message is reused
}

// Decode calls signIn for each non-interactive sign-in of the message and unreadable for
// each record that cannot be read, both in the order of the message. It returns how many
// records of other categories it skipped. The *SignIn is reused: it and its texts are
// valid only during the call of signIn... (decide: texts own their memory or not, and say so)
func (d *Decoder) Decode(message []byte, signIn func(*detector.SignIn), unreadable func(Unreadable)) (skipped int) {
	panic("stub")
}
