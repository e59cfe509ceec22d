package split

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// sessionTimeout is what a standby waits for when the active member dies, heartbeat what
	// it waits for when that leaves.
	sessionTimeout   = 10 * time.Second
	heartbeat        = time.Second
	rebalanceTimeout = 20 * time.Second
	// metadataAge is how soon an added partition is found.
	metadataAge = 10 * time.Second
)

// groupOpts makes the group client: a member that is assigned partitions and reads none.
func (s *Splitter) groupOpts(ctx context.Context) []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumerGroup(s.cfg.Group),
		kgo.ConsumeTopics(s.deps.InputTopics...),
		kgo.Balancers(leaderTakesAll{}),
		kgo.SessionTimeout(sessionTimeout),
		kgo.HeartbeatInterval(heartbeat),
		kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.MetadataMaxAge(metadataAge),
		kgo.DisableAutoCommit(),
		kgo.AdjustFetchOffsetsFn(func(callCtx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			<-s.connected
			return nil, s.adopt(ctx, callCtx, offsets)
		}),
		kgo.OnPartitionsAssigned(func(ctx context.Context, cl *kgo.Client, added map[string][]int32) {
			<-s.connected
			s.assigned(ctx, cl, added)
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, cl *kgo.Client, gone map[string][]int32) {
			<-s.connected
			s.revoked(ctx, cl, gone)
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
			<-s.connected
			s.mu.Lock()
			s.mu.joined = false
			s.mu.Unlock()
			s.lose(s.lanesOf(lost))
		}),
	}
}

// heed polls the group client for what it reports instead of records: that it cannot join,
// again and again while a broker is down. One line tells of it until it has joined.
func (s *Splitter) heed(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.group.PollFetches(ctx).Err()
		if ctx.Err() != nil || err == nil {
			continue
		}
		s.mu.Lock()
		first := !s.mu.silent
		s.mu.silent = true
		s.mu.Unlock()
		if first {
			s.deps.Log.Warn("the consumer group cannot be joined; trying on", "group", s.cfg.Group, "error", err)
		}
	}
}

// assigned hears that a rebalance is over. The lanes that are left are ours under the
// member id of now: those that are not were revoked before.
func (s *Splitter) assigned(_ context.Context, group *kgo.Client, _ map[string][]int32) {
	member, _ := group.GroupMetadata()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.mu.merge.lanes {
		l.member = member
	}
	if s.mu.silent {
		s.deps.Log.Info("joined the consumer group again", "group", s.cfg.Group)
	}
	s.mu.joined, s.mu.silent = true, false
}

// adopt begins to read partitions that became ours at the offsets that were committed, or
// where input.start says. ctx is that of Run; callCtx ends when the group moves on.
func (s *Splitter) adopt(ctx, callCtx context.Context, offsets map[string]map[int32]kgo.Offset) error {
	lanes, err := s.locate(callCtx, offsets)
	if err != nil {
		return err
	}
	member, _ := s.group.GroupMetadata()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lanes {
		var readCtx context.Context
		readCtx, l.stop = context.WithCancel(ctx)
		l.owned, l.member = true, member
		l.ask()
		s.mu.merge.add(l)
		s.readers.Go(func() { s.read(readCtx, l) })
	}
	if len(lanes) > 0 {
		s.deps.Log.Info("splitting", "partitions", len(s.mu.merge.lanes), "added", len(lanes))
	}
	return nil
}

// locate makes the lanes of partitions: where each begins and where it ends for now.
func (s *Splitter) locate(ctx context.Context, offsets map[string]map[int32]kgo.Offset) ([]*lane, error) {
	if len(offsets) == 0 {
		return nil, nil
	}
	b, err := s.bounds(ctx, offsets)
	if err != nil {
		return nil, err
	}
	var lanes []*lane
	for topic, partitions := range offsets {
		grown := s.committedIn(topic, partitions)
		for partition, offset := range partitions {
			start, known := b.starts.Lookup(topic, partition)
			stable, alsoKnown := b.stable.Lookup(topic, partition)
			if !known || !alsoKnown { // the brokers disagree about a partition that is new
				return nil, fmt.Errorf("asking where topic %s partition %d begins and ends: no answer", topic, partition)
			}
			l := &lane{topic: topic, partition: partition, more: make(chan struct{}, 1), committed: -1}
			l.position, l.end, l.vain = offset.EpochOffset().Offset, stable.Offset, -1
			if l.position >= 0 {
				l.committed = l.position // out of range, the reader finds out
			} else if first, ok := b.first.Lookup(topic, partition); ok && !grown {
				l.position = first.Offset
			} else {
				l.position = start.Offset
			}
			l.marked = l.position
			lanes = append(lanes, l)
		}
	}
	return lanes, nil
}

// committedIn reports whether the group has committed anything for the topic, given the
// offsets of the partitions that are new to us: then a partition without was added later.
func (s *Splitter) committedIn(topic string, partitions map[int32]kgo.Offset) bool {
	for _, offset := range partitions {
		if offset.EpochOffset().Offset >= 0 {
			return true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.mu.merge.lanes {
		if l.topic == topic {
			return true
		}
	}
	return false
}

// bounds is where the partitions of some topics begin and end.
type bounds struct {
	starts kadm.ListedOffsets
	stable kadm.ListedOffsets // the end of what read committed sees
	first  kadm.ListedOffsets // where input.start says; nil: at the beginning
}

func (s *Splitter) bounds(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (b bounds, err error) {
	var topics []string
	for topic := range offsets {
		topics = append(topics, topic)
	}
	list := func(into *kadm.ListedOffsets, ask func(context.Context, ...string) (kadm.ListedOffsets, error)) {
		if err != nil {
			return
		}
		if *into, err = ask(ctx, topics...); err == nil {
			err = into.Error()
		}
	}
	list(&b.starts, s.admin.ListStartOffsets)
	list(&b.stable, s.admin.ListCommittedOffsets)
	switch start := s.deps.Start; {
	case start.latest:
		b.first = b.stable
	case !start.at.IsZero():
		list(&b.first, func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return s.admin.ListOffsetsAfterMilli(ctx, start.at.UnixMilli(), topics...)
		})
	}
	if err != nil {
		return b, fmt.Errorf("asking where topics %v begin and end: %w", topics, err)
	}
	return b, nil
}

// revoked hands partitions over: nothing more is read, what was taken lands and is
// committed, and only then they are let go. It may be called with none.
func (s *Splitter) revoked(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	lanes := s.lanesOf(lost)
	if len(lanes) == 0 {
		return
	}
	s.withdraw(lanes)
	s.mu.Lock()
	landed := s.mu.flights.barrier()
	s.mu.Unlock()
	select {
	case <-landed:
	case <-time.After(landWithin):
		s.deps.Log.Warn("handing partitions over before all is acknowledged; some messages will be split again", "partitions", len(lanes))
	}
	s.commit(lanes)
	s.lose(lanes)
}

// lose lets partitions go as they are.
func (s *Splitter) lose(lanes []*lane) {
	if len(lanes) == 0 {
		return
	}
	s.withdraw(lanes)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lanes {
		l.owned = false
	}
	s.deps.Log.Info("no longer splitting", "partitions", len(s.mu.merge.lanes), "removed", len(lanes))
}

// withdraw stops reading lanes and takes them out of the merge.
func (s *Splitter) withdraw(lanes []*lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lanes {
		l.stop()
		s.mu.merge.remove(l)
	}
	s.rouse()
}

func (s *Splitter) lanesOf(partitions map[string][]int32) []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lanes []*lane
	for topic, ps := range partitions {
		for _, p := range ps {
			if l := s.mu.merge.find(topic, p); l != nil {
				lanes = append(lanes, l)
			}
		}
	}
	return lanes
}

func (s *Splitter) everything() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*lane(nil), s.mu.merge.lanes...)
}

var errNotOurs = errors.New("a partition was lost meanwhile")

// commit commits what is marked of the lanes.
func (s *Splitter) commit(lanes []*lane) {
	marks := make(map[*lane]int64)
	offsets := make(map[string]map[int32]kgo.EpochOffset)
	s.mu.Lock()
	for _, l := range lanes {
		if !l.owned || l.marked == l.committed {
			continue
		}
		marks[l] = l.marked
		if offsets[l.topic] == nil {
			offsets[l.topic] = make(map[int32]kgo.EpochOffset)
		}
		offsets[l.topic][l.partition] = kgo.EpochOffset{Epoch: -1, Offset: l.marked}
	}
	s.mu.Unlock()
	if len(marks) == 0 {
		return
	}

	ctx, cancel := context.WithTimeout(noCtx, commitWithin)
	defer cancel()
	// The request was made, with the member id in it, before this is called.
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for l := range marks {
			if !l.owned || l.member != req.MemberID {
				return errNotOurs
			}
		}
		return nil
	})
	err := errors.New("no answer")
	s.group.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, e error) {
		if err = e; err == nil {
			err = commitError(resp)
		}
	})
	if err != nil {
		// The next second tries again, or whoever takes over splits these messages again.
		s.deps.Log.Debug("committing input offsets", "group", s.cfg.Group, "partitions", len(marks), "error", err)
		s.deps.Metrics.commitErrors.Inc()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, offset := range marks {
		l.committed = offset
	}
}
