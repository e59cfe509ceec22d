package round

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/cmd/faults/cluster"
	"github.com/prtwatch/prtwatch/cmd/faults/feeder"
	"github.com/prtwatch/prtwatch/cmd/faults/plan"
)

func TestEachFaultSaysWhatItMayUndo(t *testing.T) {
	for _, f := range plan.Faults {
		if _, ok := undone[f.Name]; !ok {
			t.Errorf("%s does not", f.Name)
		}
	}
	if len(undone) != len(plan.Faults) {
		t.Error("there is one of no fault")
	}
}

func TestHowManyAlertsMayComeAgainFollowsFromTheFaults(t *testing.T) {
	// Of 100,000 sign-ins 200 alert: of 5,000 ten do, and at the densest twenty.
	const signIns, rows, work = 100_000, 200, 20
	for _, c := range []struct {
		result Result
		want   int
	}{
		{Result{Begun: map[string]int{plan.Stop: 20, plan.Join: 20}}, 0},
		{Result{Begun: map[string]int{plan.Kill: 1, plan.Nap: 1}}, 4 * work},
		{Result{Begun: map[string]int{plan.Point: 1}, Damaged: 1}, 6 * work},
		{Result{Begun: map[string]int{plan.Outage: 1}}, 8 * work},
		{Result{Begun: map[string]int{plan.Leaders: 1}}, 16 * work},
	} {
		c.result.Delivery = atLeastOnce
		if got := c.result.mayRepeat(signIns, rows); got != c.want {
			t.Errorf("after %v: %d, not %d", c.result.Begun, got, c.want)
		}
		c.result.Delivery = "exactly-once"
		if got := c.result.mayRepeat(signIns, rows); got != 0 {
			t.Errorf("exactly once, after %v: %d", c.result.Begun, got)
		}
	}
	few := Result{Delivery: atLeastOnce, Begun: map[string]int{plan.Kill: 1}}
	if got := few.mayRepeat(1000, 7); got != members*7 {
		t.Errorf("of seven alerts %d may come again", got)
	}
}

func TestMoreAlertsAgainThanTheFaultsAccountForAreAFinding(t *testing.T) {
	const verdict = `echo '{"ok":true,"sign_ins":100000,"rows":200,"profiles":60,"repeated":41}'; echo "$@" >` + "\"$0.args\""
	for begun, wanted := range map[string]bool{plan.Join: true, plan.Kill: true, plan.Swapped: false} {
		s := sleepers(t, 0)
		s.Delivery, s.mu.result.Delivery, s.Dir = atLeastOnce, atLeastOnce, t.TempDir()
		s.Cluster, s.feeder, s.mu.result.Still.Detecting = &cluster.Cluster{}, &feeder.Feeder{}, 7*time.Second
		s.Verify = filepath.Join(s.Dir, "verify")
		if err := os.WriteFile(s.Verify, []byte("#!/bin/sh\n"+verdict+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		s.begun(begun, "one")
		s.verify(t.Context())
		found := slices.ContainsFunc(s.mu.result.Findings, func(f Finding) bool { return f.Kind == "repeat" })
		if found != wanted || s.mu.result.Repeated() != 41 {
			t.Errorf("41 again after a %s: %+v", begun, s.mu.result.Findings)
		}
		args, err := os.ReadFile(s.Verify + ".args")
		if err != nil || !strings.Contains(string(args), "--again-within 47s") {
			t.Errorf("the verifier is not told how soon alerts come again: %v %s", err, args)
		}
	}
}
