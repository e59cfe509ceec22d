package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/prtwatch/prtwatch/state"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // while running
	exitWrong  = 2 // the command line, the configuration or a file
)

// exitError is an error that knows its exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// wrong marks an error as one of the command line, the configuration or a file, whose
// message must name it, say what is wrong with it and what would be right.
func wrong(err error) error { return &exitError{exitWrong, err} }

// does makes a command's work its RunE: an error of it is one while running unless it is
// marked otherwise. What cobra itself finds wrong, which never gets here, is the command
// line.
func does(work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := work(cmd.Context(), args)
		var marked *exitError
		switch {
		case err == nil || errors.As(err, &marked):
			return err
		case errors.Is(err, context.Canceled) && errors.Is(context.Cause(cmd.Context()), errSignal):
			err = fmt.Errorf("%s: %w", cmd.Name(), errSignal)
		case errors.Is(err, state.ErrInUse), errors.Is(err, state.ErrFormat):
			return wrong(err)
		}
		return &exitError{exitFailed, err}
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
	var marked *exitError
	if errors.As(err, &marked) {
		return marked.code
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
