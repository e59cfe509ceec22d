// Command faults runs prtwatch under every fault that a cluster has, for as long as one likes,
// and says whether an alert was lost, doubled or made up: see CONTRIBUTING.md.
//
//	go run ./cmd/faults --for 1h --seed 7 --protocol both
//
// With --failover it measures for how long alerts stop flowing instead (failover.go).
//
// It starts a real Apache Kafka of three brokers (cluster), and runs one round after the other
// (round): a made tenant (feeder), some prtwatch processes (fleet), faults that follow from the
// seed (plan), and at the end the verifier, cmd/verify, which shares no code with the pipeline.
// It only wires; it must not judge. Start here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prtwatch/prtwatch/cmd/faults/cluster"
	"github.com/prtwatch/prtwatch/cmd/faults/failover"
	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
	"github.com/prtwatch/prtwatch/cmd/faults/plan"
	"github.com/prtwatch/prtwatch/cmd/faults/round"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // something was wrong, with prtwatch or with the suite
	exitWrong  = 2 // the command line
)

// options are the command line.
type options struct {
	length, round, pace  time.Duration
	count, least         int
	seed                 string
	protocol, delivery   string
	users                int
	faults               []string
	list, keep           bool
	dir, report          string
	prtwatch, verifyPath string
	failover             failoverOptions
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// suite is a run of the whole.
type suite struct {
	options
	stderr  io.Writer
	faults  []plan.Fault
	turns   turns
	points  []string
	cluster *cluster.Cluster
	began   time.Time
	results []round.Result
	outages []failover.Result
	failed  error // of the suite itself
}

func run(args []string, stdout, stderr io.Writer) int {
	s := &suite{stderr: stderr, began: time.Now()}
	err := s.parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err != nil {
		fmt.Fprintln(stderr, "faults:", err)
		return exitWrong
	}
	if s.list {
		for _, f := range plan.Faults {
			fmt.Fprintf(stdout, "%-16s %s\n", f.Name, f.About)
		}
		return exitDone
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	work, report := s.rounds, s.markdown
	if s.failover.wanted {
		work, report = s.measure, s.failoverMarkdown
	}
	if s.failed = s.prepare(ctx); s.failed == nil {
		s.failed = work(ctx)
	}
	text := report()
	fmt.Fprint(stdout, text)
	if s.report != "" {
		if err := os.WriteFile(s.report, []byte(text), 0o644); err != nil {
			fmt.Fprintln(stderr, "faults: --report:", err)
			return exitFailed
		}
	}
	if s.bad() {
		return exitFailed
	}
	return exitDone
}

func (s *suite) parse(args []string) (err error) {
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	flags.SetOutput(s.stderr)
	s.options.define(flags)
	s.failover.flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.faults, err = plan.Find(s.options.faults); err != nil {
		return fmt.Errorf("--fault %w", err)
	}
	if s.protocol == "" {
		s.protocol = "both"
		if s.failover.wanted {
			s.protocol = "classic"
		}
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("%s: takes no arguments", flags.Arg(0))
	case s.round < leastRound:
		return fmt.Errorf("--round %s: at least %s are needed to catch up, be disturbed and be verified", s.round, leastRound)
	case s.pace < 100*time.Millisecond:
		return fmt.Errorf("--pace %s: at least 100ms are needed", s.pace)
	case s.users < 1:
		return fmt.Errorf("--users %d: at least 1 is needed", s.users)
	}
	s.turns, err = parseTurns(s.seed, s.protocol, s.delivery)
	return err
}

// define says what the command line may hold.
func (o *options) define(flags *flag.FlagSet) {
	flags.DurationVar(&o.length, "for", 5*time.Minute, "how long rounds are begun")
	flags.IntVar(&o.count, "rounds", 0, "how many rounds are begun; 0 is as many as there is time for")
	flags.DurationVar(&o.round, "round", 5*time.Minute, "how long a round takes, on a machine that is not busy with other things")
	flags.DurationVar(&o.pace, "pace", plan.Pace, "how long it is from one fault to the next, on average")
	flags.IntVar(&o.least, "least", 0, "how many faults must have been injected, or the run is a failure")
	flags.StringVar(&o.seed, "seed", "0", "what the faults follow from; 0 draws one. Of a list (4,0) the rounds take one each in turn")
	flags.StringVar(&o.protocol, "protocol", "", "of the detecting group: classic, consumer, or a list; both is classic,consumer, the default but for --failover")
	flags.StringVar(&o.delivery, "delivery", "exactly-once", "exactly-once, at-least-once, or a list")
	flags.IntVar(&o.users, "users", 60, "of the made tenant: each makes some 2,100 sign-ins a round")
	flags.Func("fault", "inject this fault only (repeatable)", func(name string) error {
		o.faults = append(o.faults, name)
		return nil
	})
	flags.BoolVar(&o.list, "faults", false, "list the faults and end")
	flags.BoolVar(&o.keep, "keep", false, "keep the brokers' data and the logs of good rounds too")
	flags.StringVar(&o.dir, "dir", "", "the folder to work in; by default a new one among the temporary files")
	flags.StringVar(&o.report, "report", "", "write the report to this file too")
	flags.StringVar(&o.prtwatch, "prtwatch", "", "a prtwatch binary, built with -tags faults; by default it is built")
	flags.StringVar(&o.verifyPath, "verify", "", "a verify binary; by default it is built")
}

// leastRound is the shortest round in which there is time for faults.
const leastRound = round.Around + 20*time.Second

func (s *suite) logf(format string, args ...any) {
	fmt.Fprintf(s.stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// prepare makes the folder and the binaries.
func (s *suite) prepare(ctx context.Context) (err error) {
	if s.dir == "" {
		s.dir, err = os.MkdirTemp("", "prtwatch-faults-")
	} else if s.dir, err = filepath.Abs(s.dir); err == nil {
		err = os.MkdirAll(s.dir, 0o755)
	}
	if err != nil {
		return err
	}
	return s.build(ctx)
}

// rounds runs one round after the other until the time is up or ctx is done.
func (s *suite) rounds(ctx context.Context) (err error) {
	s.logf("seeds %d, %s, rounds of %s, protocols %s, deliveries %s", s.turns.seeds, s.length, s.round, s.turns.protocols, s.turns.deliveries)
	s.points = fleet.Points(s.prtwatch)
	s.logf("working in %s; fault points: %s", s.dir, strings.Join(s.points, " "))
	s.cluster, err = cluster.Start(ctx, cluster.Options{
		Brokers: 3, Dir: filepath.Join(s.dir, "kafka"), Slots: round.Slots, Set: round.Properties, Keep: s.keep,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.cluster.Close()) }()
	for n := 1; ctx.Err() == nil; n++ {
		left := s.length - time.Since(s.began)
		if n > 1 && left < s.round/2 || s.count > 0 && n > s.count {
			break
		}
		if err := s.one(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// build builds what was not given.
func (s *suite) build(ctx context.Context) error {
	for _, b := range []struct {
		path *string
		name string
		tags string
	}{{&s.prtwatch, "prtwatch", "faults"}, {&s.verifyPath, "verify", ""}} {
		if *b.path != "" {
			continue
		}
		*b.path = filepath.Join(s.dir, b.name)
		cmd := exec.CommandContext(ctx, "go", "build", "-tags", b.tags, "-o", *b.path, "github.com/prtwatch/prtwatch/cmd/"+b.name)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w: %s", b.name, err, out)
		}
	}
	return nil
}

// one runs a round and keeps what it left behind only when something was wrong.
func (s *suite) one(ctx context.Context, n int) error {
	turn := s.turns.of(n)
	s.logf("round %d: seed %d, %s, %s", n, turn.seed, turn.protocol, turn.delivery)
	result, err := round.Run(ctx, round.Options{
		Seed: turn.seed, Number: n, Turn: turn.number, For: s.round, Protocol: turn.protocol, Delivery: turn.delivery,
		Users: s.users, Pace: s.pace, Faults: s.faults, Points: s.points, Cluster: s.cluster, Prtwatch: s.prtwatch,
		Verify: s.verifyPath, Dir: filepath.Join(s.dir, fmt.Sprintf("round-%02d", n)), Log: s.logf,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("round %d: %w", n, err)
	}
	s.results = append(s.results, result)
	s.logf("round %d: %s", n, line(result))
	if len(result.Findings) == 0 && !s.keep {
		return os.RemoveAll(result.Dir)
	}
	return nil
}

// bad reports whether anything was wrong.
func (s *suite) bad() bool {
	if s.failover.wanted {
		return s.failed != nil || slices.ContainsFunc(s.outages, failover.Result.Bad)
	}
	return s.failed != nil || len(s.results) == 0 || s.tooFew() ||
		slices.ContainsFunc(s.results, func(r round.Result) bool { return len(r.Findings) > 0 })
}

// tooFew reports whether there were fewer faults than were asked for.
func (s *suite) tooFew() bool {
	sum := 0
	for _, r := range s.results {
		sum += injected(r)
	}
	return sum < s.least
}
