package round

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAPartitionThatStandsStillIsSeenWhileOthersMove(t *testing.T) {
	began := time.Now()
	var w stillness
	var longest Standstill
	for second, at := range []standing{
		{0: {10, 10}, 1: {3, 9}, 2: {5, 5}},
		{0: {20, 30}, 1: {3, 9}, 2: {5, 5}},
		{0: {30, 40}, 1: {3, 12}, 2: {5, 5}},
		{0: {40, 50}, 1: {3, 12}, 2: {5, 5}},
		{0: {50, 50}, 1: {4, 12}, 2: {5, 5}},
		{0: {50, 50}, 1: {4, 12}, 2: {5, 6}}, // what has just come has not waited
		{0: {50, 50}, 1: {12, 12}, 2: {6, 6}},
		{0: {50, 50}, 1: {12, 12}, 2: {6, 6}}, // nothing to do is no standstill
		{0: {50, 50}, 1: {12, 12}, 2: {6, 6}},
		{0: {50, 50}, 1: {12, 12}, 2: {6, 6}},
	} {
		longest = longest.longer(w.see(began.Add(time.Duration(second)*time.Second), at))
	}
	if longest.Partition != 1 || longest.From != began || longest.For != 3*time.Second {
		t.Errorf("partition 1 stood still for 3 s from the beginning, and not %+v", longest)
	}
}

func TestAStandstillThatFaultsDoNotExplainIsAFindingThatNamesThem(t *testing.T) {
	began := time.Now()
	for _, c := range []struct {
		still time.Duration
		found bool
	}{{59 * time.Second, false}, {61 * time.Second, true}} {
		s := &scene{Options: Options{Log: t.Logf}}
		var err error
		if s.journal, err = os.Create(t.TempDir() + "/journal"); err != nil {
			t.Fatal(err)
		}
		for second, name := range map[int]string{-20: "long before", -3: "cause", 5: "meanwhile", 62: "after"} {
			s.mu.events = append(s.mu.events, entry{Time: began.Add(time.Duration(second) * time.Second), What: "fault", Name: name, Target: "slot1"})
		}
		slices.SortFunc(s.mu.events, func(a, b entry) int { return a.Time.Compare(b.Time) })
		s.mu.result.Still.Detecting = Standstill{Partition: 3, From: began, For: c.still}
		s.boundStandstill()
		if want := []string{"-3.0 fault cause slot1", "+5.0 fault meanwhile slot1"}; !slices.Equal(s.mu.result.Still.Detecting.Amid, want) {
			t.Errorf("amid %q, not %q", s.mu.result.Still.Detecting.Amid, want)
		}
		found := s.mu.result.Findings
		if (len(found) > 0) != c.found || c.found && (found[0].Kind != "still" || !strings.Contains(found[0].Text, "partition 3, 61.0 s")) {
			t.Errorf("after %s: %v", c.still, found)
		}
	}
	if !slices.Contains(Kinds, "still") {
		t.Error("the report does not list them")
	}
}
