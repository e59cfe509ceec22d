// Package fleet runs prtwatch processes: starts them, ends them in every way there is, and tells
// which ends were asked for and which were not. It owns their logs and what can be seen of them
// from outside (memory, goroutines, the size of the state). It must not know why a process is
// ended, nor Kafka.
//
// Start at Instance.Start.
package fleet

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// FaultPoint is the environment variable that has a binary built with the tag `faults` kill
// itself at the N-th passing of a step: NAME:N. NAME:N:stop stops it there. With the value `list`
// it prints the names.
const FaultPoint = "PRTWATCH_FAULT_POINT"

// Stops is what a fault point ends in that stops the process.
const Stops = ":stop"

// Instance is one place for a prtwatch process, with a state folder and a log of its own. Its
// methods may be called by any goroutine; Busy says who may disturb it.
type Instance struct {
	Name string
	Dir  string // the state folder
	Log  string // the file
	// Busy is held by the fault that works on the instance. Whoever holds it leaves the
	// instance as Wanted says.
	Busy sync.Mutex

	binary string
	args   []string
	onExit func(*Instance, Exit)

	mu struct {
		sync.Mutex
		wanted  bool
		process *process // nil where none runs
		latest  *process // nil where none ever ran
	}
}

// process is one life of an instance.
type process struct {
	cmd    *exec.Cmd
	log    *os.File
	from   int64 // where its part of the log begins
	life   Life
	began  time.Time
	asked  bool // the end was asked for
	exited chan struct{}
	exit   Exit // once exited is closed
}

// birth is how long a process may take, on a busy machine, until it hears of signals.
const birth = 5 * time.Second

// Exit is an end of a process.
type Exit struct {
	Asked  bool   // we killed or stopped it
	Code   int    // -1 where a signal ended it
	Killed bool   // by SIGKILL
	Unborn bool   // by SIGTERM, before it had begun to hear of signals
	Life   Life   // as it was started
	Log    string // what it logged in this life
}

// Life is what is peculiar to one life of an instance. Its zero value is an ordinary one.
type Life struct {
	Point string // the fault point at which the process kills itself, NAME:N, or NAME:N:stop
	Full  bool   // its disk is full
}

// kills reports whether there is a point at which the process will kill itself.
func (l Life) kills() bool { return l.Point != "" && !strings.HasSuffix(l.Point, Stops) }

// Tail returns the last lines of what it logged.
func (e Exit) Tail() string {
	all := strings.Split(strings.TrimSpace(e.Log), "\n")
	return strings.Join(all[max(0, len(all)-12):], "\n")
}

// New returns an instance that runs `binary run` with the arguments and the state in dir.
// onExit hears of every end, on a goroutine of its own.
func New(name, binary, dir, log string, args []string, onExit func(*Instance, Exit)) *Instance {
	return &Instance{
		Name: name, Dir: dir, Log: log, binary: binary, onExit: onExit,
		args: append([]string{"run", "--set", "state.dir=" + dir, "--set", "instance=" + name}, args...),
	}
}

// Want says whether the instance is to run when no fault works on it.
func (i *Instance) Want(wanted bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.mu.wanted = wanted
}

// Wanted is what Want said last.
func (i *Instance) Wanted() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.mu.wanted
}

// Running reports whether there is a process.
func (i *Instance) Running() bool { return i.current() != nil }

// Armed reports whether the running process will kill itself.
func (i *Instance) Armed() bool {
	p := i.current()
	return p != nil && p.life.kills()
}

func (i *Instance) current() *process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.mu.process
}

// Start starts the process, unless it runs.
func (i *Instance) Start(life Life) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.mu.process != nil {
		return nil
	}
	log, err := os.OpenFile(i.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", i.Name, err)
	}
	from, _ := log.Seek(0, io.SeekEnd)
	fmt.Fprintf(log, "=== %s %s starts, %+v\n", time.Now().Format(time.RFC3339Nano), i.Name, life)
	cmd := exec.Command(i.binary, i.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = os.Environ()
	if life.Point != "" {
		cmd.Env = append(cmd.Env, FaultPoint+"="+life.Point)
	}
	// A signal from the terminal is ours to pass on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		_ = log.Close()
		return fmt.Errorf("starting %s: %w", i.Name, err)
	}
	p := &process{cmd: cmd, log: log, from: from, life: life, began: time.Now(), exited: make(chan struct{})}
	i.mu.process, i.mu.latest = p, p
	go i.await(p)
	return nil
}

func (i *Instance) await(p *process) {
	_ = p.cmd.Wait()
	status, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	i.mu.Lock()
	exit := Exit{
		Asked: p.asked, Code: p.cmd.ProcessState.ExitCode(), Life: p.life,
		Killed: status.Signaled() && status.Signal() == syscall.SIGKILL,
		Unborn: status.Signaled() && status.Signal() == syscall.SIGTERM && time.Since(p.began) < birth,
	}
	i.mu.process = nil
	i.mu.Unlock()
	fmt.Fprintf(p.log, "=== %s %s ended: %s\n", time.Now().Format(time.RFC3339Nano), i.Name, p.cmd.ProcessState)
	_ = p.log.Close()
	exit.Log = string(read(i.Log, p.from))
	p.exit = exit
	close(p.exited)
	i.onExit(i, exit)
}

// end asks for the process's end and returns it; nil where none runs.
func (i *Instance) end(signal syscall.Signal) *process {
	i.mu.Lock()
	defer i.mu.Unlock()
	p := i.mu.process
	if p == nil {
		return nil
	}
	p.asked = true
	_ = p.cmd.Process.Signal(signal)
	return p
}

// Kill is kill -9. It returns when the process is gone, and reports false where none ran.
func (i *Instance) Kill() bool {
	p := i.end(syscall.SIGKILL)
	if p == nil {
		return false
	}
	<-p.exited
	return true
}

// Stop is SIGTERM, and after limit SIGQUIT, so that the log says what the process waits for. It
// returns how it ended (with code -1 where that was so, a signal ended it, or no process ran) and
// how long that took.
func (i *Instance) Stop(limit time.Duration) (Exit, time.Duration) {
	began := time.Now()
	p := i.end(syscall.SIGTERM)
	if p == nil {
		return Exit{Code: -1}, 0
	}
	select {
	case <-p.exited:
		return p.exit, time.Since(began)
	case <-time.After(limit):
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-p.exited:
	case <-time.After(2 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	hung := p.exit
	hung.Code = -1
	return hung, time.Since(began)
}

// Last waits until no process runs, and returns how the last one ended.
func (i *Instance) Last() Exit {
	i.mu.Lock()
	p := i.mu.latest
	i.mu.Unlock()
	if p == nil {
		return Exit{}
	}
	<-p.exited
	return p.exit
}

// Freeze is SIGSTOP; Thaw is SIGCONT. Both report false where no process runs.
func (i *Instance) Freeze() bool { return i.signal(syscall.SIGSTOP) }

// Frozen reports whether the process is stopped, by us or by itself at its fault point.
func (i *Instance) Frozen() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", i.PID()))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ") // the name in parentheses may hold anything
	return strings.HasPrefix(state, "T")
}

// Thaw lets a frozen process go on.
func (i *Instance) Thaw() bool { return i.signal(syscall.SIGCONT) }

func (i *Instance) signal(s syscall.Signal) bool {
	p := i.current()
	return p != nil && p.cmd.Process.Signal(s) == nil
}

// Says reports whether the running process has logged text.
func (i *Instance) Says(text string) bool {
	p := i.current()
	return p != nil && bytes.Contains(read(i.Log, p.from), []byte(text))
}

var addressInLog = regexp.MustCompile(`"?\bhttp"?[=:]"?(127\.0\.0\.1:\d+)`)

// HTTP returns where the running process listens, which it logs; empty before.
func (i *Instance) HTTP() string {
	p := i.current()
	if p == nil {
		return ""
	}
	if found := addressInLog.FindSubmatch(read(i.Log, p.from)); found != nil {
		return string(found[1])
	}
	return ""
}

// PID is the running process's; 0 where none runs.
func (i *Instance) PID() int {
	if p := i.current(); p != nil {
		return p.cmd.Process.Pid
	}
	return 0
}

// read returns a file from an offset on, not more than the last megabyte of it.
func read(path string, from int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	const most = 1 << 20
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		from = max(from, end-most)
	}
	text, _ := io.ReadAll(io.NewSectionReader(f, from, most))
	return text
}

// Points asks the binary for its fault points. A binary without any has none.
func Points(binary string) []string {
	cmd := exec.Command(binary, "version")
	cmd.Env = append(os.Environ(), FaultPoint+"=list")
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	var points []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" && !strings.ContainsAny(line, " :") {
			points = append(points, line)
		}
	}
	return points
}

// Size is the bytes of all files below a folder.
func Size(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return nil // it comes and goes
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
