package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// capture returns a logger at level whose clock stands still at *now.
func capture(level slog.Level, now *time.Time) (*logger, *bytes.Buffer) {
	var out bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})))
	l.now = func() time.Time { return *now }
	return l, &out
}

func TestABrokerThatIsDownIsOneLineAMinute(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	l, out := capture(slog.LevelInfo, &now)
	down := func(id any, port int) {
		err := fmt.Errorf("read tcp 127.0.0.1:%d->192.0.2.1:9092: connection reset", port)
		l.Log(kgo.LogLevelWarn, "unable to open connection to broker", "addr", "192.0.2.1:9092", "broker", id, "err", err)
	}
	for i := range 1000 {
		down("seed_0", 40000+i)
		down("1", 50000+i)
	}
	if got := strings.Count(out.String(), "\n"); got != 1 {
		t.Fatalf("%d lines:\n%s", got, out)
	}
	now = now.Add(time.Minute)
	down("1", 1)
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "repeated=1999") {
		t.Errorf("after a minute:\n%s", got)
	}
}

func TestLinesAboutTwoBrokersAreTwoLines(t *testing.T) {
	now := time.Now()
	l, out := capture(slog.LevelInfo, &now)
	for _, addr := range []string{"192.0.2.1:9092", "192.0.2.2:9092"} {
		l.Log(kgo.LogLevelError, "unable to open connection to broker", "addr", addr, "err", errors.New("refused"))
	}
	if got := out.String(); strings.Count(got, "level=ERROR") != 2 {
		t.Errorf("%s", got)
	}
}

// On one cluster both stages' clients write with one logger.
func TestLinesAboutTwoGroupsAreTwoLines(t *testing.T) {
	now := time.Now()
	l, out := capture(slog.LevelInfo, &now)
	for _, group := range []string{"prtwatch-split", "prtwatch-detect", "prtwatch-split"} {
		l.Log(kgo.LogLevelError, "group manage loop errored", "group", group, "err", errors.New("refused"))
	}
	if got := out.String(); strings.Count(got, "level=ERROR") != 2 || !strings.Contains(got, "prtwatch-detect") {
		t.Errorf("%s", got)
	}
}

func TestTheClientsInformationAndOurClosingItAreDebug(t *testing.T) {
	now := time.Now()
	l, out := capture(slog.LevelInfo, &now)
	if l.Level() != kgo.LogLevelWarn {
		t.Errorf("level %v", l.Level())
	}
	l.Log(kgo.LogLevelInfo, "metadata update triggered")
	// Of a client that we closed while it joined.
	l.Log(kgo.LogLevelError, "group manage loop errored", "group", "prtwatch-detect", "err", kgo.ErrClientClosed)
	if out.Len() > 0 {
		t.Errorf("%s", out)
	}
	l, out = capture(slog.LevelDebug, &now)
	l.Log(kgo.LogLevelInfo, "metadata update triggered")
	if l.Level() != kgo.LogLevelInfo || !strings.Contains(out.String(), "level=DEBUG") {
		t.Errorf("level %v: %s", l.Level(), out)
	}
}

func TestRememberedLinesAreBounded(t *testing.T) {
	now := time.Now()
	l, _ := capture(slog.LevelInfo, &now)
	for i := range 3 * maxRemembered {
		l.Log(kgo.LogLevelWarn, "line", "broker", i)
	}
	if n := len(l.mu.lines); n > maxRemembered {
		t.Errorf("%d are remembered", n)
	}
}
