package plan

import (
	"math/rand/v2"
	"slices"
	"testing"
)

type drawn struct {
	after  int64
	faults string
	chance uint64
}

func draw(seed uint64, round, n int, faults []Fault) []drawn {
	p := New(seed, round, Pace, faults)
	var all []drawn
	for range n {
		s := p.Next()
		names := ""
		for _, f := range s.Faults {
			names += f + " "
		}
		all = append(all, drawn{int64(s.After), names, s.Random.Uint64()})
	}
	return all
}

func TestTheSameSeedGivesTheSamePlan(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	one, two := draw(seed, 3, 200, Faults), draw(seed, 3, 200, Faults)
	if !slices.Equal(one, two) {
		t.Error("two plans of one seed and round differ")
	}
	if slices.Equal(one, draw(seed, 4, 200, Faults)) {
		t.Error("another round has the same plan")
	}
	if slices.Equal(one, draw(seed+1, 3, 200, Faults)) {
		t.Error("another seed has the same plan")
	}
}

func TestEveryFaultComesAndEveryStepHasAllToFallBackOn(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p := New(seed, 1, Pace, Faults)
	first := make(map[string]int)
	for range 2000 {
		s := p.Next()
		if s.After < Pace/2 || s.After >= Pace*3/2 {
			t.Fatalf("a pause of %s", s.After)
		}
		first[s.Faults[0]]++
		if len(s.Faults) != len(Faults) {
			t.Fatalf("a step has %d faults", len(s.Faults))
		}
		slices.Sort(s.Faults)
		if len(slices.Compact(s.Faults)) != len(Faults) {
			t.Fatal("a step names a fault twice")
		}
	}
	for _, f := range Faults {
		if first[f.Name] == 0 {
			t.Errorf("of 2,000 steps none begins with %s", f.Name)
		}
		if f.About == "" || f.weight <= 0 {
			t.Errorf("fault %s has no line that says what it is, or no weight", f.Name)
		}
	}
}

func TestOnlyWhatIsNamedComes(t *testing.T) {
	some, err := Find([]string{Freeze, Swapped})
	if err != nil {
		t.Fatal(err)
	}
	p := New(1, 1, Pace, some)
	for range 100 {
		for _, name := range p.Next().Faults {
			if name != Freeze && name != Swapped {
				t.Fatalf("%s came, which was not asked for", name)
			}
		}
	}
	if _, err := Find([]string{"freez"}); err == nil {
		t.Error("a fault that is none was found")
	}
}
