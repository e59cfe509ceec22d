package top

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/term"
)

// What a terminal is told (xterm's control sequences; a terminal leaves out what it does not know).
const (
	takeOver = "\x1b[?1049h\x1b[?25l\x1b[?7l" // the alternate screen, no cursor, no wrapping
	giveBack = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	beginAll = "\x1b[?2026h" // what follows is shown at once
	endAll   = "\x1b[?2026l"
)

var styles = map[style]string{title: "\x1b[1m", faint: "\x1b[2m", warning: "\x1b[33m", alarm: "\x1b[31m"}

// resizedEvery is how often the terminal is asked for its size: there is no signal for it everywhere.
const resizedEvery = 250 * time.Millisecond

// screen is a terminal that was taken over.
type screen struct {
	out           Terminal
	colour        bool
	width, height int
}

// live draws frames until ctx is done or q is typed.
func (t *top) live(ctx context.Context) error {
	keys := make(chan byte)
	if t.Keys != nil {
		before, err := term.MakeRaw(int(t.Keys.Fd()))
		if err != nil {
			return fmt.Errorf("taking over the terminal: %w", err)
		}
		defer func() { _ = term.Restore(int(t.Keys.Fd()), before) }()
		go typed(t.Keys, keys) // it ends with the process: a read of a terminal cannot be ended
	}
	s := &screen{out: t.Screen, colour: t.Colour}
	if _, err := io.WriteString(s.out, takeOver); err != nil {
		return err
	}
	defer func() { _, _ = io.WriteString(s.out, giveBack) }()

	frames, resized := time.NewTicker(t.Every), time.NewTicker(resizedEvery)
	defer frames.Stop()
	defer resized.Stop()
	var changed <-chan struct{}
	if t.tail != nil {
		changed = t.tail.changed
	}
	answers, asking := make(chan func(), 1), true
	ask := func() { answers <- t.ask(ctx) }
	go ask()
	for {
		draw := false
		select {
		case <-ctx.Done():
			return nil
		case key := <-keys:
			if key == 'q' || key == 'Q' || key == 3 || key == 4 { // Ctrl-C, Ctrl-D
				return nil
			}
			draw = true
		case note := <-answers:
			note()
			asking, draw = false, true
		case <-frames.C:
			if !asking {
				asking = true
				go ask()
			}
		case <-changed:
			draw = true
		case <-resized.C:
			draw = s.resized()
		}
		if draw && !t.blank() {
			if err := s.draw(t.frame(time.Now())); err != nil {
				return err
			}
		}
	}
}

// blank reports whether nothing is known yet.
func (t *top) blank() bool {
	for _, in := range t.instances {
		if in.err != nil || in.latest() != nil {
			return false
		}
	}
	return true
}

// typed hands on what is typed.
func typed(from io.Reader, keys chan<- byte) {
	var key [1]byte
	for {
		if n, err := from.Read(key[:]); err != nil || n == 0 {
			return
		}
		keys <- key[0]
	}
}

// resized asks for the size and reports whether it is another.
func (s *screen) resized() bool {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	changed := width != s.width || height != s.height
	s.width, s.height = width, height
	return changed
}

// draw writes a frame over the last one, in one piece: nothing is cleared that is written again.
func (s *screen) draw(f frame) error {
	s.resized()
	var b strings.Builder
	b.WriteString(beginAll)
	for i, l := range f.lines(s.width, s.height) {
		fmt.Fprintf(&b, "\x1b[%d;1H", i+1)
		if code := styles[l.style]; code != "" && s.colour {
			b.WriteString(code + l.text + "\x1b[0m")
		} else {
			b.WriteString(l.text)
		}
		b.WriteString(strings.Repeat(" ", max(0, s.width-textWidth(l.text)))) // over what was there
	}
	b.WriteString(endAll)
	_, err := io.WriteString(s.out, b.String())
	return err
}
