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

// drainWithin is how long what is in hand may take to end after the first signal. Brokers may
// take kafka.LeaveWithin of it, whatever they do.
const drainWithin = 10 * time.Second

// sameSignal is how soon after the first signal another one is the same: timeout(1) sends
// one to its child and one to the child's group.
const sameSignal = 500 * time.Millisecond

// errSignal is the cause of a context that a signal ended.
var errSignal = errors.New("ended by a signal")

// interruptible returns a context that the first SIGINT or SIGTERM cancels, with errSignal
// as its cause. A second signal, unless it is the same, ends the process at once, and so
// does drainWithin.
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
		if why := secondSignal(signals, done); why != "" {
			fmt.Fprintln(stderr, "prtwatch:", why)
			os.Exit(exitFailed)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

// secondSignal waits, from the first signal on, for what ends the process at once, and says
// it; nothing when done.
func secondSignal(signals <-chan os.Signal, done <-chan struct{}) string {
	first := time.Now()
	overdue := time.After(drainWithin)
	for {
		select {
		case <-signals:
			if time.Since(first) >= sameSignal {
				return "a second signal: ended at once"
			}
		case <-overdue:
			return fmt.Sprintf("not done %s after the signal: ended", drainWithin)
		case <-done:
			return ""
		}
	}
}
