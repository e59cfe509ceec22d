package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/cmd/bench/contender"
	"github.com/prtwatch/prtwatch/cmd/bench/corpus"
)

func TestAQuickRunIsSmallUnlessToldOtherwise(t *testing.T) {
	b := &bench{stderr: new(bytes.Buffer)}
	if err := b.parse([]string{"--quick", "--users", "300"}); err != nil {
		t.Fatal(err)
	}
	if b.times != 1 || b.users != 300 || b.lasts > 10*time.Second {
		t.Errorf("%+v", b.options)
	}
}

func TestGrowthIsMeasuredOnlyWhenItIsNamed(t *testing.T) {
	for args, want := range map[string]string{
		"":                           "table latency million replay idle",
		"--only growth":              "growth",
		"--only idle --only latency": "latency idle",
	} {
		b := &bench{stderr: new(bytes.Buffer)}
		if err := b.parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range measurements {
			if b.wanted(m) {
				got = append(got, m.name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q measures %s, not %s", args, got, want)
		}
	}
}

func TestAMistakeOfTheCommandLineIsNamed(t *testing.T) {
	for args, want := range map[string]string{
		"--only nothing":  "none of table, latency",
		"--times 0":       "--times 0: at least 1 is needed",
		"--users 0":       "--users 0: at least 1 is needed",
		"--state-users 0": "--state-users 0: at least 1 is needed",
		"--for 2h":        "--for 2h0m0s: is not within 1s and 50m0s",
		"--set x":         "is not KEY=VALUE",
		"more":            "more: takes no arguments",
	} {
		var stdout, stderr bytes.Buffer
		if code := run(strings.Fields(args), &stdout, &stderr); code != exitWrong || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: %d %s", args, code, &stderr)
		}
	}
}

func TestAFolderThatHasSomethingInItIsNotDeleted(t *testing.T) {
	full, missing := t.TempDir(), filepath.Join(t.TempDir(), "new")
	if err := os.WriteFile(filepath.Join(full, "letter"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := emptyFolder(&full); err == nil || !strings.HasPrefix(err.Error(), "--dir "+full+": is not empty") {
		t.Error(err)
	}
	if err := emptyFolder(&missing); err != nil {
		t.Error(err)
	}
}

func TestAlertsAreComparedWithTheRowsOneByOne(t *testing.T) {
	c := &corpus.Corpus{SignIns: 100, Rows: map[string]bool{"a": true, "b": true, "c": true}}
	var f figures
	f.add(contender.Outcome{Wall: 2 * time.Second, CPU: time.Second, Flowing: true, Alerts: map[string]int{"a": 1, "b": 3, "x": 1}}, c)
	if f.alerts != 3 || f.missing != 1 || f.madeUp != 1 || f.doubled != 2 {
		t.Errorf("%+v", f)
	}
	if f.rate.Median() != 50 || f.perCPU.Median() != 100 || len(f.warmRate) != 0 {
		t.Errorf("%+v", f)
	}
	b := &bench{corpus: c}
	b.differs(contender.Streams{}, 1, &f)
	if len(b.wrong) > 0 {
		t.Error(b.wrong)
	}
	b.differs(contender.Prtwatch{}, 1, &f)
	if len(b.wrong) != 1 {
		t.Error(b.wrong)
	}
}
