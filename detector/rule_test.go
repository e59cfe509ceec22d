package detector

import (
	"slices"
	"testing"
	"time"
)

func TestTheRuleCannotBeChangedThroughACopy(t *testing.T) {
	PRTReuse().ResourceTerms[0] = "changed"
	DefaultConfig().Resources[0] = "changed"
	if slices.Contains(PRTReuse().ResourceTerms, "changed") {
		t.Error("the rule's terms changed")
	}
}

// The derivation at Window, done by the definition of the query's runs.
func TestTheWindowHoldsExactlyTheHoursThatTheQueryLooksBackTo(t *testing.T) {
	run := time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	hour := HourOf(run)
	for back := int32(0); back <= 400; back++ {
		upper := HourTime(hour - back)
		for _, seen := range []time.Time{upper, upper.Add(-time.Hour + 100*time.Nanosecond)} {
			inQuery := !seen.Before(run.AddDate(0, 0, -14)) && !seen.After(run.Add(-time.Hour))
			if seen.Equal(run.AddDate(0, 0, -14)) {
				continue // the one instant that differs
			}
			h := HourOf(seen)
			if inWindow := hour-Window <= h && h <= hour-1; inWindow != inQuery {
				t.Errorf("%s, %d hours back: in the window %v, in the query's baseline %v", seen, back, inWindow, inQuery)
			}
		}
	}
}
