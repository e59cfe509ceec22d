package fleet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process and its state take.
type Usage struct {
	Memory     int64 // resident, in bytes
	State      int64 // bytes on disk of the store that is in use: what was damaged lies aside
	Goroutines int
}

// Usage measures the running process; ok is false where none runs or it cannot be asked.
func (i *Instance) Usage(ctx context.Context) (u Usage, ok bool) {
	pid := i.PID()
	if pid == 0 {
		return u, false
	}
	if u.Memory = resident(pid); u.Memory == 0 {
		return u, false
	}
	u.State = Size(filepath.Join(i.Dir, "pebble"))
	if address := i.HTTP(); address != "" {
		u.Goroutines = int(metric(ctx, address, "go_goroutines"))
	}
	return u, true
}

// Most is the larger of each.
func (u Usage) Most(v Usage) Usage {
	return Usage{Memory: max(u.Memory, v.Memory), State: max(u.State, v.State), Goroutines: max(u.Goroutines, v.Goroutines)}
}

// Metric asks the running process for one of its metrics without labels; 0 where it does not answer.
func (i *Instance) Metric(ctx context.Context, name string) float64 {
	if address := i.HTTP(); address != "" {
		return metric(ctx, address, name)
	}
	return 0
}

// Ready is nil when the running process says at /readyz that it does its work; else it is what the
// process waits for.
func (i *Instance) Ready(ctx context.Context) error {
	response, err := ask(ctx, i.HTTP(), "/readyz")
	if err != nil {
		return fmt.Errorf("asking %s whether it is ready: %w", i.Name, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	return errors.Join(fmt.Errorf("%s is %s", i.Name, bytes.TrimSpace(text)), err)
}

// resident is VmRSS of /proc, 0 where it cannot be read.
func resident(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(value)), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// metric asks a process for one of its metrics without labels, 0 where it does not answer.
func metric(ctx context.Context, address, name string) float64 {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	response, err := ask(ctx, address, "/metrics")
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(io.LimitReader(response.Body, 4<<20))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, _ := strconv.ParseFloat(value, 64)
			return v
		}
	}
	return 0
}

func ask(ctx context.Context, address, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}
