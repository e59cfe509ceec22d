package round

import (
	"slices"
	"testing"

	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
)

func TestWhereAGroupIsNamesThePartitionsOfWhichSomethingIsLeft(t *testing.T) {
	at := standing{0: {10, 10}, 4: {0, 2}, 1: {3, 9}}
	if got, want := at.String(), "3 of 9 of partition 1, 0 of 2 of partition 4"; got != want || at.done() {
		t.Errorf("%q, not %q; done: %t", got, want, at.done())
	}
	if !(standing{0: {10, 10}, 1: {0, 0}, 2: {5, 4}}).done() {
		t.Error("nothing is left, and it is not done")
	}
}

func TestWhatAnInstanceMayTakeIsBounded(t *testing.T) {
	const users = 60
	for _, c := range []struct {
		took fleet.Usage
		want []string
	}{
		{fleet.Usage{Memory: 126 << 20, Goroutines: 130, State: 1 << 20}, nil},
		{fleet.Usage{Memory: 301 << 20}, []string{"an instance had 315621376 bytes of memory, and may have 314572800"}},
		{fleet.Usage{Goroutines: 401}, []string{"an instance had 401 goroutines, and may have 400"}},
		{fleet.Usage{State: 2 << 20}, []string{"an instance had 2097152 bytes of state, and may have 2031616"}},
	} {
		if got := grown(c.took, users); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q", c.took, got)
		}
	}
	if got := grown(fleet.Usage{State: 2 << 20}, 2*users); len(got) > 0 {
		t.Errorf("of twice as many users: %q", got)
	}
	if !slices.Contains(Kinds, "growth") {
		t.Error("the report does not list them")
	}
}
