package fleet

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// script is a program that stands for prtwatch: what a process does when it is told to end is
// all that this package must tell apart.
func script(t *testing.T, text string) (*Instance, chan Exit) {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "program")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	exits := make(chan Exit, 8)
	i := New("one", binary, filepath.Join(dir, "state"), filepath.Join(dir, "log"), nil, func(_ *Instance, e Exit) { exits <- e })
	t.Cleanup(func() { i.Kill() })
	return i, exits
}

func (i *Instance) starts(t *testing.T, point, says string) {
	t.Helper()
	if err := i.Start(Life{Point: point}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); says != "" && !i.Says(says); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never said %q", says)
		}
	}
}

func TestAnEndThatNobodyAskedForIsTold(t *testing.T) {
	i, exits := script(t, "echo the reason; exit 3")
	i.starts(t, "", "")
	e := <-exits
	if e.Asked || e.Code != 3 || e.Killed || e.Tail() == "" {
		t.Errorf("%+v", e)
	}
	if i.Running() {
		t.Error("it still counts as running")
	}
}

func TestAProcessThatKillsItselfAtItsPointIsToldFromOneThatWasKilled(t *testing.T) {
	i, exits := script(t, `echo "at $PRTWATCH_FAULT_POINT"; [ -n "$PRTWATCH_FAULT_POINT" ] && kill -9 $$; exec sleep 60`)
	i.starts(t, "here:1", "")
	if e := <-exits; e.Asked || !e.Killed || e.Life.Point != "here:1" {
		t.Errorf("at the point: %+v", e)
	}
	i.starts(t, "", "at ")
	if !i.Kill() {
		t.Error("nothing was killed")
	}
	if e := <-exits; !e.Asked || !e.Killed || e.Life.Point != "" {
		t.Errorf("killed: %+v", e)
	}
	if i.Kill() {
		t.Error("a process was killed that is gone")
	}
}

func TestStopGivesTheExitCodeAndEndsWhatHangs(t *testing.T) {
	i, exits := script(t, `trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
	i.starts(t, "", "ready")
	if e, took := i.Stop(10 * time.Second); e.Code != 0 || took > 9*time.Second {
		t.Errorf("code %d after %s", e.Code, took)
	}
	<-exits
	i, exits = script(t, `trap '' TERM; trap '' QUIT; echo ready; while :; do sleep 0.01; done`)
	i.starts(t, "", "ready")
	if e, took := i.Stop(50 * time.Millisecond); e.Code != -1 || took < 50*time.Millisecond {
		t.Errorf("code %d after %s, though it does not end", e.Code, took)
	}
	if e := <-exits; !e.Asked || !e.Killed {
		t.Errorf("%+v", e)
	}
}

func TestAFrozenProcessGoesOnWhereItWas(t *testing.T) {
	i, _ := script(t, `n=0; while :; do n=$((n+1)); echo "turn $n"; sleep 0.005; done`)
	i.starts(t, "", "turn 3")
	pid := i.PID()
	if i.Frozen() {
		t.Error("it is said to be frozen while it runs")
	}
	if !i.Freeze() {
		t.Fatal("nothing to freeze")
	}
	for deadline := time.Now().Add(10 * time.Second); !i.Frozen(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not said to be frozen")
		}
	}
	// What it had written when the signal came may be on its way still; then nothing more comes.
	var before int64
	for still := 0; still < 5; time.Sleep(20 * time.Millisecond) {
		if now := Size(filepath.Dir(i.Log)); now != before {
			before, still = now, 0
		} else {
			still++
		}
	}
	i.Thaw()
	for deadline := time.Now().Add(10 * time.Second); Size(filepath.Dir(i.Log)) == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not go on")
		}
	}
	if i.PID() != pid {
		t.Error("it is another process")
	}
}

func TestWhereItListensIsReadFromItsLogOfThisLife(t *testing.T) {
	i, exits := script(t, `echo 'level=INFO msg=running http=127.0.0.1:4711 stage=all'; exec sleep 60`)
	i.starts(t, "", "stage=all")
	if got := i.HTTP(); got != "127.0.0.1:4711" {
		t.Errorf("it listens on %q", got)
	}
	i.Kill()
	<-exits
	if got := i.HTTP(); got != "" {
		t.Errorf("a process that is gone listens on %q", got)
	}
}

func TestWhatLiesAsideIsNotOfTheState(t *testing.T) {
	i, _ := script(t, "exec sleep 60")
	for name, size := range map[string]int{"pebble": 100, "pebble.corrupt": 1000} {
		if err := os.MkdirAll(filepath.Join(i.Dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(i.Dir, name, "000004.sst"), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	i.starts(t, "", "")
	if u, ok := i.Usage(t.Context()); !ok || u.State != 100 || u.Memory == 0 {
		t.Errorf("%+v, %t", u, ok)
	}
}
