// Package process runs the programs that are measured, each as a process of its own, and reads
// from /proc what they take. It owns their logs and their end. It must not know what they do.
//
// Start at Start; usage.go has the reading of /proc.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs, or has run.
type Process struct {
	Name  string
	Log   string    // the file with its output
	Began time.Time // just before it was started

	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
}

// Start starts a program with its output in the file log. It dies with us, however we end, and a
// signal from the terminal does not reach it: Stop ends it.
func Start(name, log string, argv ...string) (*Process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("creating the log of %s: %w", name, err)
	}
	defer out.Close() // the process has its own
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{Name: name, Log: log, Began: time.Now(), cmd: cmd, ended: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Usage reads what the process has taken. It fails where it has ended, with the end of its log.
func (p *Process) Usage() (Usage, error) {
	if err := p.Alive(); err != nil {
		return Usage{}, err
	}
	u, err := Of(p.cmd.Process.Pid)
	if err != nil {
		return u, errors.Join(p.Alive(), err)
	}
	return u, nil
}

// Alive is nil while the process runs, and afterwards says how it ended and what it said last.
func (p *Process) Alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended by itself (%s): %s", p.Name, p.cmd.ProcessState, p.tail())
	default:
		return nil
	}
}

// tail is the end of the log.
func (p *Process) tail() string {
	text, _ := os.ReadFile(p.Log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

// Stop ends the process with SIGTERM, and with SIGKILL when it takes longer than limit, which is
// an error, as is an exit code other than those: 0, and 143 of a Java that heard SIGTERM.
func (p *Process) Stop(limit time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM: %s", p.Name, limit, p.tail())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 && code != 128+int(syscall.SIGTERM) {
		return fmt.Errorf("%s ended with %s: %s", p.Name, p.cmd.ProcessState, p.tail())
	}
	return nil
}

// Written is how many bytes a process that has ended, its children included, has had written to disks;
// to a file system in memory is none.
func (p *Process) Written() int64 {
	<-p.ended
	usage, _ := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return usage.Oublock * 512 // getrusage(2); the kernel's unit, whatever the disk's
}

// Kill ends the process at once. It does nothing where it has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}
