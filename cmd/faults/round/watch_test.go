package round

import (
	"testing"
	"time"
)

func TestAPartitionThatStandsStillIsSeenWhileOthersMove(t *testing.T) {
	began := time.Now()
	var w stillness
	var longest time.Duration
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
		longest = max(longest, w.see(began.Add(time.Duration(second)*time.Second), at))
	}
	if longest != 3*time.Second {
		t.Errorf("partition 1 stood still for 3s, not %s", longest)
	}
}

func TestWhereAGroupIsNamesThePartitionsOfWhichSomethingIsLeft(t *testing.T) {
	at := standing{0: {10, 10}, 4: {0, 2}, 1: {3, 9}}
	if got, want := at.String(), "3 of 9 of partition 1, 0 of 2 of partition 4"; got != want || at.done() {
		t.Errorf("%q, not %q; done: %t", got, want, at.done())
	}
	if !(standing{0: {10, 10}, 1: {0, 0}, 2: {5, 4}}).done() {
		t.Error("nothing is left, and it is not done")
	}
}
