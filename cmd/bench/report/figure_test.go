package report

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestTheMedianIsInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		of   Figure
		want float64
	}{{Figure{3}, 3}, {Figure{5, 1}, 3}, {Figure{9, 1, 2}, 2}, {Figure{4, 1, 100, 2}, 3}} {
		kept := slices.Clone(c.of)
		if got := c.of.Median(); got != c.want {
			t.Errorf("median of %v is %v, not %v", c.of, got, c.want)
		}
		if !slices.Equal(kept, c.of) {
			t.Errorf("%v became %v", kept, c.of)
		}
	}
	if got := (Figure{}).Median(); !math.IsNaN(got) {
		t.Errorf("median of nothing is %v", got)
	}
}

func TestAsManyValuesLieAboveAMedianAsBelow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Figure(rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), 1, 20).Draw(t, "values"))
		above, below := 0, 0
		for _, x := range f {
			if x > f.Median() {
				above++
			}
			if x < f.Median() {
				below++
			}
		}
		if 2*above > len(f) || 2*below > len(f) {
			t.Fatalf("%d above, %d below %v", above, below, f.Median())
		}
	})
}

func TestRatiosAreOfTheSameTurn(t *testing.T) {
	got := Figure{10, 30, 50}.Over(Figure{5, 10})
	if !slices.Equal(got, Figure{2, 3}) {
		t.Errorf("%v", got)
	}
	if got := (Figure{1, 2}).Over(Figure{0, 4}); !slices.Equal(got, Figure{0.5}) {
		t.Errorf("%v", got)
	}
}

func TestFiguresReadAsNumbers(t *testing.T) {
	for _, c := range []struct {
		figure Figure
		digits int
		want   string
	}{
		{nil, 0, ""},
		{Figure{0.456}, 2, "0.46"},
		{Figure{999}, 0, "999"},
		{Figure{1000}, 0, "1,000"},
		{Figure{123456.78}, 1, "123,456.8"},
		{Figure{1234567}, 0, "1,234,567"},
		{Figure{-1234}, 0, "-1,234"},
		{Figure{-123456}, 0, "-123,456"},
		{Figure{3, 1, 2}, 1, "2.0 (1.0-3.0)"},
	} {
		if got := c.figure.Text(c.digits); got != c.want {
			t.Errorf("%v: %q, not %q", c.figure, got, c.want)
		}
	}
}

func TestAPercentileIsTheNearestRank(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for share, want := range map[float64]int{0: 1, 0.001: 1, 0.5: 50, 0.99: 99, 0.991: 100, 1: 100} {
		if got := Percentile(hundred, share); got != want {
			t.Errorf("%v of 100: %d, not %d", share, got, want)
		}
	}
	if got := Percentile([]int{7}, 0.99); got != 7 {
		t.Error(got)
	}
	if got := Percentile([]int(nil), 0.5); got != 0 {
		t.Error(got)
	}
}
