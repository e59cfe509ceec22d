package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal, and what was drawn on it.
type terminal struct {
	t            *testing.T
	person, ours *os.File
	drawn        *lockedBuffer
	before       *unix.Termios
}

func newTerminal(t *testing.T, columns, rows uint16) *terminal {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there are no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { person.Close() })
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	must(err)
	ours, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(err)
	t.Cleanup(func() { ours.Close() })
	s := &terminal{t: t, person: person, ours: ours, drawn: new(lockedBuffer)}
	s.resize(columns, rows)
	s.before = s.mode()
	go func() {
		var some [4096]byte
		for {
			n, err := person.Read(some[:])
			if err != nil {
				return
			}
			_, _ = s.drawn.Write(some[:n])
		}
	}()
	return s
}

func (s *terminal) resize(columns, rows uint16) {
	if err := unix.IoctlSetWinsize(int(s.person.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *terminal) mode() *unix.Termios {
	mode, err := unix.IoctlGetTermios(int(s.ours.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return mode
}

func (s *terminal) shows(text string) {
	s.t.Helper()
	waitFor(s.t, fmt.Sprintf("the terminal to show %q", text), func() bool { return strings.Contains(s.drawn.String(), text) })
}

func TestTopGivesTheTerminalBack(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `prtwatch_build_info{version="1.2.3"} 1`)
	}))
	defer server.Close()
	const takenOver, givenBack, bold = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l", "\x1b[1m"
	for _, test := range []struct {
		name        string
		environment string
		end         func(*terminal, *os.Process) error
		colour      bool
	}{
		{"on q", "TERM=xterm", func(s *terminal, _ *os.Process) error { _, err := s.person.WriteString("q"); return err }, true},
		{"on Ctrl-C", "NO_COLOR=1", func(s *terminal, _ *os.Process) error { _, err := s.person.WriteString("\x03"); return err }, false},
		{"on SIGTERM", "TERM=xterm", func(_ *terminal, p *os.Process) error { return p.Signal(syscall.SIGTERM) }, true},
		{"on SIGHUP, as when the connection breaks", "TERM=xterm", func(_ *terminal, p *os.Process) error { return p.Signal(syscall.SIGHUP) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newTerminal(t, 80, 24)
			cmd := process(t, "top", "--no-alerts", "--interval", "100ms", "--url", server.URL)
			cmd.Env = append(cmd.Env, "NO_COLOR=", "TERM=xterm", test.environment)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = s.ours, s.ours, s.ours
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			s.shows("  1 of 1 ready  ")
			s.shows("\x1b[24;1H")
			s.resize(120, 40)
			s.shows("\x1b[40;1H")
			if err := test.end(s, cmd.Process); err != nil {
				t.Fatal(err)
			}
			err := cmd.Wait()
			drawn := s.drawn.String()
			if err != nil || !strings.Contains(drawn, takenOver) || strings.Contains(drawn, bold) != test.colour {
				t.Errorf("%v; it drew %.2000q", err, drawn)
			}
			s.shows(givenBack)
			if *s.mode() != *s.before {
				t.Errorf("the terminal's mode is %+v, and was %+v", s.mode(), s.before)
			}
		})
	}
}
