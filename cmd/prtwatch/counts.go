package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/prtwatch/prtwatch/detector"
)

// counts is what a replay found, for standard error.
type counts struct {
	begun      time.Time
	signIns    int
	first      time.Time // the earliest and latest time of a sign-in
	last       time.Time
	outcomes   map[string]int
	alerts     map[string]int // by reason
	late       int
	skipped    int
	unreadable map[string]int // by reason
}

func newCounts() *counts {
	return &counts{begun: time.Now(), outcomes: map[string]int{}, alerts: map[string]int{}, unreadable: map[string]int{}}
}

func (c *counts) add(s *detector.SignIn, v detector.Verdict) {
	c.signIns++
	if c.signIns == 1 || s.Generated.Before(c.first) {
		c.first = s.Generated
	}
	if s.Generated.After(c.last) {
		c.last = s.Generated
	}
	c.outcomes[v.Outcome.String()]++
	if v.Alert != nil {
		c.alerts[string(v.Alert.Reason)]++
	}
	if v.Late {
		c.late++
	}
}

// print writes a line for each count, zero or not, so that scripts find it.
func (c *counts) print(w io.Writer) {
	took := time.Since(c.begun)
	between := ""
	if c.signIns > 0 {
		between = fmt.Sprintf(" from %s to %s", c.first.Format(time.RFC3339), c.last.Format(time.RFC3339))
	}
	fmt.Fprintf(w, "sign-ins:   %d%s\n", c.signIns, between)
	fmt.Fprintf(w, "alerts:     %s\n", sumOf(c.alerts))
	fmt.Fprintf(w, "outcomes:   %s\n", sumOf(c.outcomes))
	fmt.Fprintf(w, "late:       %d\n", c.late)
	fmt.Fprintf(w, "skipped:    %d of other categories\n", c.skipped)
	fmt.Fprintf(w, "unreadable: %s\n", sumOf(c.unreadable))
	fmt.Fprintf(w, "took:       %s, %s sign-ins a second\n", took.Round(10*time.Millisecond), humanize.Comma(int64(float64(c.signIns)/max(took.Seconds(), 1e-3))))
}

// sumOf is the sum and what it is made of, the most first.
func sumOf(by map[string]int) string {
	sum := 0
	names := slices.SortedFunc(maps.Keys(by), func(a, b string) int { return cmp.Or(by[b]-by[a], cmp.Compare(a, b)) })
	var parts []string
	for _, name := range names {
		sum += by[name]
		parts = append(parts, fmt.Sprintf("%s %d", name, by[name]))
	}
	if sum == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", sum, strings.Join(parts, ", "))
}
