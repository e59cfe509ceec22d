package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/top"
)

// readyWithin is how long /readyz may take: it answers from memory.
const readyWithin = 2 * time.Second

func (p *program) readyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ready",
		Short: "ask the prtwatch run of this machine whether it is ready",
		Long: `Asks /readyz at http.listen and prints the answer. The exit code is 0 when prtwatch run is ready,
and 1 when it is not, or does not answer. It is the health check of a container, whose image has nothing else
that could ask; Kubernetes asks by itself.`,
		Example: `  prtwatch ready
  prtwatch ready --set http.listen=127.0.0.1:9188`,
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error {
			s, err := p.settings()
			if err != nil {
				return err
			}
			return p.askReady(ctx, s.HTTP.Listen)
		}),
	}
}

// askReady prints what /readyz of the process says that listens there; an error is that it is not ready.
func (p *program) askReady(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	base, err := top.ParseURL(listen)
	if err != nil {
		return wrong(fmt.Errorf("http.listen: %s: %w", listen, err))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("asking %s: %w", base, err)
	}
	response, err := http.DefaultTransport.RoundTrip(request) // no redirects, and no other host's
	if err != nil {
		return fmt.Errorf("asking %s: %w", request.URL, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", request.URL, err)
	}
	if response.StatusCode != http.StatusOK {
		lines := strings.Split(strings.TrimSpace(string(answer)), "\n")
		return fmt.Errorf("%s: %s", response.Status, strings.Join(lines, "; "))
	}
	_, err = p.stdout.Write(answer)
	return quietPipe(err)
}
