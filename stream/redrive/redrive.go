// Package redrive sends the dead letters that today's decoder reads back into the pipeline: as records of the sign-ins
// topic, on the partition of their user, as the splitter would have written them. It owns which dead letters are read,
// what becomes of each, and the position up to which all were tried. It must know nothing of profiles and verdicts: what is
// sent twice is the detecting stage's to notice, as it is with what Azure sends twice.
//
// Start at Redriver.Run, then letter.go.
//
// # At least once
//
// What was read is sent, acknowledged, and only then passed. After a crash some of it is sent again, and judged again: an
// alert comes once, for the profile of its user remembers it (state, maxAlerts). That holds for what is younger than Deps.Kept; what
// is older is not sent, as nothing is known any more of the hours before it and the alerts on it.
//
// The sign-ins carry no signins.Origin: they do not come in the order of their source, and one that was read later from an
// earlier place would be taken for a copy.
package redrive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/stream/entra"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// Deps is what a Redriver works with.
type Deps struct {
	// Client are the options of the client: brokers, security, logging.
	Client []kgo.Opt
	// Topics are the names of the topics and their partition count.
	Topics kafka.Topics
	// UserKey returns the key of a sign-in (Detector.UserKey).
	UserKey func(*detector.SignIn) string
	// Kept is how far back hours and alerts of a user are remembered.
	Kept time.Duration
	// AtLeastOnce goes without idempotence, for brokers that give no producer ids: what is sent may be repeated.
	AtLeastOnce bool
}

// Redriver reads the dead-letter topic once.
type Redriver struct {
	deps   Deps
	which  Selection
	client *kgo.Client
	admin  *kadm.Client

	entra  *entra.Decoder
	report Report
}

// Selection is which dead letters are read. The zero value is those behind the group's position.
type Selection struct {
	// Group is the consumer group whose offset in the dead-letter topic is the position: all before it were tried.
	Group string
	// From is where reading begins: a Beginning, an offset (0 or more), or a time if Since is not zero.
	From  int64
	Since time.Time
	// Reasons are those that are wanted; none: all. The others are passed over, and the position stays.
	Reasons []string
	// DryRun sends nothing and leaves the position. Instead it calls Found for each sign-in that would be sent. The
	// sign-in's texts are valid during the call.
	DryRun bool
	Found  func(Letter, *detector.SignIn)
}

// The beginnings that Selection.From may name in place of an offset.
const (
	FromPosition = -1
	FromStart    = -2
)

// New returns a Redriver.
func New(deps Deps, which Selection) *Redriver {
	return &Redriver{deps: deps, which: which, entra: entra.NewDecoder(), report: newReport()}
}

// answerWithin bounds how long brokers that have answered before may take for a record or a commit.
const answerWithin = 30 * time.Second

// Run reads up to where the topic ends now, sends what can be read, and returns what became of all. It is called once.
// When ctx ends it first waits for what it has sent, and moves the position behind that. An error comes with the report of
// what was done before.
func (r *Redriver) Run(ctx context.Context) (Report, error) {
	opts := slices.Concat(r.deps.Client, []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(answerWithin),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // else the end may never be reached: it can be a marker
		kgo.FetchMaxBytes(4 << 20), kgo.FetchMaxPartitionBytes(4 << 20),
	})
	if r.deps.AtLeastOnce {
		opts = append(opts, kafka.WithoutProducerID()...)
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return r.report, fmt.Errorf("making the client that redrives: %w", err)
	}
	defer client.Close()
	r.client, r.admin = client, kadm.NewClient(client)
	p, err := r.plan(ctx)
	if err != nil {
		return r.report, err
	}
	r.report.From, r.report.Before, r.report.Position = p.from, p.from-p.start, p.position
	if p.from < p.end {
		client.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.deps.Topics.DeadLetter: {0: kgo.NewOffset().At(p.from)}})
	}
	for at := p.from; at < p.end; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return r.report, context.Cause(ctx)
		}
		if err := fetches.Err(); err != nil {
			return r.report, fmt.Errorf("reading topic %s: %w", r.deps.Topics.DeadLetter, err)
		}
		if at, err = r.pass(ctx, fetches, at, p); err != nil {
			return r.report, err
		}
	}
	return r.report, nil
}

// plan is what is read, and whether that moves the position.
type plan struct {
	start, end int64 // of the topic
	from       int64
	position   int64 // of the group
	moves      bool
}

// plan asks where the topic begins and ends, and what was tried before.
func (r *Redriver) plan(ctx context.Context) (p plan, err error) {
	topic := r.deps.Topics.DeadLetter
	ask := func(timestamp int64) (int64, error) {
		return kafka.OffsetOf(ctx, r.client, topic, 0, timestamp, kgo.ReadCommitted())
	}
	p.start, err = ask(kafka.StartOfLog)
	if err == nil {
		p.end, err = ask(kafka.EndOfLog)
	}
	if err == nil && !r.which.Since.IsZero() {
		if r.which.From, err = ask(r.which.Since.UnixMilli()); r.which.From < 0 {
			r.which.From = p.end
		}
	}
	if err != nil {
		return p, fmt.Errorf("asking for the offsets of topic %s: %w", topic, err)
	}
	committed, err := r.admin.FetchOffsetsForTopics(ctx, r.which.Group, topic)
	if err == nil {
		err = committed.Error()
	}
	if kafka.Denied(err) != nil {
		err = fmt.Errorf("%w; grant the right to this user", err)
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return p, fmt.Errorf("asking for the offset of group %s in topic %s: %w", r.which.Group, topic, err)
	}
	// Where letters were deleted, or the topic was made again, the position is its beginning.
	p.position = p.start
	if o, ok := committed.Lookup(topic, 0); ok && o.At >= p.start && o.At <= p.end {
		p.position = o.At
	}
	switch r.which.From {
	case FromPosition:
		p.from = p.position
	case FromStart:
		p.from = p.start
	default:
		p.from = min(max(r.which.From, p.start), p.end)
	}
	// It moves only over letters that were tried.
	p.moves = !r.which.DryRun && len(r.which.Reasons) == 0 && p.from <= p.position
	return p, nil
}

// pass deals with what was fetched at an offset, and returns the one behind it.
func (r *Redriver) pass(ctx context.Context, fetches kgo.Fetches, at int64, p plan) (int64, error) {
	var failed error // of a promise: they come one at a time, before Flush returns
	fetches.EachRecord(func(raw *kgo.Record) {
		if raw.Offset >= p.end {
			return
		}
		at = raw.Offset + 1
		if raw.Attrs.IsControl() {
			return
		}
		for _, record := range r.open(raw) {
			// Not ctx: what was begun is ended when a signal comes.
			r.client.Produce(context.WithoutCancel(ctx), record, func(record *kgo.Record, err error) {
				if err != nil && failed == nil {
					failed = fmt.Errorf("producing to topic %s: %w", record.Topic, err)
				}
			})
		}
	})
	limit, done := kafka.After(ctx, kafka.WorkWithin)
	defer done()
	limit, cancel := context.WithTimeout(limit, answerWithin)
	defer cancel()
	if err := r.client.Flush(limit); err != nil {
		return at, errors.Join(context.Cause(ctx), fmt.Errorf("waiting for the brokers to take what was sent: %w", err))
	}
	if failed != nil || !p.moves || at <= r.report.Position {
		return at, failed
	}
	return at, r.move(limit, at)
}

// move commits the position.
func (r *Redriver) move(ctx context.Context, to int64) error {
	var offsets kadm.Offsets
	offsets.AddOffset(r.deps.Topics.DeadLetter, 0, to, -1)
	answer, err := r.admin.CommitOffsets(ctx, r.which.Group, offsets)
	if err == nil {
		err = answer.Error()
	}
	if refused := kafka.CommitRefused(r.which.Group, err); refused != nil {
		return refused
	}
	if err != nil {
		return fmt.Errorf("committing offset %d of topic %s for group %s: %w", to, r.deps.Topics.DeadLetter, r.which.Group, err)
	}
	r.report.Position = to
	return nil
}
