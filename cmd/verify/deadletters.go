package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// letter is where an unreadable record came from.
type letter struct {
	topic     string
	partition int32
	offset    int64
	record    int // -1 is the message itself
}

func (l letter) String() string {
	at := fmt.Sprintf("partition %d offset %d of %s", l.partition, l.offset, l.topic)
	if l.record >= 0 {
		at = fmt.Sprintf("record %d of %s", l.record, at)
	}
	return at
}

// maxLetter is where the bytes of a dead letter are cut.
const maxLetter = 900 << 10

// refusal is what a dead letter must hold.
type refusal struct {
	bytes digest // of what is not cut off
	size  int    // of the whole
}

func refusalOf(b []byte) refusal { return refusal{digestOf(b[:min(len(b), maxLetter)]), len(b)} }

// letterOf reads the headers of a dead letter that say where it came from.
func letterOf(r *kgo.Record) (l letter, err error) {
	l.record = -1
	number := func(h kgo.RecordHeader, size int) int64 {
		n, failed := strconv.ParseInt(string(h.Value), 10, size)
		if failed != nil {
			err = fmt.Errorf("its header %s is %q", h.Key, h.Value)
		}
		return n
	}
	for _, h := range r.Headers {
		switch h.Key {
		case "topic":
			l.topic = string(h.Value)
		case "partition":
			l.partition = int32(number(h, 32))
		case "offset":
			l.offset = number(h, 64)
		case "record":
			l.record = int(number(h, 32))
		}
	}
	return l, err
}

// aReason is a reason: one word in snake case.
var aReason = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)

// wrongLetter says what is wrong with a dead letter on l, which is unreadable, or "".
func wrongLetter(r *kgo.Record, l letter, want refusal) string {
	headers := map[string]string{
		"topic": l.topic, "partition": strconv.Itoa(int(l.partition)), "offset": strconv.FormatInt(l.offset, 10),
	}
	for _, h := range r.Headers {
		if h.Key == "reason" && aReason.Match(h.Value) {
			headers["reason"] = string(h.Value) // whichever it is
		}
	}
	if headers["reason"] == "" {
		return "it has no header reason, or one that is no word"
	}
	if l.record >= 0 {
		headers["record"] = strconv.Itoa(l.record)
	}
	if want.size > maxLetter {
		headers["truncated"] = strconv.Itoa(want.size)
	}
	switch wrong := wrongHeaders(r.Headers, headers); {
	case wrong != "":
		return wrong
	case digestOf(r.Value) != want.bytes:
		return "its bytes are others"
	case r.Key != nil:
		return fmt.Sprintf("it has a key, %.100q", r.Key)
	}
	return ""
}

// checkDeadLetters holds the dead letters against what the oracle refused. What the splitter
// repeats is counted; a dead letter on a record of the sign-ins topic is made up too, for
// nothing that the splitter writes may be unreadable.
func (j *judge) checkDeadLetters(ctx context.Context) error {
	there := map[letter]bool{}
	err := j.brokers.read(ctx, j.deadLetter, func(r *kgo.Record) {
		j.DeadLetters++
		l, err := letterOf(r)
		want, refused := j.refused[l]
		wrong := ""
		switch {
		case err != nil:
			wrong = err.Error()
		case !refused:
			wrong = "nothing there is unreadable"
		default:
			wrong = wrongLetter(r, l, want)
		}
		if wrong != "" {
			j.DeadLettersMadeUp++
			j.find("dead_letters_made_up", "offset %d of %s, on %s: %s", r.Offset, r.Topic, l, wrong)
			return
		}
		if there[l] {
			j.DeadLettersAgain++
		}
		there[l] = true
	})
	if err != nil {
		return err
	}
	for l := range j.refused {
		if !there[l] {
			j.DeadLettersMissing++
			j.find("dead_letters_missing", "%s", l)
		}
	}
	return nil
}
