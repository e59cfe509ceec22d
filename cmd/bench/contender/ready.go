package contender

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/prtwatch/prtwatch/cmd/bench/process"
)

// addressInLog is where an instance says that it listens.
var addressInLog = regexp.MustCompile(`\bhttp=(127\.0\.0\.1:\d+)`)

// AwaitReady waits until the process says at /readyz that it has joined its groups and restored
// every partition, and returns how long that took from its start.
func AwaitReady(ctx context.Context, p *process.Process) (time.Duration, error) {
	waiting := "it has not said where it listens"
	for {
		if err := p.Alive(); err != nil {
			return 0, err
		}
		text, err := os.ReadFile(p.Log)
		if err != nil {
			return 0, err
		}
		if found := addressInLog.FindSubmatch(text); found != nil {
			ready, says, err := ask(ctx, string(found[1]))
			if err == nil && ready {
				return time.Since(p.Began), nil
			}
			waiting = says
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("waiting until %s is ready: %w (%s)", p.Name, context.Cause(ctx), waiting)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ask asks an instance whether it is ready.
func ask(ctx context.Context, address string) (ready bool, says string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err.Error(), err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	return response.StatusCode == http.StatusOK, strings.TrimSpace(string(text)), err
}
