package main

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
)

// newLogger writes to w as the `log` section wants it.
func newLogger(cfg settings.Log, w io.Writer) *slog.Logger {
	level, err := cfg.SlogLevel()
	if err != nil {
		level = slog.LevelInfo // ruled out by Validate
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if cfg.Format == "text" || cfg.Format == "auto" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// readable writes a duration as people do: JSON would have it in nanoseconds, and not say so.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// isTerminal reports whether a person sees what is written to w, or types what is read.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
