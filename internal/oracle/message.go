package oracle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Refusal is a record, or a whole message, that is no sign-in which could be judged and no
// record of another category either: what belongs among the dead letters.
type Refusal struct {
	Record int    // index in the message; -1 is the message itself
	Bytes  []byte // the record's or the message's, part of the message
	Err    error
}

// Take takes every record of a whole message that can be taken, and returns the others in
// their order. arrived is the timestamp of the Kafka record that carried it, for
// Options.MaxFuture; zero where there is none.
func (q *Query) Take(message []byte, arrived time.Time) (refused []Refusal) {
	index := 0
	err := cut(message, func(record []byte) {
		if err := q.add(record, arrived); err != nil {
			refused = append(refused, Refusal{index, record, err})
		}
		index++
	})
	if err != nil {
		refused = append(refused, Refusal{-1, message, fmt.Errorf("reading message: %w", err)})
	}
	return refused
}

// AddMessage takes a whole message: {"records": [...]}, a bare array or one bare record.
// Every record that can be taken is; the errors of the others come back joined.
func (q *Query) AddMessage(message []byte) error {
	var errs []error
	for _, r := range q.Take(message, time.Time{}) {
		err := r.Err
		if r.Record >= 0 {
			err = fmt.Errorf("record %d: %w", r.Record, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

const white = " \t\r\n"

// brokenEnvelope is how an envelope begins that is not JSON as a whole, though records of it
// may be.
var brokenEnvelope = regexp.MustCompile(`(?i)^\{[ \t\r\n]*"records"[ \t\r\n]*:[ \t\r\n]*`)

// cut yields the bytes of each record of a message, be they JSON or not. The error says what
// is wrong with the envelope; the records that were yielded stand all the same.
func cut(message []byte, each func([]byte)) error {
	text := bytes.Trim(bytes.TrimPrefix(message, []byte("\xef\xbb\xbf")), white)
	switch {
	case len(text) == 0 || string(text) == "null":
		return errors.New("it is empty")
	case text[0] == '[':
		rest, err := walk(text, each)
		if err == nil && len(rest) > 0 {
			err = errors.New("more follows after the array")
		}
		return err
	case text[0] != '{':
		return errors.New("it is neither an object nor an array")
	}
	var envelope struct {
		Records json.RawMessage `json:"records"`
	}
	list, after := []byte(nil), []byte("}")
	if err := json.Unmarshal(text, &envelope); err == nil {
		if list = envelope.Records; list == nil {
			if depthOf(text) > maxDepth {
				return errors.New("it is nested too deep")
			}
			each(text)
			return nil
		}
	} else {
		head := brokenEnvelope.Find(text)
		if head == nil {
			return err
		}
		list, after = text[len(head):], nil
	}
	if len(list) == 0 || list[0] != '[' {
		return errors.New("`records` is no array")
	}
	rest, err := walk(list, each)
	if err == nil && after == nil && rest != nil && !json.Valid(append([]byte(`{"records":[]`), rest...)) {
		err = errors.New("the envelope does not end after `records`")
	}
	return err
}

// walk yields the elements of an array by their brackets and quotes alone, and returns what
// follows the array: nil where its last record does not end, which was yielded as it is.
func walk(list []byte, each func([]byte)) (rest []byte, err error) {
	at := 1
	skip := func() bool {
		at += len(list[at:]) - len(bytes.TrimLeft(list[at:], white))
		return at < len(list)
	}
	if skip() && list[at] == ']' {
		return list[at+1:], nil
	}
	for skip() {
		size, ended := element(list[at:])
		each(bytes.TrimRight(list[at:at+size], white))
		if at += size; !ended {
			return nil, nil
		}
		switch {
		case !skip():
		case list[at] == ']':
			return bytes.Trim(list[at+1:], white), nil
		case list[at] != ',':
			return nil, errors.New("there is neither comma nor bracket after a record")
		default:
			at++
		}
	}
	return nil, errors.New("the array does not end")
}

// element returns how many bytes the element takes that text begins with, and whether it
// comes to an end.
func element(text []byte) (size int, ended bool) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			if quoted = !quoted; !quoted && depth == 0 {
				return i + 1, true
			}
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return i, true
			}
			if depth--; depth == 0 {
				return i + 1, true
			}
		case c == ',' && depth == 0:
			return i, true
		}
	}
	return len(text), depth == 0 && !quoted
}
