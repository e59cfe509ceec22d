package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// repeatAfter is how long a line that was written is not written again.
const repeatAfter = time.Minute

// maxRemembered bounds the lines that are remembered.
const maxRemembered = 1000

// logger hands the client's lines to slog. The client's information is our debug: normal
// operation says little. A line is the same as another when message, group and broker are: their
// errors name ports and differ each time, and both stages' clients have one logger.
type logger struct {
	log *slog.Logger
	now func() time.Time

	mu struct {
		sync.Mutex
		lines map[string]*line
	}
}

type line struct {
	written    time.Time
	suppressed int // since then
}

func newLogger(log *slog.Logger) *logger {
	l := &logger{log: log, now: time.Now}
	l.mu.lines = make(map[string]*line)
	return l
}

// leavingStatic begins a warning of the client about what is our good order: a stage tells the
// group itself that its static members leave.
const leavingStatic = "leaving group as a static member"

// Level tells the client what not to format at all.
func (l *logger) Level() kgo.LogLevel {
	ctx := context.Background()
	switch {
	case l.log.Enabled(ctx, slog.LevelDebug):
		return kgo.LogLevelInfo
	case l.log.Enabled(ctx, slog.LevelWarn):
		return kgo.LogLevelWarn
	case l.log.Enabled(ctx, slog.LevelError):
		return kgo.LogLevelError
	}
	return kgo.LogLevelNone
}

// Log writes the line, unless the same one was written lately.
func (l *logger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if level > kgo.LogLevelWarn || strings.HasPrefix(msg, leavingStatic) || closed(keyvals) {
		l.log.Debug("kafka: "+msg, keyvals...)
		return
	}
	suppressed, write := l.due(msg + about(keyvals))
	if !write {
		return
	}
	if suppressed > 0 {
		keyvals = append(keyvals[:len(keyvals):len(keyvals)], "repeated", suppressed)
	}
	at := slog.LevelWarn
	if level == kgo.LogLevelError {
		at = slog.LevelError
	}
	l.log.Log(context.Background(), at, "kafka: "+msg, keyvals...)
}

// closed reports whether a line is about what ended because we closed the client.
func closed(keyvals []any) bool {
	for _, v := range keyvals {
		if err, ok := v.(error); ok && errors.Is(err, kgo.ErrClientClosed) {
			return true
		}
	}
	return false
}

// due reports whether the line is to be written, and how often it was not since it last was.
func (l *logger) due(key string) (suppressed int, write bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	known := l.mu.lines[key]
	if known == nil {
		if len(l.mu.lines) == maxRemembered {
			clear(l.mu.lines)
		}
		l.mu.lines[key] = &line{written: now}
		return 0, true
	}
	if now.Sub(known.written) < repeatAfter {
		known.suppressed++
		return 0, false
	}
	suppressed = known.suppressed
	*known = line{written: now}
	return suppressed, true
}

// about is what a line says of which group and broker it is about: of a broker the address where it names one,
// since the client calls the same broker by several numbers.
func about(keyvals []any) string {
	var group, id, addr string
	for i := 0; i+1 < len(keyvals); i += 2 {
		switch keyvals[i] {
		case "group":
			group = fmt.Sprint(" ", keyvals[i+1])
		case "addr":
			addr = fmt.Sprint(" ", keyvals[i+1])
		case "broker":
			id = fmt.Sprint(" ", keyvals[i+1])
		}
	}
	return group + cmp.Or(addr, id)
}
