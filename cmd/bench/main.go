// Command bench measures prtwatch on an Apache Kafka that it starts itself, beside a client that
// only reads and beside the Kafka Streams application in deploy/bench/streams, and prints Markdown.
//
//	go run ./cmd/bench --report report.md
//
// It needs Java 17 or later and Maven, Linux, and a machine that does nothing else meanwhile.
// It only wires: corpus makes the sign-ins, contender runs what is measured, report judges. Start
// here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prtwatch/prtwatch/cmd/bench/broker"
	"github.com/prtwatch/prtwatch/cmd/bench/contender"
	"github.com/prtwatch/prtwatch/cmd/bench/corpus"
	"github.com/prtwatch/prtwatch/cmd/bench/decode"
	"github.com/prtwatch/prtwatch/cmd/bench/latency"
	"github.com/prtwatch/prtwatch/cmd/bench/report"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // the benchmark itself, or an alert that was wrong
	exitWrong  = 2 // the command line
)

// What the program runs of itself, as processes of their own.
const (
	noopCommand   = "noop"
	decodeCommand = "decode"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == noopCommand {
		exitOn(contender.ReadAll(context.Background(), os.Args[2], os.Args[3], os.Stdout))
	}
	if len(os.Args) == 3 && os.Args[1] == decodeCommand {
		records, err := decode.File(os.Args[2])
		fmt.Println(records)
		exitOn(err)
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(exitFailed)
	}
	os.Exit(exitDone)
}

// options are the command line.
type options struct {
	times      int
	users      int
	stateUsers int
	seed       uint64
	quick      bool
	only       []string
	lasts      time.Duration
	port       int
	dir        string
	keep       bool
	report     string
	set        []string
	streamsSet []string
}

// bench is one run of the whole.
type bench struct {
	options
	command    []string
	stderr     io.Writer
	repository string
	binary     string
	broker     *broker.Broker
	corpus     *corpus.Corpus
	sections   []string        // of the report
	results    []report.Result // in the order of the targets
	wrong      []string        // alerts that were not right
}

func run(args []string, stdout, stderr io.Writer) int {
	b := &bench{command: args, stderr: stderr}
	err := b.parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return exitWrong
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err = b.all(ctx)
	if len(b.sections) > 0 {
		// What was measured before something failed stands.
		text := b.markdown(context.WithoutCancel(ctx))
		fmt.Fprint(stdout, text)
		if b.report != "" {
			err = errors.Join(err, os.WriteFile(b.report, []byte(text), 0o644))
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return exitFailed
	}
	if len(b.wrong) > 0 {
		return exitFailed
	}
	return exitDone
}

func (b *bench) parse(args []string) error {
	o := &b.options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(b.stderr)
	flags.IntVar(&o.times, "times", 3, "how often each contender runs, in turn")
	flags.IntVar(&o.users, "users", 600, "of the made tenant: each makes some 2,000 sign-ins in its 16 days")
	flags.IntVar(&o.stateUsers, "state-users", manyUsers, "how many users the large state has, and the largest of growth; with fewer than a million no targets are judged")
	flags.Uint64Var(&o.seed, "seed", 1, "the same seed and users give the same sign-ins")
	flags.BoolVar(&o.quick, "quick", false, "once and with a small corpus: that it works, not how fast. Below two minutes")
	flags.Func("only", "measure this only (repeatable): "+strings.Join(names(), ", ")+
		". growth, how cost grows, takes half an hour, twenty minutes with --times 2, and is measured only when it is named here", func(name string) error {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("none of %s", strings.Join(names(), ", "))
		}
		o.only = append(o.only, name)
		return nil
	})
	flags.DurationVar(&o.lasts, "for", 10*time.Minute, "how long latency is measured at each rate")
	flags.IntVar(&o.port, "port", 0, "of the broker; its controller has the next one. 0 finds two that are free")
	flags.StringVar(&o.dir, "dir", "", "the folder to work in; by default a new one among the temporary files")
	flags.BoolVar(&o.keep, "keep", false, "keep that folder, with the logs of what ran")
	flags.StringVar(&o.report, "report", "", "write the report to this file too")
	flags.Func("set", "more of prtwatch's configuration, `KEY=VALUE` (repeatable): none to measure what is shipped", add(&o.set))
	flags.Func("streams", "more of the Kafka Streams application's settings, `KEY=VALUE` (repeatable)", add(&o.streamsSet))
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.quick {
		given := make(map[string]bool)
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		quick := func(name, value string) {
			if !given[name] {
				_ = flags.Set(name, value)
			}
		}
		quick("times", "1")
		quick("users", "25")
		quick("state-users", "20000")
		quick("for", "4s")
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("%s: takes no arguments", flags.Arg(0))
	case o.times < 1:
		return fmt.Errorf("--times %d: at least 1 is needed", o.times)
	case o.users < 1:
		return fmt.Errorf("--users %d: at least 1 is needed", o.users)
	case o.stateUsers < 1:
		return fmt.Errorf("--state-users %d: at least 1 is needed", o.stateUsers)
	case o.lasts < time.Second || o.lasts > latency.Longest:
		return fmt.Errorf("--for %s: is not within 1s and %s", o.lasts, latency.Longest)
	}
	return nil
}

func add(to *[]string) func(string) error {
	return func(value string) error {
		if !strings.Contains(value, "=") {
			return errors.New("is not KEY=VALUE")
		}
		*to = append(*to, value)
		return nil
	}
}

// measurement is one part of the benchmark.
type measurement struct {
	name  string
	does  func(*bench, context.Context) error
	named bool // it is left out unless --only names it
}

// measurements are the parts, in the order in which they run.
var measurements = []measurement{
	{name: "table", does: (*bench).table},
	{name: "latency", does: (*bench).latency},
	{name: "million", does: (*bench).million},
	{name: "replay", does: (*bench).replay},
	{name: "idle", does: (*bench).idle},
	{name: "growth", does: (*bench).growth, named: true},
}

// wanted reports whether the command line asks for a measurement.
func (o *options) wanted(m measurement) bool {
	if len(o.only) == 0 {
		return !m.named
	}
	return slices.Contains(o.only, m.name)
}

func names() (all []string) {
	for _, m := range measurements {
		all = append(all, m.name)
	}
	return all
}

func (b *bench) logf(format string, args ...any) {
	fmt.Fprintf(b.stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// all prepares and measures.
func (b *bench) all(ctx context.Context) (err error) {
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer func() {
		switch {
		case err != nil:
			b.logf("the logs of what ran are in %s", b.dir)
		case !b.keep:
			err = os.RemoveAll(b.dir)
		}
	}()
	b.broker, err = broker.Start(ctx, broker.Options{Repository: b.repository, Dir: filepath.Join(b.dir, "kafka"), Port: b.port})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.broker.Close()) }()
	b.logf("broker at %s, working in %s", b.broker.Addr, b.dir)
	for _, m := range measurements {
		if !b.wanted(m) {
			continue
		}
		if err := m.does(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// prepare finds the repository, makes the folder and builds prtwatch.
func (b *bench) prepare(ctx context.Context) (err error) {
	if err := broker.Needs(); err != nil {
		return err
	}
	if b.repository, err = findRepository(); err != nil {
		return err
	}
	if b.dir == "" {
		b.dir, err = os.MkdirTemp("", "prtwatch-bench-")
	} else {
		err = emptyFolder(&b.dir)
	}
	if err != nil {
		return err
	}
	b.binary = filepath.Join(b.dir, "prtwatch")
	return contender.BuildPrtwatch(ctx, b.repository, b.binary)
}

// emptyFolder makes the folder that --dir names, and its name absolute. It is deleted at the end, so one
// that has something in it is refused.
func emptyFolder(dir *string) (err error) {
	if *dir, err = filepath.Abs(*dir); err != nil {
		return err
	}
	if entries, err := os.ReadDir(*dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("--dir %s: is not empty, and would be deleted at the end; name a new folder", *dir)
	}
	return os.MkdirAll(*dir, 0o755)
}

// findRepository looks from the working directory upwards.
func findRepository() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(at, "deploy", "kafka", "kafka")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", errors.New("there is no deploy/kafka here or above: run inside the repository")
		}
		at = filepath.Dir(at)
	}
}

// rawTopic is where the corpus is.
const rawTopic = "bench.raw"

// makeCorpus makes the corpus where it was not made yet.
func (b *bench) makeCorpus(ctx context.Context) (err error) {
	if b.corpus != nil {
		return nil
	}
	if err := b.broker.Create(ctx, rawTopic, corpus.Partitions); err != nil {
		return err
	}
	began := time.Now()
	topic, err := corpus.Open(b.broker.Addr, rawTopic)
	if err != nil {
		return err
	}
	b.corpus, err = corpus.Make(ctx, corpus.Options{Users: b.users, Seed: b.seed, Samples: b.samples()}, topic)
	if err != nil {
		return err
	}
	b.logf("made %d sign-ins in %d messages, %d rows of the query, in %s", b.corpus.SignIns, b.corpus.Messages, len(b.corpus.Rows), time.Since(began).Round(time.Second))
	return nil
}

// samples is the file of real records that made ones are compared with.
func (b *bench) samples() string {
	return filepath.Join(b.repository, "stream", "entra", "testdata", "non_interactive_user_sign_in_logs.jsonl")
}

func (b *bench) raw() contender.Raw {
	return contender.Raw{Broker: b.broker, Topic: rawTopic, SignIns: b.corpus.SignIns, Dir: b.dir}
}

// prtwatch is the contender that all is about.
func (b *bench) prtwatch() contender.Prtwatch {
	return contender.Prtwatch{Binary: b.binary, Set: b.set}
}

// markdown is the report.
func (b *bench) markdown(ctx context.Context) string {
	var s strings.Builder
	fmt.Fprintf(&s, "`go run ./cmd/bench %s`\n\n", strings.Join(b.command, " "))
	if b.broker != nil {
		fmt.Fprintf(&s, "%s.\n\n", report.Machine(ctx, b.repository, b.broker.Version()))
	}
	if c := b.corpus; c != nil {
		fmt.Fprintf(&s, "Corpus: %d users, %d days, seed %d: %d sign-ins in %d messages of %.0f sign-ins, %.2f GB of JSON, "+
			"a raw topic of %d partitions compressed with lz4; %d rows of the query.\n\n",
			c.Users, corpus.Days, c.Seed, c.SignIns, c.Messages, float64(c.SignIns)/float64(c.Messages), float64(c.Bytes)/1e9, corpus.Partitions, len(c.Rows))
		s.WriteString(likeness(c.Likeness) + "\n")
	}
	for _, section := range b.sections {
		s.WriteString(section + "\n")
	}
	for _, wrong := range b.wrong {
		fmt.Fprintf(&s, "- WRONG: %s\n", wrong)
	}
	if len(b.results) > 0 {
		s.WriteString("\n## Targets\n\n")
		if b.quick {
			s.WriteString("A quick run: it shows that everything works. Its figures and verdicts mean nothing.\n\n")
		}
		s.WriteString(report.Targets(b.results))
	}
	return s.String()
}

func likeness(rows []corpus.Likeness) string {
	var cells [][]string
	for _, l := range rows {
		cells = append(cells, []string{
			l.Of, fmt.Sprint(l.Records), fmt.Sprintf("%.0f", l.Size), fmt.Sprint(l.Together), fmt.Sprintf("%.1f", l.LZ4), fmt.Sprintf("%.1f", l.Zstd),
		})
	}
	return report.Table([]string{"records", "looked at", "bytes a record", "in a message", "lz4 ratio", "zstd ratio"}, cells)
}
