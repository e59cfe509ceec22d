package round

import (
	"context"
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

func TestHowManyAlertsMayComeAgainFollowsFromTheFaultsAndWhatWasInHand(t *testing.T) {
	// Of 100,000 sign-ins 200 alert. A backlog of ten seconds, and then 400 a second, of which two
	// alert at the most.
	const signIns, rows, live = 100_000, 200, theft + 2
	began := time.Now()
	at := func(second float64) time.Time { return began.Add(time.Duration(second * float64(time.Second))) }
	var hands []inHand
	for second := range 60 {
		hands = append(hands, inHand{at(float64(second)), 400})
		if second <= 10 {
			hands[second].signIns = 80_000
		}
	}
	for _, c := range []struct {
		fault    string
		from, to float64
		want     int
	}{
		{plan.Stop, 5, 6, 0},
		{plan.Join, 25, 26, 0},
		{plan.Kill, 5, 5.1, theft + 40}, // 5,000 of each member
		{plan.Kill, 9.5, 9.6, theft + 40},
		{plan.Kill, 10.5, 10.6, live},
		{plan.Kill, 9.5, 20, theft + 40},
		{plan.Swapped, 20, 22, live},
		{plan.Leaders, 20, 22, 2 * live},
		{plan.Outage, 5, 20, theft + 160},
		{plan.BrokerKill, 5, 20, 2 * (theft + 160)},
		{plan.Kill, 59.5, 60, theft + 40}, // nobody knows what was in hand
	} {
		var spells []spell
		if undone[c.fault].instances > 0 {
			spells = []spell{{c.fault, at(c.from), at(c.to)}}
		}
		if got := mayRepeat(spells, hands, signIns, rows); got != c.want {
			t.Errorf("after a %s from %v s to %v: %d, not %d", c.fault, c.from, c.to, got, c.want)
		}
	}
	if got := mayRepeat([]spell{{plan.Kill, at(5), at(6)}}, hands, 1000, 3); got != 3 {
		t.Errorf("of three alerts %d may come again", got)
	}
}

func TestWhatMayHaveBeenInHandIsAllThatWasNotCommittedBefore(t *testing.T) {
	var w stillness
	if got := w.inHandNow(standing{0: {10, 30}, 1: {5, 5}}); got != 35 {
		t.Errorf("at first: %d", got)
	}
	w.see(time.Now(), standing{0: {10, 30}, 1: {5, 5}})
	if got := w.inHandNow(standing{0: {40, 40}, 1: {5, 6}}); got != 31 {
		t.Errorf("then: %d", got)
	}
}

func TestMoreAlertsAgainThanTheFaultsAccountForAreAFinding(t *testing.T) {
	const verdict = `echo '{"ok":true,"sign_ins":100000,"rows":200,"profiles":60,"repeated":31}'; echo "$@" >` + "\"$0.args\""
	for begun, wanted := range map[string]bool{plan.Join: true, plan.Swapped: true, plan.Outage: false} {
		s := sleepers(t, 0)
		s.Delivery, s.mu.result.Delivery, s.Dir = atLeastOnce, atLeastOnce, t.TempDir()
		s.Cluster, s.feeder, s.mu.result.Still.Detecting.For = &cluster.Cluster{}, &feeder.Feeder{}, 7*time.Second
		s.Verify = filepath.Join(s.Dir, "verify")
		if err := os.WriteFile(s.Verify, []byte("#!/bin/sh\n"+verdict+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		s.mu.hands = []inHand{{time.Now().Add(time.Hour), 6000}} // of which 24 alert, and four
		s.begun(begun, "all")
		s.carryOut(t.Context(), begun, &injection{"all", func(context.Context) (bool, string) { return true, "" }})
		if begun == plan.Outage { // another one
			s.carryOut(t.Context(), begun, &injection{"all", func(context.Context) (bool, string) { return true, "" }})
		}
		s.verify(t.Context())
		found := slices.ContainsFunc(s.mu.result.Findings, func(f Finding) bool { return f.Kind == "repeat" })
		if found != wanted || s.mu.result.Repeated() != 31 {
			t.Errorf("31 again after a %s: %+v", begun, s.mu.result.Findings)
		}
		args, err := os.ReadFile(s.Verify + ".args")
		if err != nil || !strings.Contains(string(args), "--again-within 47s") {
			t.Errorf("the verifier is not told how soon alerts come again: %v %s", err, args)
		}
	}
}
