package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prtwatch/prtwatch/cmd/bench/report"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

func TestASetupDiffersFromTheBaseInItsFactorOnly(t *testing.T) {
	base, all := factors(manyUsers)
	grown := make(map[*int]bool)
	for _, f := range all {
		setups := f.setups(base)
		if !slices.Contains(setups, base) {
			t.Errorf("%s: the base is not among %v", f.name, f.values)
		}
		grown[f.of(&base)] = true
		for i, s := range setups {
			if got := *f.of(&s); got != f.values[i] {
				t.Errorf("%s: %d, not %d", f.name, got, f.values[i])
			}
			if *f.of(&s) = *f.of(&base); s != base {
				t.Errorf("%s: %+v differs from %+v in more", f.name, s, base)
			}
		}
	}
	if fields := reflect.TypeFor[setup]().NumField(); len(grown) != fields {
		t.Errorf("%d of %d fields grow", len(grown), fields)
	}
}

func TestAHotUserMakesHisShareAndTheFirstCopyIsAlwaysThere(t *testing.T) {
	const n = 20_000
	in := &input{copies: 1000}
	for _, hot := range []int{0, 10, 50} {
		pick := in.pick(setup{hot: hot})
		his, first := 0, 0
		for i := range n {
			copyNumber, user := pick(i, tenant.SignIn{ID: fmt.Sprintf("%036d", i), User: 1 + i%49})
			switch {
			case copyNumber == 0 && user == 0:
				his++
			case copyNumber == 0:
				first++
			case copyNumber < 0 || copyNumber >= in.copies || user != 1+i%49:
				t.Fatalf("copy %d, user %d", copyNumber, user)
			}
		}
		if got := 100 * his / n; got < hot-1 || got > hot+1 {
			t.Errorf("%d %% are the hot user's, not %d", got, hot)
		}
		if want := n / 50 * (100 - hot) / 100; first < want*8/10 || first > want*12/10 {
			t.Errorf("%d are others' of the first copy, not some %d", first, want)
		}
	}
}

func TestAlertsOfTheFirstCopyAreTheQuerysAndOfTheOthersTheSameEachTime(t *testing.T) {
	right := func() map[string]int { return map[string]int{"row": 1, "of another copy": 1} }
	in := &input{judged: map[string]bool{"row": true, "no row": false}}
	for range 2 {
		if wrong := in.check(right()); wrong != "" {
			t.Error(wrong)
		}
	}
	for want, change := range map[string]func(map[string]int){
		"1 of the query's rows missing": func(a map[string]int) { delete(a, "row") },
		"1 made up":                     func(a map[string]int) { a["no row"] = 1 },
		"2 doubled":                     func(a map[string]int) { a["of another copy"] = 3 },
		"1 alerts, 2 in the first run":  func(a map[string]int) { delete(a, "of another copy") },
	} {
		alerts := right()
		change(alerts)
		if wrong := in.check(alerts); !strings.Contains(wrong, want) {
			t.Errorf("%q, not %q", wrong, want)
		}
	}
}

func TestTheTablesOfGrowthCompareEachTurnWithTheBase(t *testing.T) {
	g := &growth{bench: &bench{options: options{times: 2, stateUsers: manyUsers}}, taken: make(map[setup]*costs)}
	base, all := factors(manyUsers)
	for _, f := range all {
		for _, s := range f.setups(base) {
			g.taken[s] = &costs{figures: figures{perCPU: report.Figure{100, 200}}}
		}
	}
	large := base
	large.users = manyUsers
	g.taken[large] = &costs{figures: figures{perCPU: report.Figure{50, 150}}}
	g.report(base, all)
	text := strings.Join(g.sections, "\n")
	for _, want := range []string{"| 1,000,000 |  | 100 (50-150) |", "| 1,000,000 |  | 0.62 (0.50-0.75) |", "| 10,000 |  | 1.00 (1.00-1.00) |"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

func TestTheSizeOfAFolderIsThatOfItsFilesHoweverDeep(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"x": 1, "a/y": 20, "a/b/z": 300} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := folderSize(dir); err != nil || got != 321 {
		t.Errorf("%d bytes, %v", got, err)
	}
	if _, err := folderSize(filepath.Join(dir, "missing")); err == nil {
		t.Error("no error of a folder that is not there")
	}
}
