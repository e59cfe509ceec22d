package split

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// fetchBytes bounds a fetch of one partition. It counts compressed bytes: 256 KiB of
	// real records are some 3.5 MB in memory (DESIGN).
	fetchBytes = 256 << 10
	// lowBytes is when a partition's queue is low and the next fetch is asked for.
	lowBytes = 1 << 20
	// rereadAfter is how long a reader waits before it tries again with a new client.
	rereadAfter = time.Second
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

	owned     bool   // else nothing is marked or committed any more
	member    string // the group's member id under which it is ours
	marked    int64  // the offset that may be committed
	committed int64  // the offset that is; -1: none
}

// ask lets the reader fetch when the queue is low.
func (l *lane) ask() {
	if !l.fetching && l.bytes < lowBytes {
		l.fetching = true
		l.more <- struct{}{}
	}
}

// read fetches the lane until ctx is done. What a client cannot recover from by itself (a
// partition that is away, a right that was taken back) is tried again with a new one.
func (s *Splitter) read(ctx context.Context, l *lane) {
	log := s.deps.Log.With("topic", l.topic, "partition", l.partition)
	at, silent := l.position, false
	for ctx.Err() == nil {
		began := at
		err := s.readWith(ctx, l, &at)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, kerr.OffsetOutOfRange) {
			s.fail(s.outOfRange(ctx, l, at))
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

// readWith fetches with one client from offset *at on, which it moves, each time the lane
// has room. It returns why it cannot go on.
func (s *Splitter) readWith(ctx context.Context, l *lane, at *int64) error {
	client, err := kgo.NewClient(slices.Concat(s.deps.Input, []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: {l.partition: kgo.NewOffset().At(*at)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // else what was deleted is skipped in silence
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(fetchBytes),
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

// outOfRange says what became of the offset that a reader cannot go on at, and what to do.
func (s *Splitter) outOfRange(ctx context.Context, l *lane, at int64) error {
	reset := fmt.Sprintf("to go on without, reset the group: kafka-consumer-groups.sh --group %s --topic %s:%d --reset-offsets --to-earliest --execute", s.cfg.Group, l.topic, l.partition)
	starts, err := s.admin.ListStartOffsets(ctx, l.topic)
	if start, ok := starts.Lookup(l.topic, l.partition); err == nil && ok && at < start.Offset {
		return fmt.Errorf("reading topic %s partition %d: %d messages are lost: the next to read is offset %d and the log begins at %d; keep the topic longer; %s",
			l.topic, l.partition, start.Offset-at, at, start.Offset, reset)
	}
	return fmt.Errorf("reading topic %s partition %d: the log ends before offset %d, which is the next to read: was the topic made anew?; %s",
		l.topic, l.partition, at, reset)
}
