package report

import (
	"math"
	"strings"
	"testing"
)

func TestATargetIsMetByExactlyWhatIsAskedFor(t *testing.T) {
	more := Target{AtLeast: 8, Aim: 12, Above: true}
	less := Target{AtLeast: 400, Aim: 250}
	for _, c := range []struct {
		target Target
		value  float64
		want   Verdict
	}{
		{more, 7.99, Missed},
		{more, 8, Met},
		{more, 11.9, Met},
		{more, 12, Aimed},
		{more, 100, Aimed},
		{less, 401, Missed},
		{less, 400, Met},
		{less, 251, Met},
		{less, 250, Aimed},
		{less, 1, Aimed},
		{more, math.NaN(), Missed},
		{less, math.NaN(), Missed},
	} {
		if got := c.target.Judge(c.value); got != c.want {
			t.Errorf("%v of %+v: %s, not %s", c.value, c.target, got, c.want)
		}
	}
}

func TestTheMedianIsJudgedAndNotTheBestRun(t *testing.T) {
	table := Targets([]Result{{Target: PerCPU, Value: Figure{7, 20, 7.5}}})
	if !strings.Contains(table, "| 7.5 (7.0-20.0) x | 8.0 x | 12.0 x | missed |") {
		t.Error(table)
	}
}

func TestEveryTargetAimsAtMoreThanItAsksFor(t *testing.T) {
	for _, target := range []Target{
		PerCPU, WarmPerCPU, Rate, Peak, AgeMedian, Age99, AgeMost, MillionPeak, MillionRate, RestoreWhole, RestoreRestart, Replay, Idle,
	} {
		if target.Above != (target.Aim > target.AtLeast) || target.Aim == target.AtLeast {
			t.Errorf("%+v", target)
		}
	}
}

func TestATableHasAsManyColumnsInEachLine(t *testing.T) {
	table := Table([]string{"", "a", "b"}, [][]string{{"x", "1", "2"}, {"y", "3", ""}})
	want := "|  | a | b |\n|---|---:|---:|\n| x | 1 | 2 |\n| y | 3 |  |\n"
	if table != want {
		t.Errorf("%q, not %q", table, want)
	}
}
