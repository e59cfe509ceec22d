package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/fault"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// crashes switches on the test that kills a process between any two steps: see .ci/run.
const crashes = "PRTWATCH_TEST_CRASHES"

// build makes a program of this module in the test's folder.
func build(t *testing.T, dir, name, from string, flags ...string) string {
	t.Helper()
	program := filepath.Join(dir, name)
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build"}, flags...), "-o", program, from)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", from, err, out)
	}
	return program
}

// A process kills itself when it has done a step for the first time, or the second, and is started
// again: the alerts are the query's rows, once each where delivery is exactly once, and the verifier,
// which shares no code with it, finds nothing wrong in any topic nor in Pebble.
func TestACrashBetweenAnyTwoStepsChangesNothing(t *testing.T) {
	if os.Getenv(crashes) == "" {
		t.Skip("set " + crashes + "=1")
	}
	dir := t.TempDir()
	prtwatch, verifier := build(t, dir, "prtwatch", ".", "-tags", "faults"), build(t, dir, "verify", "../verify")
	for _, point := range fault.Points() {
		for passage := 1; passage <= 2; passage++ {
			t.Run(fmt.Sprintf("%s %d", point, passage), func(t *testing.T) {
				t.Parallel()
				in := newInstallation(t, brokertest.Start(t))
				in.program = prtwatch
				in.crash(point, passage)
				in.wantTheQuerysRows()
				in.wantVerified(verifier)
			})
		}
		t.Run(fmt.Sprintf("%s, at least once", point), func(t *testing.T) {
			t.Parallel()
			in := newInstallation(t, withoutTransactions(t))
			in.program, in.config = prtwatch, append(in.config, "--set", "delivery=at-least-once")
			in.crash(point, 1)
			in.wantEveryRow()
			in.wantVerified(verifier, "--delivery", "at-least-once")
		})
	}
}

// crash runs the installation with a process that dies at a point, and with one after it. What it
// reads lies there when it starts, for the order's sake, but for a last message: so that each
// step is done more than once.
func (in *installation) crash(point fault.Point, passage int) {
	in.t.Helper()
	// Of the last fortnight: nobody is away for so long that a tick would have him forgotten.
	const days = 14
	in.people(tenant.Options{Users: 10, Days: days, PerUserDay: 20, Thefts: 1000, Start: time.Now().Add(-days * 24 * time.Hour)})
	dir := in.t.TempDir()
	in.pour(1000)
	i := in.start(dir)
	in.done()
	i.stop()
	if strings.HasPrefix(string(point), "restore") {
		dir = in.t.TempDir()
	}

	in.pour(1000)
	i = in.startIn([]string{fmt.Sprintf("%s=%s:%d", fault.Env, point, passage)}, dir)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = i.cmd.Wait() }()
	dead := func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
	waitFor(in.t, "the process to die or be done", func() bool { return dead() || in.isDone() })
	in.pour(1)
	waitFor(in.t, "the process to die or be done", func() bool { return dead() || in.isDone() })
	_ = i.cmd.Process.Signal(syscall.SIGTERM)
	waitFor(in.t, "the process to end", dead)
	if status := i.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		in.t.Errorf("the process has not come by: %s", i.cmd.ProcessState)
	}

	i = in.start(dir)
	i.says("running")
	in.done()
	i.stop()
	in.dirs = append(in.dirs, dir)
}

// wantVerified has cmd/verify look at everything.
func (in *installation) wantVerified(verifier string, more ...string) {
	in.t.Helper()
	args := []string{
		"--brokers", strings.Join(in.b.Addrs(), ","), "--input", in.input, "--signins", in.signs, "--alerts", in.alerts,
		"--baseline", in.b.Name("baseline"), "--dead-letter", in.b.Name("dead-letter"),
		"--detect-group", in.b.Name("detect"), "--split-group", in.b.Name("split"),
	}
	for _, dir := range in.dirs {
		args = append(args, "--state", dir)
	}
	if out, err := exec.CommandContext(in.t.Context(), verifier, append(args, more...)...).CombinedOutput(); err != nil {
		in.t.Errorf("the verifier: %v\n%s", err, out)
	}
}
