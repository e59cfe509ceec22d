package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/cmd/prtwatch/top"
)

func (p *program) topCommand() *cobra.Command {
	var urls []string
	var noAlerts bool
	o := top.Options{}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "what instances do and the last alerts, at a glance",
		Long: `Asks each instance for /metrics and /readyz and reads the end of topics.alerts, and shows both until q or
Ctrl-C. --url names an instance, as host:port or URL; without one it is that of http.listen. --once, or an
output that is no terminal, prints one frame as plain text, of two readings that are --interval apart: as
wide as the terminal, or as COLUMNS says, or in one table; the exit code is 1 where no instance answered.

SIGN-INS/S is how many were judged a second since the frame before; ALERTS/MIN, AGE (of alerts, from the
arrival of the sign-in to the commit) and CACHE (profiles that were found in memory) are those of the last
minute, as far as it was watched; DEAD (dead letters) and ERRORS (transactions, commits, fetches and
allowlists that failed) count from the instance's start. LAG is in messages of the input and in sign-ins,
LAG AGE how old the older of the two figures is. An instance that does not answer keeps its last figures,
marked with *. NO_COLOR is heeded.`,
		Example: `  prtwatch top
  prtwatch top --url prtwatch-0:9187 --url prtwatch-1:9187
  prtwatch top --once --no-alerts`,
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error {
			if o.Every < 100*time.Millisecond {
				return wrong(fmt.Errorf("--interval %s: give 100ms or more", o.Every))
			}
			s, err := p.settings()
			if err != nil {
				return err
			}
			if o.URLs, err = topURLs(s, urls); err != nil {
				return wrong(err)
			}
			if !noAlerts {
				o.Kafka, o.Topic, o.Patience = s.Kafka, s.Topics.Alerts, s.StartTimeout
			}
			return p.top(ctx, o)
		}),
	}
	cmd.Flags().StringArrayVar(&urls, "url", nil, "where an instance answers, `HOST:PORT` or a URL (repeatable; default http.listen)")
	cmd.Flags().DurationVar(&o.Every, "interval", 2*time.Second, "for how long a frame stands")
	cmd.Flags().BoolVar(&o.Once, "once", false, "print one frame and end")
	cmd.Flags().BoolVar(&noAlerts, "no-alerts", false, "do not read the alerts; no Kafka is needed then")
	return cmd
}

// topURLs are where to ask.
func topURLs(s *settings.Settings, given []string) (urls []string, err error) {
	if len(given) == 0 {
		u, err := top.ParseURL(s.HTTP.Listen)
		if err != nil {
			return nil, fmt.Errorf("http.listen %s: %w as --url", s.HTTP.Listen, err)
		}
		return []string{u}, nil
	}
	var problems []error
	for _, text := range given {
		u, err := top.ParseURL(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("--url %s: %w", text, err))
		}
		urls = append(urls, u)
	}
	return urls, errors.Join(problems...)
}

// top shows on the terminal, if there is one.
func (p *program) top(ctx context.Context, o top.Options) error {
	o.Out = p.stdout
	screen, _ := p.stdout.(*os.File)
	terminal := isTerminal(p.stdout)
	o.Once = o.Once || !terminal || p.environment("TERM") == "dumb"
	switch {
	case o.Once && terminal:
		o.Width, _, _ = term.GetSize(int(screen.Fd()))
	case o.Once:
		o.Width, _ = strconv.Atoi(p.environment("COLUMNS"))
	default:
		o.Screen, o.Colour = screen, p.environment("NO_COLOR") == ""
		if keys, ok := p.stdin.(*os.File); ok && isTerminal(keys) {
			o.Keys = keys
		}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP) // a terminal that goes is given back, if it is there
	defer stop()
	return quietPipe(top.Run(ctx, o))
}

// environment returns the value of a variable, empty where it is not set.
func (p *program) environment(name string) (value string) {
	for _, variable := range p.sources.Environ {
		if v, ok := strings.CutPrefix(variable, name+"="); ok {
			value = v
		}
	}
	return value
}
