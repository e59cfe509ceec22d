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
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "text" || cfg.Format == "auto" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// isTerminal reports whether a person sees what is written to w, or types what is read.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
