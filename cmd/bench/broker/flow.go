package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Stage is a group that reads a topic.
type Stage struct{ Group, Topic string }

// Flow is a pipeline of two stages: the first reads a topic to which nothing is added any more, and
// has written what became of each record when it commits its offset; the second commits with its
// results.
type Flow struct{ First, Second Stage }

// State is how far a flow had come at a moment, a partition each.
type State struct {
	At            time.Time
	First, Second []int64 // committed
	Written       []int64 // where the second stage's topic ended
}

// Ends is where the last records of the second stage's topic end, a partition each.
type Ends struct{ Second []int64 }

// State asks how far the flow is. A topic that is not there yet has no partitions.
func (b *Broker) State(ctx context.Context, f Flow) (s State, err error) {
	if s.First, err = b.committed(ctx, f.First); err != nil {
		return s, err
	}
	if s.Second, err = b.committed(ctx, f.Second); err != nil {
		return s, err
	}
	listed, err := b.Admin.ListEndOffsets(ctx, f.Second.Topic)
	if err != nil {
		return s, fmt.Errorf("asking where topic %s ends: %w", f.Second.Topic, err)
	}
	s.Written = offsets(listed, f.Second.Topic)
	s.At = time.Now()
	return s, nil
}

// offsets are those of a topic, none where it is not there yet.
func offsets(listed kadm.ListedOffsets, topic string) []int64 {
	at := make([]int64, len(listed[topic]))
	for partition, o := range listed[topic] {
		if partition >= 0 && int(partition) < len(at) && o.Err == nil {
			at[partition] = o.Offset
		}
	}
	return at
}

// committed are a group's offsets, 0 where there is none.
func (b *Broker) committed(ctx context.Context, s Stage) ([]int64, error) {
	offsets, err := b.Admin.FetchOffsets(ctx, s.Group)
	if kerr.IsRetriable(err) {
		return nil, nil // nobody has had a group yet, and the broker is about to make their topic
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the offsets of group %s: %w", s.Group, err)
	}
	var at []int64
	for partition, o := range offsets[s.Topic] {
		for int(partition) >= len(at) {
			at = append(at, 0)
		}
		at[partition] = max(0, o.At)
	}
	return at, nil
}

// FirstDone reports whether the first stage had committed all of its topic, whose end is given.
func (s State) FirstDone(end []int64) bool { return covers(s.First, end) }

// Ends returns where the last records of the second stage's topic end, once the first stage is done.
// What follows the last record of a partition is markers of transactions, which nobody commits.
func (b *Broker) Ends(ctx context.Context, f Flow) (e Ends, err error) {
	end, err := b.End(ctx, f.Second.Topic)
	if err != nil {
		return e, err
	}
	e.Second, err = b.lastRecords(ctx, f.Second.Topic, end)
	return e, err
}

// End returns where the partitions of a topic end.
func (b *Broker) End(ctx context.Context, topic string) ([]int64, error) {
	listed, err := b.Admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("asking where topic %s ends: %w", topic, err)
	}
	return offsets(listed, topic), nil
}

// tail is how far before its end the last record of a partition is looked for first: markers come one
// a transaction, and records by the thousand between two of them.
const tail = 16

// lastRecords returns for each partition the offset after its last record.
func (b *Broker) lastRecords(ctx context.Context, topic string, end []int64) ([]int64, error) {
	last := make([]int64, len(end))
	for back := int64(tail); ; back *= 16 {
		if err := b.readTail(ctx, topic, end, last, back); err != nil {
			return nil, fmt.Errorf("looking for the last records of topic %s: %w", topic, err)
		}
		missing := false
		for p := range end {
			missing = missing || last[p] == 0 && end[p] > back
		}
		if !missing {
			return last, nil
		}
	}
}

// readTail reads what is left from back offsets before the end, and notes the last record of each partition.
func (b *Broker) readTail(ctx context.Context, topic string, end, last []int64, back int64) error {
	from := make(map[int32]kgo.Offset)
	at := make([]int64, len(end))
	for p := range end {
		at[p] = max(0, end[p]-back)
		if end[p] > 0 {
			from[int32(p)] = kgo.NewOffset().At(at[p])
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	for !covers(at, end) {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return err
		}
		for _, e := range fetches.Errors() {
			return e.Err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() && r.Offset < end[r.Partition] {
				last[r.Partition] = r.Offset + 1
			}
		})
	}
	return nil
}

// Done reports whether in this state both stages had committed everything up to the ends.
func (s State) Done(e Ends) bool { return len(e.Second) > 0 && covers(s.Second, e.Second) }

// Progress is how much of both stages' work is done in this state, 0 to 1: the mean of the two. The first
// one's is what it has written; some commit much later.
func (s State) Progress(e Ends) float64 {
	return (share(s.Written, e.Second) + share(s.Second, e.Second)) / 2
}

func share(at, end []int64) float64 {
	var done, all int64
	for p := range end {
		all += end[p]
		if p < len(at) {
			done += min(at[p], end[p])
		}
	}
	if all == 0 {
		return 0
	}
	return float64(done) / float64(all)
}

// covers reports whether no partition is behind its end.
func covers(at, end []int64) bool {
	for p := range end {
		if end[p] > 0 && (p >= len(at) || at[p] < end[p]) {
			return false
		}
	}
	return true
}

// ReadCommitted calls each with every committed record of the topic, up to where it ends now.
func (b *Broker) ReadCommitted(ctx context.Context, topic string, each func(*kgo.Record)) error {
	return b.readCommitted(ctx, topic, nil, nil, each)
}

// Written is what a topic took.
type Written struct {
	Records int
	Bytes   int64 // of the keys and values
	Stored  int64 // of the batches as the broker has them, compressed, with those of aborted transactions and markers
}

// WrittenSince returns what was written to a topic, and committed, since it ended there. A log that is
// compacted meanwhile has less of it.
func (b *Broker) WrittenSince(ctx context.Context, topic string, end []int64) (Written, error) {
	var w Written
	err := b.readCommitted(ctx, topic, end, []kgo.Opt{kgo.WithHooks((*stored)(&w.Stored))}, func(r *kgo.Record) {
		w.Records++
		w.Bytes += int64(len(r.Key) + len(r.Value))
	})
	return w, err
}

// stored counts the bytes of the batches that a client has fetched.
type stored int64

// batchHead is what a batch has before its records, which alone a client tells the size of.
const batchHead = 61

// OnFetchBatchRead implements kgo.HookFetchBatchRead. One goroutine a broker calls it, and there is one broker.
func (s *stored) OnFetchBatchRead(_ kgo.BrokerMetadata, _ string, _ int32, m kgo.FetchBatchMetrics) {
	*s += batchHead + stored(m.CompressedBytes)
}

// readCommitted reads from those offsets on; a partition that is not among them from its start.
func (b *Broker) readCommitted(ctx context.Context, topic string, offsets []int64, opts []kgo.Opt, each func(*kgo.Record)) error {
	end, err := b.End(ctx, topic)
	if err != nil {
		return err
	}
	at := make([]int64, len(end))
	copy(at, offsets)
	from := make(map[int32]kgo.Offset)
	for p := range end {
		if end[p] > at[p] {
			from[int32(p)] = kgo.NewOffset().At(at[p])
		}
	}
	if len(from) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond))...)
	if err != nil {
		return err
	}
	defer client.Close()
	for !covers(at, end) {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return fmt.Errorf("reading topic %s: %w", topic, err)
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("reading topic %s: %w", topic, e.Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				each(r)
			}
		})
	}
	return nil
}
