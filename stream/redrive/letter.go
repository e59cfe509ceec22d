package redrive

import (
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/stream/entra"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// Letter is what the headers of a dead letter say of it. Whoever may write to the topic can have written them.
type Letter struct {
	Offset    int64  // of the dead letter itself
	Reason    string // why it could not be read at the time
	Topic     string // where it came from
	Partition int64
	At        int64 // its offset there
	Record    int64 // which record of the message; -1: the message
	truncated bool
}

// letterOf reads the headers. A number that is none is taken for -1.
func letterOf(raw *kgo.Record) Letter {
	l := Letter{Offset: raw.Offset, Partition: -1, At: -1, Record: -1}
	number := func(text []byte) int64 {
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	for _, h := range raw.Headers {
		switch h.Key {
		case kafka.HeaderReason:
			l.Reason = string(h.Value)
		case kafka.HeaderTopic:
			l.Topic = string(h.Value)
		case kafka.HeaderPartition:
			l.Partition = number(h.Value)
		case kafka.HeaderOffset:
			l.At = number(h.Value)
		case kafka.HeaderRecord:
			l.Record = number(h.Value)
		case kafka.HeaderTruncated:
			l.truncated = true
		}
	}
	return l
}

// The reasons of the detecting stage (signins.Decode, signins.DecodeTick); those of the splitter are entra's.
const (
	reasonSignIn = "sign_in"
	reasonTick   = "tick"
)

// Reasons lists every reason that a dead letter can have.
func Reasons() []string { return append(entra.Reasons(), reasonSignIn, reasonTick) }

// open decides what becomes of a dead letter, counts it, and returns what is to be sent.
func (r *Redriver) open(raw *kgo.Record) (send []*kgo.Record) {
	l, c := letterOf(raw), &r.report
	c.Read++
	switch {
	case len(r.which.Reasons) > 0 && !slices.Contains(r.which.Reasons, l.Reason):
		c.Skipped["reason_not_asked_for"]++
		return nil
	case l.truncated:
		c.Truncated++
		return nil
	case l.Reason == reasonTick: // it says how far the input was read then
		c.Skipped[reasonTick]++
		return nil
	}
	old := 0
	take := func(s *detector.SignIn) {
		if s.Generated.Before(time.Now().Add(-r.deps.Kept)) {
			old++
			return
		}
		record := r.signIn(s)
		if !fits(record) {
			c.Unreadable[reasonSignIn]++
			return
		}
		send = append(send, record)
		if r.which.DryRun && r.which.Found != nil {
			r.which.Found(l, s)
		}
	}
	before := c.SignIns + c.TooOld + sum(c.Unreadable)
	unreadable := r.read(l, raw, take)
	for _, reason := range unreadable {
		c.Unreadable[reason]++
	}
	c.TooOld += old
	if c.SignIns += len(send); len(send) > 0 {
		c.Redriven[l.reason()]++
	}
	if c.SignIns+c.TooOld+sum(c.Unreadable) == before { // another category, or a message of nothing
		c.Skipped["no_sign_in"]++
	}
	if r.which.DryRun {
		return nil
	}
	return send
}

// reason is the letter's, if it is one that we know: what is counted by it is bounded.
func (l Letter) reason() string {
	if slices.Contains(Reasons(), l.Reason) {
		return l.Reason
	}
	return "unknown"
}

// read hands on the sign-ins of a dead letter, and returns why what is left of it cannot be read.
func (r *Redriver) read(l Letter, raw *kgo.Record, take func(*detector.SignIn)) (unreadable []string) {
	if l.Reason == reasonSignIn {
		var s detector.SignIn
		if err := signins.Decode(raw.Value, &s); err != nil {
			return []string{reasonSignIn}
		}
		take(&s)
		return nil
	}
	message := raw.Value
	if l.Record >= 0 && len(message) > 0 { // as it stood in its message: a record alone may be an array, an element may not
		message = slices.Concat([]byte("["), message, []byte("]"))
	}
	// Of a message whose envelope still cannot be read nothing is sent: what can be read of it was split at the time.
	r.entra.Decode(message, func(*detector.SignIn) {}, func(u entra.Unreadable) {
		if u.Record < 0 {
			unreadable = []string{u.Reason}
		}
	})
	if len(unreadable) > 0 {
		return unreadable
	}
	r.entra.Decode(message, func(s *detector.SignIn) {
		if raw.Timestamp.Unix() > 0 { // about when the message arrived
			s.Arrived = raw.Timestamp
		}
		take(s)
	}, func(u entra.Unreadable) { unreadable = append(unreadable, u.Reason) })
	return unreadable
}

// signIn returns the record of a sign-in.
func (r *Redriver) signIn(s *detector.SignIn) *kgo.Record {
	key := []byte(r.deps.UserKey(s))
	return &kgo.Record{
		Topic: r.deps.Topics.Signins, Partition: kafka.Partition(key, r.deps.Topics.Partitions),
		Key: key, Value: signins.Append(nil, s, signins.Origin{}),
	}
}

// fits reports whether the detecting stage takes the record, which would else be a dead letter again.
func fits(record *kgo.Record) bool {
	return len(record.Key) <= signins.MaxKey && len(record.Value) <= signins.MaxValue
}

func sum(by map[string]int) (n int) {
	for _, count := range by {
		n += count
	}
	return n
}
