package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has taken since it began.
type Usage struct {
	CPU  time.Duration // user and system, of all threads, in steps of 10 ms
	Peak int64         // most resident memory, bytes (VmHWM)
}

// tick is USER_HZ, in which Linux tells processes' times on every architecture: proc_pid_stat(5).
const tick = time.Second / 100

// Of reads the usage of a process from /proc. It fails where there is no such process, and
// for one that has ended but was not waited for, which has no memory any more.
func Of(pid int) (u Usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	if u.CPU, err = cpu(string(stat)); err != nil {
		return u, fmt.Errorf("reading /proc/%d/stat: %w", pid, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	if u.Peak, err = kilobytes(status, "VmHWM"); err != nil {
		return u, fmt.Errorf("reading /proc/%d/status: %w", pid, err)
	}
	return u, nil
}

// cpu is utime and stime of a stat file.
func cpu(stat string) (time.Duration, error) {
	// The name in parentheses may hold anything, parentheses and spaces among it.
	end := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[end+1:])
	// The field after the name is the third of the file; utime and stime are its 14th and 15th.
	const utime, stime = 14 - 3, 15 - 3
	if end < 0 || len(fields) <= stime {
		return 0, fmt.Errorf("it has %d fields after the name", len(fields))
	}
	var sum time.Duration
	for _, i := range []int{utime, stime} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ticks) * tick
	}
	return sum, nil
}

// kilobytes is one of the sizes of a status or meminfo file, in bytes.
func kilobytes(status []byte, name string) (int64, error) {
	for line := range bytes.Lines(status) {
		value, ok := bytes.CutPrefix(line, []byte(name+":"))
		if !ok {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(value)), " kB"), 10, 64)
		return kb << 10, err
	}
	return 0, fmt.Errorf("there is no %s", name)
}
