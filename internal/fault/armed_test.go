//go:build faults

package fault

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestMain is the test, or, where a step is armed, the process that comes by it three times.
func TestMain(m *testing.M) {
	if armed == "" {
		os.Exit(m.Run())
	}
	for n := range 3 {
		Pass(DetectJudged)
		Pass(DetectProduced)
		fmt.Println(n + 1)
	}
}

func process(t *testing.T, arm string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), Env+"="+arm)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

func TestAProcessKillsItselfAtItsStep(t *testing.T) {
	cmd, said := process(t, "detect-produced:2")
	if !said.Scan() || said.Text() != "1" || said.Scan() {
		t.Errorf("it said %q last", said.Text())
	}
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", err)
	}
}

func TestAProcessStopsItselfAtItsStepAndGoesOnThere(t *testing.T) {
	cmd, said := process(t, "detect-produced:2"+Stops)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("it has not stopped: %#x, %v", status, err)
	}
	if !said.Scan() || said.Text() != "1" {
		t.Errorf("it said %q before", said.Text())
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2", "3"} {
		if !said.Scan() || said.Text() != want {
			t.Errorf("it said %q after, not %s", said.Text(), want)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestAWrongStepIsRefused(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), Env+"=detect-produced:x"), io.Discard
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("it ended with %v", err)
	}
}
