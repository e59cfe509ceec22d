package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// drainWithin is how long what is in hand may take to end after the first signal.
const drainWithin = 10 * time.Second

// errSignal is the cause of a context that a signal ended.
var errSignal = errors.New("ended by a signal")

// interruptible returns a context that the first SIGINT or SIGTERM cancels, with errSignal
// as its cause. A second signal ends the process at once, and so does drainWithin.
func interruptible(stderr io.Writer) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel(errSignal)
		case <-done:
			return
		}
		select {
		case <-signals:
			fmt.Fprintln(stderr, "prtwatch: a second signal: ended at once")
		case <-time.After(drainWithin):
			fmt.Fprintf(stderr, "prtwatch: not done %s after the signal: ended\n", drainWithin)
		case <-done:
			return
		}
		os.Exit(exitFailed)
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
