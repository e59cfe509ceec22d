package detect

import (
	"testing"
	"time"
)

func TestABacklogIsJudgedInFewerTransactions(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		arrived time.Time
		want    time.Duration
	}{
		{time.Time{}, 0},
		{now.Add(time.Second), -10 * time.Millisecond}, // a clock that is ahead
		{now, 0},
		{now.Add(-10 * time.Second), 100 * time.Millisecond},
		{now.Add(-time.Hour), longestSpan},
	} {
		if got := (&transaction{arrived: c.arrived}).span(now); got != c.want {
			t.Errorf("arrived %s: %s, want %s", c.arrived, got, c.want)
		}
	}
}
