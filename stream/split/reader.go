package split

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

const (
	// fetchBytes bounds a fetch of one partition. It counts compressed bytes, and records compress by 7 to 13: 256 KiB
	// of them are up to some 3.5 MB in memory. So what waits takes lowBytes and that, for each partition of the input.
	// (kgo.MaxDecompressBatchBytes is no bound: what is larger is an error.)
	fetchBytes = 256 << 10
	// lowBytes is when a partition's queue is low and the next fetch is asked for.
	lowBytes = 1 << 20
	// rereadAfter is how long a reader waits before it tries again with a new client.
	rereadAfter = time.Second
	// locateWithin is how long a partition's leader may take to say where it begins and ends.
	locateWithin = 5 * time.Second
)

// lane is one input partition that is ours. Its fields below the queue are guarded by
// Splitter.mu, as the queue is.
type lane struct {
	topic     string
	partition int32
	more      chan struct{} // of size 1: the reader may fetch once
	stop      context.CancelFunc

	queue
	fetching bool // the reader was asked and has not answered

	start     Start  // where it begins if nothing is committed
	owned     bool   // else nothing is marked or committed any more
	member    string // the group's member id under which it is ours
	marked    int64  // the offset that may be committed
	committed int64  // the offset that is; -1: none
	tag       string // what that was committed with, but for the offset
	// source is the number of the source that its sign-ins are of. It is fresh until an offset is committed with
	// it; then first is closed. Nothing is read before.
	source uint32
	fresh  bool
	first  chan struct{}
	// sent is the place of the last sign-in that was sent to each partition of sign-ins, offset -1 before
	// one was. It is the loop's own.
	sent []signins.Place
	// was is the topic's id that the committed offset came with, id the one that the brokers say: "" where none
	// is known.
	was, id string
}

// newLane returns a lane whose sign-ins go to so many partitions. Only the committed offset is known of it, below
// 0 for none, and what that came with. It counts as one with more to come until a broker has said where it
// ends.
func newLane(topic string, partition int32, committed int64, with tag, partitions int32) *lane {
	l := &lane{
		topic: topic, partition: partition, more: make(chan struct{}, 1), first: make(chan struct{}), committed: max(committed, -1),
		source: with.source, was: with.id, tag: with.String(), sent: slices.Repeat([]signins.Place{{Offset: -1}}, int(partitions)),
	}
	l.position, l.end, l.vain = l.committed, math.MaxInt64, -2
	l.marked = l.committed
	for l.source == 0 {
		l.source = rand.Uint32()
	}
	if l.fresh = committed < 0 || with.source == 0; !l.fresh {
		close(l.first)
	}
	return l
}

// send returns the origin of a sign-in that goes to a partition next.
func (l *lane) send(place signins.Place, to int32) signins.Origin {
	o := signins.Origin{Source: signins.Source{Number: l.source, Partition: l.partition}, Place: place}
	if last := l.sent[to]; last.Offset >= 0 {
		o.After, o.Follows = last, true
	}
	l.sent[to] = place
	return o
}

// ask lets the reader fetch when the queue is low.
func (l *lane) ask() {
	if !l.fetching && l.bytes < lowBytes {
		l.fetching = true
		l.more <- struct{}{}
	}
}

// read fetches the lane until ctx is done. What a client cannot recover from by itself (a
// partition that is away) is tried again with a new one.
func (s *Splitter) read(ctx context.Context, l *lane) {
	log := s.deps.Log.With("topic", l.topic, "partition", l.partition)
	at, silent := int64(-1), false // at is -1 until the lane is located
	for ctx.Err() == nil {
		began := at
		var err error
		if at < 0 {
			at, err = s.locate(ctx, l)
		} else {
			err = s.identify(ctx, l)
		}
		if err == nil {
			err = s.readWith(ctx, l, &at)
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, kerr.OffsetOutOfRange) {
			s.fail(s.outOfRange(ctx, l, at))
			return
		}
		if kafka.Denied(err) != nil {
			s.fail(s.denied(err))
			return
		}
		if !silent || at > began {
			log.Warn("reading the input; trying again", "offset", at, "error", err)
		}
		silent = true
		select {
		case <-ctx.Done():
		case <-time.After(rereadAfter):
		}
	}
}

// locate finds where a partition ends for now and where to begin, and has that committed if nothing
// is. It returns where to begin, -1 with an error.
func (s *Splitter) locate(ctx context.Context, l *lane) (int64, error) {
	begin, end, err := s.bounds(ctx, l)
	if err != nil {
		return -1, err
	}
	s.mu.Lock()
	l.marked = begin
	s.mu.Unlock()
	select {
	case <-l.first:
	default:
		s.hurry()
		select {
		case <-l.first:
		case <-ctx.Done():
			return -1, ctx.Err()
		}
	}
	s.mu.Lock()
	l.position, l.end = begin, end
	s.mu.Unlock()
	s.rouse()
	return begin, nil
}

// bounds asks which topic it is, and the partition's leader where it ends for now and, if nothing
// is committed, where input.start lies.
func (s *Splitter) bounds(ctx context.Context, l *lane) (begin, end int64, err error) {
	if err := s.identify(ctx, l); err != nil {
		return -1, -1, err
	}
	ctx, cancel := context.WithTimeout(ctx, locateWithin)
	defer cancel()
	end, err = kafka.OffsetOf(ctx, s.group, l.topic, l.partition, kafka.EndOfLog, kgo.ReadCommitted())
	s.mu.Lock()
	begin = l.committed // what came with it may be committed anew meanwhile
	s.mu.Unlock()
	if err == nil && begin < 0 {
		begin, err = kafka.OffsetOf(ctx, s.group, l.topic, l.partition, l.start.timestamp(), kgo.ReadCommitted())
	}
	if err != nil {
		return -1, -1, fmt.Errorf("asking where it begins and ends: %w", err)
	}
	if begin < 0 { // nothing is as new as input.start
		begin = end
	}
	return begin, end, nil
}

// timestamp is what a broker is asked for.
func (s Start) timestamp() int64 {
	switch {
	case s.latest:
		return kafka.EndOfLog
	case s.at.IsZero():
		return kafka.StartOfLog
	}
	return s.at.UnixMilli()
}

// readWith fetches with one client from offset *at on, which it moves, each time the lane
// has room. It returns why it cannot go on.
func (s *Splitter) readWith(ctx context.Context, l *lane, at *int64) error {
	client, err := kgo.NewClient(slices.Concat(s.deps.Input, []kgo.Opt{
		kgo.WithContext(ctx), // its Close waits for no broker once the lane is gone
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: {l.partition: kgo.NewOffset().At(*at)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // else what was deleted is skipped in silence
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		// It is one partition, so this bounds all. FetchMaxBytes as low would do the same, but where that
		// ends an answer kfake leaves out which transactions in it were aborted.
		kgo.FetchMaxPartitionBytes(fetchBytes),
	})...)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	defer client.Close()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.more:
		}
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var records []*kgo.Record
		end := int64(-1)
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if p.Err == nil {
				records = append(records, p.Records...)
				end = readable(p)
			}
		})
		if n := len(records); n > 0 {
			*at = records[n-1].Offset + 1
		}
		s.deliver(l, records, end)
		if err := fetches.Err(); err != nil {
			return err
		}
	}
}

// readable returns where a partition ends for who reads committed: an open transaction hides
// what lies behind its beginning.
func readable(p kgo.FetchTopicPartition) int64 {
	if p.LastStableOffset < 0 { // a broker that knows no transactions
		return p.HighWatermark
	}
	return min(p.HighWatermark, p.LastStableOffset)
}

// deliver answers an ask with what came, be it nothing, and asks again where the queue is
// still low. An end below 0 is unknown.
func (s *Splitter) deliver(l *lane, records []*kgo.Record, end int64) {
	s.mu.Lock()
	l.fetching = false
	l.add(records, end)
	l.ask()
	s.mu.Unlock()
	s.rouse()
}

// resetting says how to go on without what is lost of a topic, or of a topic:partition.
func (s *Splitter) resetting(of string) string {
	return fmt.Sprintf("to go on without, reset the group: kafka-consumer-groups.sh --bootstrap-server INPUT_BROKERS --group %s --topic %s --reset-offsets --to-earliest --execute", s.cfg.Group, of)
}

// outOfRange says what became of the offset that a reader cannot go on at, and what to do.
func (s *Splitter) outOfRange(ctx context.Context, l *lane, at int64) error {
	reset := s.resetting(fmt.Sprintf("%s:%d", l.topic, l.partition))
	starts, err := s.admin.ListStartOffsets(ctx, l.topic)
	if start, ok := starts.Lookup(l.topic, l.partition); err == nil && ok && at < start.Offset {
		return fmt.Errorf("reading topic %s partition %d: %d messages are lost: the next to read is offset %d and the log begins at %d; keep the topic longer; %s",
			l.topic, l.partition, start.Offset-at, at, start.Offset, reset)
	}
	return fmt.Errorf("reading topic %s partition %d: the log ends before offset %d, which is the next to read: was the topic made anew?; %s",
		l.topic, l.partition, at, reset)
}
