// Command verify is the judge of an installation that has come to rest: it reads what went
// in and what came out from the brokers, and says with counts and examples what is missing,
// doubled, made up, out of place or not done. It owns its own reading of every format that
// it checks, and must share no code with the pipeline: only the oracle, clients of Kafka and
// Pebble. A mistake in what both shared would be found by nobody.
//
// The pipeline must stand still: both groups at their end, no instance in the state folders
// that are named. What is exact of an input that was written first and read then is not of one
// that was read while its history was being written (docs/design.md, "Non-obvious").
//
// Start at verify in verify.go; each thing that is checked is the file of its name.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitWell  = 0
	exitWrong = 1 // something is wrong with what was read, or it cannot be read
	exitUsage = 2 // the command line
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the command line.
type options struct {
	brokers, input                        []string
	signIns, alerts, baseline, deadLetter string
	detectGroup, splitGroup               string
	states                                []string
	delivery                              string
	lateness, maxFuture, againWithin      time.Duration
	eventTime                             string
	examples                              int
	json                                  bool
}

func (o *options) atLeastOnce() bool { return o.delivery == atLeastOnce }

const (
	exactlyOnce = "exactly-once"
	atLeastOnce = "at-least-once"
)

// errUsage marks what is wrong with the command line.
var errUsage = errors.New("command line")

func (o *options) check() error {
	switch {
	case o.delivery != exactlyOnce && o.delivery != atLeastOnce:
		return fmt.Errorf("%w: --delivery is %q: it must be %s or %s", errUsage, o.delivery, exactlyOnce, atLeastOnce)
	case o.lateness < 0 || o.lateness%time.Hour != 0:
		return fmt.Errorf("%w: --lateness is %s: it must be whole hours, as state.lateness is", errUsage, o.lateness)
	case o.maxFuture < 0:
		return fmt.Errorf("%w: --max-future is %s: it cannot be negative", errUsage, o.maxFuture)
	case o.againWithin < 0:
		return fmt.Errorf("%w: --again-within is %s: it cannot be negative", errUsage, o.againWithin)
	case o.examples < 0:
		return fmt.Errorf("%w: --examples is %d: it cannot be negative", errUsage, o.examples)
	case !slices.Contains([]string{"generated", "created"}, o.eventTime):
		return fmt.Errorf("%w: --event-time is %q: it must be generated or created", errUsage, o.eventTime)
	}
	return nil
}

// run is main with everything that it writes, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	begun := false
	cmd := &cobra.Command{
		Use:           "verify",
		Short:         "Hold what an installation of prtwatch made against what it was given",
		Long:          about(),
		Args:          noArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			begun = true
			r, err := verify(cmd.Context(), o)
			if err != nil {
				return err
			}
			return r.tell(stdout, o.json)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.brokers, "brokers", []string{"127.0.0.1:9092"}, "host:port of brokers, plaintext")
	flags.StringSliceVar(&o.input, "input", []string{"insights-logs-noninteractiveusersigninlogs"}, "input topics")
	flags.StringVar(&o.signIns, "signins", "prtwatch.signins", "topic of the sign-ins")
	flags.StringVar(&o.alerts, "alerts", "prtwatch.alerts", "topic of the alerts")
	flags.StringVar(&o.baseline, "baseline", "prtwatch.baseline", "topic of the profiles")
	flags.StringVar(&o.deadLetter, "dead-letter", "prtwatch.dead-letter", "topic of the dead letters")
	flags.StringVar(&o.detectGroup, "detect-group", "prtwatch-detect", "group of the detecting stage")
	flags.StringVar(&o.splitGroup, "split-group", "prtwatch-split", "group of the splitting stage")
	flags.StringArrayVar(&o.states, "state", nil, "state folder of an instance that does not run (repeatable)")
	flags.StringVar(&o.delivery, "delivery", exactlyOnce, "what the instances ran with: exactly-once or at-least-once")
	flags.DurationVar(&o.lateness, "lateness", 48*time.Hour, "state.lateness of the instances")
	flags.DurationVar(&o.maxFuture, "max-future", 15*time.Minute, "detection.max_future of the instances")
	flags.DurationVar(&o.againWithin, "again-within", 0, "with at-least-once: an alert that comes again later than this after the first is doubled; 0 allows it at any time")
	flags.StringVar(&o.eventTime, "event-time", "generated", "detection.event_time of the instances")
	flags.IntVar(&o.examples, "examples", 10, "how many examples of each finding")
	flags.BoolVar(&o.json, "json", false, "print one JSON object")
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	switch err := cmd.ExecuteContext(ctx); {
	case err == nil:
		return exitWell
	case errors.Is(err, errFound):
		return exitWrong
	default:
		fmt.Fprintln(stderr, "verify:", strings.ReplaceAll(err.Error(), "\n", "; "))
		if begun {
			return exitWrong
		}
		return exitUsage
	}
}

func about() string {
	return `Verify holds what an installation of prtwatch made against what it was given. It reads the input, the
alerts, the profiles and the dead letters from the brokers, and the state folders that are named; it
changes nothing. The instances must be stopped, and have taken all of the input before.

It exits with 0 where all is well, with 1 where something is wrong or cannot be read, and with 2 where
the command line is wrong. --json prints one object; what has an exclamation mark here must be 0:

` + fields()
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %q: verify takes flags only", errUsage, args[0])
	}
	return nil
}

// errFound says that the report has it all.
var errFound = errors.New("something is wrong")

// tell writes the report, and returns errFound where something is wrong.
func (r *report) tell(w io.Writer, asJSON bool) error {
	r.OK = len(r.Examples) == 0
	var err error
	if asJSON {
		err = json.NewEncoder(w).Encode(r)
	} else {
		err = r.print(w)
	}
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	if !r.OK {
		return errFound
	}
	return nil
}
