package round

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
	"github.com/prtwatch/prtwatch/cmd/faults/plan"
)

// sleepers is a scene of so many instances that do nothing, and of no broker.
func sleepers(t *testing.T, n int) *scene {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "program")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\nexec sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := &scene{backlog: make(chan backlog), Options: Options{Log: t.Logf}}
	s.mu.result = Result{Injected: map[string]int{}, Begun: map[string]int{}}
	for range n {
		i := fleet.New("one", binary, filepath.Join(dir, "state"), filepath.Join(dir, "log"), nil, func(*fleet.Instance, fleet.Exit) {})
		i.Want(true)
		s.start(i)
		t.Cleanup(func() { i.Kill() })
		s.instances = append(s.instances, i)
	}
	return s
}

// inflicts has the scene carry out a fault, and returns how many were counted.
func (s *scene) inflicts(ctx context.Context, t *testing.T, name string) int {
	t.Helper()
	in := s.claims()[name](rand.New(rand.NewPCG(1, 1)))
	if in == nil {
		t.Fatalf("%s cannot be injected", name)
	}
	s.begun(name, in.target)
	s.carryOut(ctx, name, in)
	if s.mu.result.Begun[name] == 0 {
		t.Errorf("%s was not begun", name)
	}
	return s.mu.result.Injected[name]
}

func TestAFaultThatTheRoundsEndCutsShortIsNotCounted(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for _, name := range []string{plan.Freeze, plan.Nap, plan.Crash} {
		if n := sleepers(t, 1).inflicts(ended, t, name); n != 0 {
			t.Errorf("%s was cut short, and is counted", name)
		}
	}
	if n := sleepers(t, 1).inflicts(ended, t, plan.Kill); n != 1 { // takes no time
		t.Error("a kill is not counted")
	}
	if n := sleepers(t, 1).inflicts(t.Context(), t, plan.Nap); n != 1 {
		t.Error("a nap is not counted")
	}
}

func TestAnOutageForWhichNoHoursAreLeftIsNotCounted(t *testing.T) {
	for _, hours := range []int{0, 1} {
		s := sleepers(t, 2)
		go func() { (<-s.backlog).written <- hours }()
		if n := s.inflicts(t.Context(), t, plan.Outage); n != hours {
			t.Errorf("with %d hours to write %d are counted", hours, n)
		}
	}
	s := sleepers(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go s.refuseBacklogs(ctx)
	if n := s.inflicts(ctx, t, plan.Outage); n != 0 {
		t.Error("one that was refused is counted")
	}
}

func TestAnOlderStateNeedsNoOtherFaultToBeThere(t *testing.T) {
	s := sleepers(t, 1)
	dir := s.instances[0].Dir
	held := filepath.Join(dir, "held")
	for n, text := range []string{"yesterday's", "today's"} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(held, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
		if counted := s.inflicts(t.Context(), t, plan.Older); counted != n {
			t.Fatalf("time %d: %d are counted", n+1, counted)
		}
	}
	if text, err := os.ReadFile(held); err != nil || string(text) != "yesterday's" {
		t.Errorf("the state has %q, %v", text, err)
	}
}
