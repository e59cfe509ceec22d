package main

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestASecondSignalEndsItAtOnceUnlessItCameWithTheFirst(t *testing.T) {
	for _, test := range []struct {
		name    string
		signals []time.Duration // after the first
		done    time.Duration
		want    string
		at      time.Duration
	}{
		{"one", nil, time.Second, "", time.Second},
		{"two together", []time.Duration{0}, time.Second, "", time.Second},
		{"three in haste", []time.Duration{0, 499 * time.Millisecond}, time.Second, "", time.Second},
		{"two", []time.Duration{600 * time.Millisecond}, time.Second, "a second signal: ended at once", 600 * time.Millisecond},
		{"two together and one", []time.Duration{0, time.Second}, 5 * time.Second, "a second signal: ended at once", time.Second},
		{"two together, never done", []time.Duration{0}, time.Hour, "not done 10s after the signal: ended", drainWithin},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals, done := make(chan os.Signal, 2), make(chan struct{})
				for _, after := range test.signals {
					time.AfterFunc(after, func() { signals <- syscall.SIGTERM })
				}
				time.AfterFunc(test.done, func() { close(done) })
				begun := time.Now()
				if got := secondSignal(signals, done); got != test.want || time.Since(begun) != test.at {
					t.Errorf("%q after %s", got, time.Since(begun))
				}
				time.Sleep(test.done) // of the fake clock: the rest of the timers
			})
		})
	}
}
