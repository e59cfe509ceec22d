package kafka

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsLeftToDoIsBoundedFromWhenItIsToldToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		last, end := After(ctx, WorkWithin)
		defer end()
		time.Sleep(time.Hour) // of the fake clock
		if last.Err() != nil {
			t.Fatal("over before it is told to stop")
		}
		stop()
		told := time.Now()
		if <-last.Done(); time.Since(told) != WorkWithin {
			t.Errorf("over %s after it was told to stop", time.Since(told))
		}
	})
}
