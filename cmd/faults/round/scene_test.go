package round

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
)

func TestAnEndThatMetDamageIsToldFromOthers(t *testing.T) {
	const met = `level=WARN msg="the state store is damaged: it is set aside, and the next start fills a fresh one from the baseline topic"`
	for _, e := range []struct {
		what string
		exit fleet.Exit
		met  bool
	}{
		{"set aside, with much said after it", fleet.Exit{Code: 1, Log: met + manyLines}, true},
		{"another error", fleet.Exit{Code: 1, Log: "prtwatch: something else"}, false},
		{"a store that was set aside at the start, and another error", fleet.Exit{
			Code: 1, Log: `level=WARN msg="the state store was damaged: it is set aside and filled again"` + "\nprtwatch: something else",
		}, false},
		{"a panic", fleet.Exit{Code: 2, Log: met}, false},
	} {
		if got := metDamage(e.exit); got != e.met {
			t.Errorf("%s: %t", e.what, got)
		}
	}
}

const manyLines = "\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n"

func TestAStateComesBackFromASmallDiskAsItWasThere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to mount a disk takes root")
	}
	dir := filepath.Join(t.TempDir(), "state")
	file := func(name string) string { return filepath.Join(dir, "pebble", name) }
	if err := os.MkdirAll(filepath.Join(dir, "pebble"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("old"), make([]byte, 10_000), 0o644); err != nil {
		t.Fatal(err)
	}
	back, err := ontoSmallDisk(dir, 8<<10)
	if errors.Is(err, os.ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("new"), make([]byte, 4<<10), 0o644); err != nil {
		t.Errorf("there is to be a little room: %v", err)
	}
	if err := os.WriteFile(file("large"), make([]byte, 64<<10), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing more than there is room for: %v", err)
	}
	if err := back(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"old", "new", "large"} {
		if _, err := os.Stat(file(name)); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(file("large"), make([]byte, 64<<10), 0o644); err != nil {
		t.Errorf("it is on the small disk still: %v", err)
	}
}

func TestAFullDiskExcusesOnlyAnEndThatNamesIt(t *testing.T) {
	const said = "prtwatch: flushing the state store: write 000012.sst: no space left on device"
	full := fleet.Life{Full: true}
	for _, e := range []struct {
		exit fleet.Exit
		met  bool
	}{
		{fleet.Exit{Code: 1, Life: full, Log: said}, true},
		{fleet.Exit{Code: 1, Life: full, Log: "prtwatch: something else"}, false},
		{fleet.Exit{Code: 1, Log: said}, false},
		{fleet.Exit{Code: -1, Life: full, Log: said}, false},
	} {
		if got := metFullDisk(e.exit); got != e.met {
			t.Errorf("%+v: %t", e.exit, got)
		}
	}
}
