package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prtwatch/prtwatch/internal/oracle"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// million switches on what takes minutes, nearly all of them the oracle's: see .ci/run.
const million = "PRTWATCH_TEST_MILLION"

// A million sign-ins of both shapes through replay are the query's rows, in a memory that
// does not depend on how many they are.
func TestAMillionSignInsGiveTheQuerysRows(t *testing.T) {
	if os.Getenv(million) == "" {
		t.Skip("set " + million + "=1")
	}
	const n, most = 1_000_000, 200 << 20
	query, err := oracle.New(oracle.Options{OpenFarEdge: true})
	if err != nil {
		t.Fatal(err)
	}
	cmd := process(t, "replay", "-")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o := tenant.Options{Users: 700, Days: 30, Seed: 20261123, Shape: tenant.Mixed, Odd: 0.02}
	corpus(t, o, stdin, n, func(record []byte) { _ = query.Add(record) })
	memory := mostMemory(t, cmd)
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	if !strings.HasPrefix(stderr.String(), fmt.Sprintf("sign-ins:   %d ", n)) {
		t.Errorf("%s", &stderr)
	}
	ids, want := alertedIDs(t, stdout.String()), rowIDs(query)
	t.Logf("%d sign-ins: %d alerts, %d rows, %d MiB", n, len(ids), len(want), memory>>20)
	if !slices.Equal(ids, want) || len(want) < 100 {
		t.Errorf("%d alerts, %d rows", len(ids), len(want))
	}
	if memory > most {
		t.Errorf("it took %d MiB", memory>>20)
	}
}
