package main

import "testing"

func TestARoundOfAListCanBeHadAgainByItself(t *testing.T) {
	all, err := parseTurns("4,4,0,9", "both", "exactly-once,exactly-once,exactly-once,at-least-once")
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]turn{
		1: {4, 1, "classic", "exactly-once"},
		2: {4, 1, "consumer", "exactly-once"},
		3: {all.seeds[2], 1, "classic", "exactly-once"},
		4: {9, 1, "consumer", "at-least-once"},
		6: {4, 2, "consumer", "exactly-once"},
	} {
		if got := all.of(n); got != want {
			t.Errorf("round %d has %+v, not %+v", n, got, want)
		}
	}
	if all.seeds[2] == 0 {
		t.Error("no seed was drawn")
	}
	alone, err := parseTurns("9", "consumer", "at-least-once")
	if err != nil {
		t.Fatal(err)
	}
	if alone.of(1) != all.of(4) {
		t.Errorf("by itself it is %+v", alone.of(1))
	}
}

func TestAListNamesOnlyWhatThereIs(t *testing.T) {
	for _, wrong := range [][3]string{
		{"x", "both", "exactly-once"}, {"1,", "both", "exactly-once"}, {"1", "classic,new", "exactly-once"}, {"1", "both", ""},
	} {
		if _, err := parseTurns(wrong[0], wrong[1], wrong[2]); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}
