package kafka_test

import (
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

func TestWhoIsFencedAgainAndAgainHasATwin(t *testing.T) {
	began := time.Now()
	for name, c := range map[string]struct {
		after []time.Duration
		twin  bool // at the last
	}{
		"once":                         {[]time.Duration{0}, false},
		"twice at once":                {[]time.Duration{0, time.Second}, false},
		"three times at once":          {[]time.Duration{0, time.Second, 2 * time.Second}, true},
		"each minute":                  {[]time.Duration{0, time.Minute, 2 * time.Minute, 3 * time.Minute}, false},
		"twice, and three times later": {[]time.Duration{0, 1, time.Hour, time.Hour + 1, time.Hour + 2}, true},
	} {
		var f kafka.Fencings
		var twin bool
		for _, after := range c.after {
			twin = f.Twin(began.Add(after))
		}
		if twin != c.twin {
			t.Errorf("%s: %t", name, twin)
		}
	}
}
