package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/export"
)

// deadLetters is the file of --dead-letter. Without one it keeps nothing.
type deadLetters struct {
	file *os.File
	out  *bufio.Writer
}

// deadLetter is one line of it.
type deadLetter struct {
	File   string  `json:"file"`
	Line   int     `json:"line"`
	Record *int    `json:"record,omitempty"` // absent: the whole message
	Reason string  `json:"reason"`
	Detail string  `json:"detail"`
	Text   *string `json:"text,omitempty"`
	Base64 []byte  `json:"base64,omitempty"` // in place of Text, where the bytes are not UTF-8
}

// openDeadLetters makes the file, which must be none of the inputs.
func openDeadLetters(name string, inputs []string) (*deadLetters, error) {
	if name == "" {
		return &deadLetters{}, nil
	}
	if slices.ContainsFunc(inputs, func(input string) bool { return sameFile(input, name) }) {
		return nil, fmt.Errorf("--dead-letter %s: is a file to be read; name another", name)
	}
	file, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("--dead-letter %s: %w; name a file that can be written", name, errors.Unwrap(err))
	}
	return &deadLetters{file: file, out: bufio.NewWriter(file)}, nil
}

// sameFile reports whether both names are one file, which need not be there yet.
func sameFile(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX != nil && errY != nil && filepath.Base(a) == filepath.Base(b) { // to be made
		x, errX = os.Stat(filepath.Dir(a))
		y, errY = os.Stat(filepath.Dir(b))
	}
	return errX == nil && errY == nil && os.SameFile(x, y)
}

func (d *deadLetters) write(file string, u export.Unreadable) error {
	if d.out == nil {
		return nil
	}
	letter := deadLetter{File: file, Line: u.Line, Reason: u.Reason, Detail: u.Detail}
	if u.Record >= 0 {
		letter.Record = &u.Record
	}
	if utf8.Valid(u.Bytes) {
		text := string(u.Bytes)
		letter.Text = &text
	} else {
		letter.Base64 = u.Bytes
	}
	encoder := json.NewEncoder(d.out)
	encoder.SetEscapeHTML(false)
	return d.failed(encoder.Encode(letter))
}

func (d *deadLetters) close() error {
	if d.out == nil {
		return nil
	}
	return d.failed(errors.Join(d.out.Flush(), d.file.Close()))
}

func (d *deadLetters) failed(err error) error {
	if err != nil {
		return fmt.Errorf("writing --dead-letter %s: %w", d.file.Name(), err)
	}
	return nil
}
