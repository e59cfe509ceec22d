package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/state"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // while running
	exitWrong  = 2 // the command line, the configuration or a file
)

// failure is an error of a command that had begun its work (exit code 1). All others are
// the user's: what cobra finds wrong with the command line, and what is marked with wrong.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// wrong marks an error as one of the command line, the configuration or a file, whose
// message must name it, say what is wrong with it and what would be right.
func wrong(err error) error { return settings.Wrong(err) }

// does makes a command's work its RunE: an error of it is a failure unless it is marked.
func does(work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := work(cmd.Context(), args)
		var mistake *settings.Mistake
		switch {
		case err == nil, errors.As(err, &mistake), errors.Is(err, state.ErrInUse), errors.Is(err, state.ErrFormat):
			return err
		case errors.Is(err, context.Canceled) && errors.Is(context.Cause(cmd.Context()), errSignal):
			err = fmt.Errorf("%s: %w", cmd.Name(), errSignal)
		}
		return &failure{err}
	}
}

// report writes the error, one line for each thing that is wrong, and returns the exit code.
func (p *program) report(err error) int {
	if err == nil {
		return exitDone
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(p.stderr, "prtwatch:", line)
	}
	var failed *failure
	if errors.As(err, &failed) {
		return exitFailed
	}
	return exitWrong
}

// quietPipe takes the error of writing to standard output away when its reader has what he
// wanted, as with `| head`.
func quietPipe(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
