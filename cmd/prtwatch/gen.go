package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/prtwatch/prtwatch/internal/tenant"
)

// genFlags are the flags of gen.
type genFlags struct {
	users, days int
	seed        uint64
	shape       string
	start       string
	rate        float64
	count       int
	lasts       time.Duration
	once        bool
	out, labels string
}

// historyDays is what is made where neither --days nor --rate is given: the window and one.
const historyDays = 15

func (p *program) genCommand() *cobra.Command {
	var f genFlags
	cmd := &cobra.Command{
		Use:   "gen",
		Short: "make the sign-ins of a made tenant",
		Long: `Makes the sign-ins of a tenant that does not exist, as Event Hubs messages in time order: to the
first of input.topics, or with --out to a file, a message a line. Without --rate it is a
history of --days that ends now (or begins at --start), at once. With --rate it is the
present, each sign-in when it is due, until --for, --count or a signal ends it; --days then puts
a history before it.

To Kafka it writes as Azure does: without a key, one message after another to all partitions
in turn. The timestamp of a message is the time of its newest record, as if it had been
exported then: give the topic a retention.ms that is longer than the history.

Let a history be whole before prtwatch run reads the topic: at the end of the topic run waits
for no partition, and a history that comes at full speed is judged out of order there.`,
		Example: `  prtwatch gen --users 200 --days 16 --out tenant.jsonl --labels labels.jsonl
  prtwatch gen --rate 100 --for 10m --config prtwatch.yaml`,
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error { return p.gen(ctx, f) }),
	}
	flags := cmd.Flags()
	flags.IntVar(&f.users, "users", 100, "how many users the tenant has")
	flags.IntVar(&f.days, "days", 0, fmt.Sprintf("days of history (default %d, with --rate 0)", historyDays))
	flags.Uint64Var(&f.seed, "seed", 1, "the same seed, --start and flags give the same sign-ins")
	flags.StringVar(&f.shape, "shape", "diagnostic", "diagnostic, table or mixed: as which export writes them")
	flags.StringVar(&f.start, "start", "", "when the history begins, `TIME` as 2026-11-01T00:00:00Z (default --days ago)")
	flags.Float64Var(&f.rate, "rate", 0, "sign-ins a second, in the present")
	flags.IntVar(&f.count, "count", 0, "end after so many sign-ins (0: no bound)")
	flags.DurationVar(&f.lasts, "for", 0, "with --rate: end after this time, such as 10m (0: no bound)")
	flags.BoolVar(&f.once, "once", false, "make the history only where the topic is empty, so that it can be started again")
	flags.StringVar(&f.out, "out", "", "write to this `FILE` (- is standard output) instead of Kafka")
	flags.StringVar(&f.labels, "labels", "", "write the id and label of each sign-in that is not plain to this `FILE`")
	return cmd
}

// options checks the flags.
func (f genFlags) options(now time.Time) (tenant.Options, error) {
	o := tenant.Options{Users: f.users, Days: f.days, Seed: f.seed, Rate: f.rate}
	shape, err := tenant.ParseShape(f.shape)
	o.Shape = shape
	var problems []error
	wrongFlag := func(bad bool, format string, args ...any) {
		if bad {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	wrongFlag(err != nil, "--%w", err)
	wrongFlag(f.users < 1 || f.users > 1_000_000, "--users %d: is not within 1 and 1000000", f.users)
	wrongFlag(f.days < 0 || f.days > 366, "--days %d: is not within 0 and 366", f.days)
	wrongFlag(!(f.rate >= 0 && f.rate <= 1e6), "--rate %v: is not within 0 and 1000000", f.rate)
	wrongFlag(f.count < 0, "--count %d: give 1 or more, or leave it out", f.count)
	wrongFlag(f.lasts < 0, "--for %s: give a time such as 10m, or leave it out", f.lasts)
	wrongFlag(f.lasts > 0 && f.rate == 0, "--for %s: goes with --rate; a history is bounded by --days", f.lasts)
	wrongFlag(f.once && (f.rate > 0 || f.out != ""), "--once: is for a history to Kafka; leave it out, or --rate and --out")
	wrongFlag(f.start != "" && f.rate > 0, "--start: a tenant in the present (--rate) cannot begin at another time; leave one of them out")
	wrongFlag(f.out != "" && f.labels != "" && sameFile(f.out, f.labels), "--labels %s: is where the messages go; name another file", f.labels)
	if o.Days == 0 && o.Rate == 0 {
		o.Days = historyDays
	}
	o.Start = now.AddDate(0, 0, -o.Days)
	if f.start != "" {
		o.Start, err = time.Parse(time.RFC3339, f.start)
		wrongFlag(err != nil, "--start %q: is no time such as 2026-11-01T00:00:00Z", f.start)
	}
	return o, errors.Join(problems...)
}

// messageSink takes the messages of gen.
type messageSink interface {
	// send takes a message whose newest record is of that time. It may keep message.
	send(message []byte, newest time.Time) error
	// close sends what is left.
	close() error
}

func (p *program) gen(ctx context.Context, f genFlags) (err error) {
	s, err := p.settings()
	if err != nil {
		return err
	}
	options, err := f.options(time.Now())
	if err != nil {
		return wrong(err)
	}
	made, err := tenant.New(options)
	if err != nil {
		return wrong(err)
	}
	if f.once {
		if written, err := p.writtenTo(ctx, s); err != nil || written {
			return err
		}
	}
	labels, err := p.create("--labels", f.labels)
	if err != nil {
		return wrong(err)
	}
	var sink messageSink
	if f.out == "" {
		sink, err = p.openTopic(ctx, s, options.Start)
	} else {
		sink, err = p.create("--out", f.out)
	}
	if err != nil {
		return errors.Join(err, labels.close())
	}
	g := &generation{tenant: made, options: options, flags: f, sink: sink, labels: json.NewEncoder(labels.out), bar: p.genBar(f, options)}
	err = g.run(ctx)
	err = errors.Join(err, sink.close(), labels.close())
	if g.bar != nil {
		_ = g.bar.Finish()
	}
	if err = quietPipe(err); err == nil {
		fmt.Fprintf(p.stderr, "%d sign-ins in %d messages\n", g.signIns, g.messages)
	}
	return err
}

// genBar counts sign-ins where their number is known or there is no end, else minutes of
// the history.
func (p *program) genBar(f genFlags, o tenant.Options) *progressbar.ProgressBar {
	printing := f.out == "-" || f.labels == "-"
	switch {
	case f.count > 0:
		return p.newBar("sign-ins", printing, int64(f.count), progressbar.OptionShowCount())
	case f.rate > 0:
		return p.newBar("sign-ins", printing, -1, progressbar.OptionShowCount())
	}
	return p.newBar("history", printing, int64(o.Days)*24*60)
}

// generation moves sign-ins from the tenant to the sink.
type generation struct {
	tenant  *tenant.Tenant
	options tenant.Options
	flags   genFlags
	sink    messageSink
	labels  *json.Encoder
	bar     *progressbar.ProgressBar

	packer   tenant.Packer
	newest   time.Time // of what the packer holds
	oldestAt time.Time // when the packer took the oldest that it holds; zero: it holds none
	signIns  int
	messages int
}

// gatherFor is how long a sign-in of the present waits for others to share its message.
const gatherFor = 100 * time.Millisecond

// run ends with the history, or when a bound of the flags or ctx says so.
func (g *generation) run(ctx context.Context) error {
	present := g.options.Start.AddDate(0, 0, g.options.Days) // when the history ends
	if g.flags.lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, time.Now().Add(g.flags.lasts), errBound)
		defer cancel()
	}
	for g.flags.count == 0 || g.signIns < g.flags.count {
		next, more := g.tenant.Next()
		if !more {
			break
		}
		live := g.flags.rate > 0 && !next.Time.Before(present)
		if live {
			if err := g.await(ctx, next.Time); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			if err := g.flush(); err != nil || live || errors.Is(context.Cause(ctx), errBound) {
				return err
			}
			return fmt.Errorf("gen: %w before the end of the history", context.Cause(ctx))
		}
		if err := g.add(next); err != nil {
			return err
		}
	}
	return g.flush()
}

// errBound ends a generation that --for bounds.
var errBound = errors.New("--for is over")

// await waits until due, or ctx is done; what the packer holds is sent when it is time.
func (g *generation) await(ctx context.Context, due time.Time) error {
	for ctx.Err() == nil {
		now := time.Now()
		until := due
		if !g.oldestAt.IsZero() {
			if sendAt := g.oldestAt.Add(gatherFor); !now.Before(sendAt) {
				if err := g.flush(); err != nil {
					return err
				}
			} else if sendAt.Before(until) {
				until = sendAt
			}
		}
		if !now.Before(due) {
			return nil
		}
		timer := time.NewTimer(until.Sub(now))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return nil
}

// add packs the sign-in.
func (g *generation) add(s tenant.SignIn) error {
	g.signIns++
	if s.Label != "" {
		line := struct {
			ID    string `json:"id"`
			Label string `json:"label"`
		}{s.ID, s.Label}
		if err := g.labels.Encode(line); err != nil {
			return fmt.Errorf("writing --labels %s: %w", g.flags.labels, err)
		}
	}
	if g.bar != nil && g.signIns%100 == 0 {
		if g.flags.count > 0 || g.flags.rate > 0 {
			_ = g.bar.Set(g.signIns)
		} else {
			_ = g.bar.Set64(int64(s.Time.Sub(g.options.Start) / time.Minute))
		}
	}
	if message := g.packer.Add(s.Record); message != nil {
		if err := g.send(message); err != nil {
			return err
		}
	}
	if g.oldestAt.IsZero() {
		g.oldestAt = time.Now()
	}
	g.newest = s.Time
	return nil
}

func (g *generation) flush() error {
	message := g.packer.Flush()
	if message == nil {
		return nil
	}
	return g.send(message)
}

func (g *generation) send(message []byte) error {
	g.messages++
	g.oldestAt = time.Time{}
	return g.sink.send(message, g.newest)
}

// lineFile is a file of lines: a messageSink, and where labels go.
type lineFile struct {
	name string
	file io.Closer // nil: not ours to close
	out  *bufio.Writer
}

// create makes the file that a flag names. - is standard output; without a name what is
// written is lost.
func (p *program) create(flag, name string) (*lineFile, error) {
	switch name {
	case "":
		return &lineFile{name: flag, out: bufio.NewWriter(io.Discard)}, nil
	case "-":
		return &lineFile{name: "standard output", out: bufio.NewWriterSize(p.stdout, 1<<20)}, nil
	}
	file, err := os.Create(name)
	if err != nil {
		return nil, wrong(fmt.Errorf("%s %s: %w; name a file that can be written", flag, name, errors.Unwrap(err)))
	}
	return &lineFile{name: flag + " " + name, file: file, out: bufio.NewWriterSize(file, 1<<20)}, nil
}

func (l *lineFile) send(message []byte, _ time.Time) error {
	_, _ = l.out.Write(message)
	return l.failed(l.out.WriteByte('\n')) // has the error of the write before, too
}

func (l *lineFile) close() error {
	err := l.out.Flush()
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return l.failed(err)
}

func (l *lineFile) failed(err error) error {
	if err != nil {
		return fmt.Errorf("writing %s: %w", l.name, err)
	}
	return nil
}
