package main

import (
	"strings"
	"testing"

	"github.com/prtwatch/prtwatch/cmd/faults/round"
)

func TestTheTableHasALineForEachProtocolAndDeliveryWithTheSumsOfItsRounds(t *testing.T) {
	verdict := func(alerts, missing float64) *round.Verdict {
		return &round.Verdict{Raw: map[string]any{"sign_ins": 10_000.0, "alerts": alerts, "missing": missing, "profiles": 60.0, "repeated": 1.0, "unsplit": 2.0, "stuck": 3.0}}
	}
	s := &suite{results: []round.Result{
		{Protocol: "classic", Delivery: "exactly-once", Injected: map[string]int{"kill": 20, "point": 3, "point detect-kept": 3}, Verdict: verdict(70, 0)},
		{Protocol: "classic", Delivery: "at-least-once", Injected: map[string]int{"nap": 1}, MayRepeat: 40, Verdict: verdict(75, 0)},
		{Protocol: "consumer", Delivery: "at-least-once", MayRepeat: 80, Injected: map[string]int{"cut": 7}, Verdict: verdict(80, 2), Findings: []round.Finding{{Kind: "verify"}}},
		{Protocol: "classic", Delivery: "exactly-once", Injected: map[string]int{"kill": 10}, Findings: []round.Finding{{Kind: "suite"}}},
	}}
	var b strings.Builder
	s.protocolTable(&b)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 5 {
		t.Fatalf("%d lines:\n%s", len(lines), b.String())
	}
	for at, want := range map[int]string{
		2: "| classic, exactly-once (1 of 2 rounds verified) | 33 | 10,000 | 70 | 0 | 0 | 0 | 0 | 1 of 0 | 0 of 60 | 0 of 0 | 5 | 1 | 0s |",
		3: "| classic, at-least-once | 1 | 10,000 | 75 | 0 | 0 | 0 | 0 | 1 of 40 | 0 of 60 | 0 of 0 | 5 | 0 | 0s |",
		4: "| consumer, at-least-once | 7 | 10,000 | 80 | 2 | 0 | 0 | 0 | 1 of 80 | 0 of 60 | 0 of 0 | 5 | 0 | 0s |",
	} {
		if lines[at] != want {
			t.Errorf("line %d is\n%s, not\n%s", at, lines[at], want)
		}
	}
}
