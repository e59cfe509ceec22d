package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// long makes tests of what takes its time take it: see .ci/nightly.
const long = "PRTWATCH_TEST_LONG"

// longOnly skips a test but where PRTWATCH_TEST_LONG is set.
func longOnly(t *testing.T) {
	t.Helper()
	if os.Getenv(long) == "" {
		t.Skip("set " + long + "=1")
	}
}

// scaled is how much of a thing there is: little, or all of it where PRTWATCH_TEST_LONG is set.
func scaled[T any](little, all T) T {
	if os.Getenv(long) != "" {
		return all
	}
	return little
}

// mostOfFew is what no instance may take, whatever it is given, while its cache (state.cache) is not filled.
const mostOfFew = 400 << 20

// raceDetected reports whether this is run under the race detector, which takes memory, and time, of its own.
func raceDetected() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// instance is a running prtwatch.
type instance struct {
	t   *testing.T
	cmd *exec.Cmd
	log *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs prtwatch as a process with its state in dir.
func (in *installation) start(dir string, args ...string) *instance {
	in.t.Helper()
	return in.startIn(nil, dir, args...)
}

// startAt is start with the input read at an address of its own.
func (in *installation) startAt(addr, dir string, args ...string) *instance {
	in.t.Helper()
	return in.start(dir, append(args, in.inputAt(addr)...)...)
}

// startIn is start with more environment.
func (in *installation) startIn(environment []string, dir string, args ...string) *instance {
	in.t.Helper()
	cmd := process(in.t, append(append([]string{"run", "--set", "state.dir=" + dir}, in.config...), args...)...)
	if in.program != "" {
		cmd.Path, cmd.Args[0] = in.program, in.program
	}
	cmd.Env = append(cmd.Env, environment...)
	i := &instance{t: in.t, cmd: cmd, log: new(lockedBuffer)}
	cmd.Stderr = i.log
	if err := cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() {
		if in.t.Failed() {
			in.t.Logf("log of the instance in %s:\n%s", dir, i.log)
		}
	})
	return i
}

// stop sends SIGTERM and wants exit code 0 within 10 s.
func (i *instance) stop() {
	i.t.Helper()
	start := time.Now()
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		i.t.Fatal(err)
	}
	if err := i.cmd.Wait(); err != nil {
		i.t.Errorf("after SIGTERM: %v, want exit code 0", err)
	}
	took := time.Since(start)
	i.t.Logf("ended %s after SIGTERM", took)
	if took > 10*time.Second {
		i.t.Error("want at most 10 s")
	}
}

// says waits until the process has logged text.
func (i *instance) says(text string) {
	i.t.Helper()
	waitFor(i.t, "the log to say "+text, func() bool { return strings.Contains(i.log.String(), text) })
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	patience := scaled(5*time.Minute, 30*time.Minute) // millions of sign-ins take their time
	for deadline := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// kill ends the process at once.
func (i *instance) kill() {
	i.t.Helper()
	if err := i.cmd.Process.Kill(); err != nil {
		i.t.Fatal(err)
	}
	_ = i.cmd.Wait()
}

// signal sends the process a signal that does not end it.
func (i *instance) signal(s syscall.Signal) {
	i.t.Helper()
	if err := i.cmd.Process.Signal(s); err != nil {
		i.t.Fatal(err)
	}
}

// address is where the process serves HTTP, as it logs when it runs.
func (i *instance) address() string {
	i.t.Helper()
	i.says("running")
	return regexp.MustCompile(`http=(\S+)`).FindStringSubmatch(i.log.String())[1]
}

// metric is the sum of a metric over its labels; 0 where there is none.
func (i *instance) metric(name string) (sum float64) {
	i.t.Helper()
	response, err := http.Get("http://" + i.address() + "/metrics")
	if err != nil {
		i.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
		if err != nil {
			i.t.Fatalf("reading metric %s: %v", name, err)
		}
		sum += value
	}
	return sum
}

// wantBoundedMemory checks what the process has taken at its peak.
func (i *instance) wantBoundedMemory(most int64) {
	i.t.Helper()
	memory := mostMemory(i.t, i.cmd)
	i.t.Logf("it took %d MiB at its peak", memory>>20)
	if memory > most && !raceDetected() {
		i.t.Errorf("it took %d MiB, want at most %d", memory>>20, most>>20)
	}
}
