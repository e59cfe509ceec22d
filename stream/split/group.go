package split

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/fault"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

const (
	// sessionTimeout is what a standby waits for when the active member dies, heartbeat what
	// it waits for when that leaves.
	sessionTimeout   = 6 * time.Second
	heartbeat        = 300 * time.Millisecond
	rebalanceTimeout = 20 * time.Second
	// metadataAge is how soon an added partition is found.
	metadataAge = 10 * time.Second
)

// groupOpts makes the group client: a member that is assigned partitions and reads none.
func (s *Splitter) groupOpts(ctx context.Context) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.ConsumerGroup(s.cfg.Group),
		kgo.ConsumeTopics(s.deps.InputTopics...),
		kgo.Balancers(leaderTakesAll{}),
		kgo.SessionTimeout(sessionTimeout),
		kgo.HeartbeatInterval(heartbeat),
		kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.MetadataMaxAge(metadataAge),
		kgo.DisableAutoCommit(),
		kgo.AdjustFetchOffsetsFn(func(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			<-s.connected
			return nil, s.adopt(ctx, offsets) // the group client reads nothing
		}),
		kgo.OnOffsetsFetched(s.fetched),
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
	if s.deps.Instance != "" {
		// One that was killed and comes back within its session has its partitions again at once, and
		// the others hear nothing of it.
		opts = append(opts, kgo.InstanceID(s.deps.Instance))
	}
	return opts
}

// heed polls the group client for what it reports instead of records: that it cannot join,
// again and again while a broker is down. One line tells of it until it has joined.
func (s *Splitter) heed(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.group.PollFetches(ctx).Err()
		if ctx.Err() != nil || err == nil {
			continue
		}
		if errors.Is(err, kerr.FencedInstanceID) {
			s.mu.Lock()
			s.mu.fenced = true
			s.mu.Unlock()
			s.fail(fmt.Errorf("reading the input as a member of group %s: another process runs as instance %q (%w); give each its own `instance` and state.dir",
				s.cfg.Group, s.deps.Instance, err))
			return
		}
		if kafka.Denied(err) != nil {
			s.fail(s.denied(err))
			return
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

// denied says what to do about a right to the input that we have not.
func (s *Splitter) denied(err error) error {
	return fmt.Errorf("reading %s as group %s: %w; grant the right to this user", strings.Join(s.deps.InputTopics, ", "), s.cfg.Group, err)
}

// leave has the group client leave. That waits for an answer to a JoinGroup that is on its way,
// which the broker gives only when the whole group has joined: with a member that died, when its
// session is over. Then the client is hung up, and the group told by another one, which a static
// member's has to be told by in any case: its client says nothing. What was split and not yet
// committed is split again by who takes over.
func (s *Splitter) leave(ctx context.Context) error {
	member, _ := s.group.GroupMetadata()
	left := make(chan error, 1)
	go func() { left <- s.group.LeaveGroupContext(ctx) }()
	var err error
	hungUp := false
	select {
	case err = <-left:
	case <-time.After(goodbyeAfter):
		s.mu.Lock()
		hungUp = !s.mu.handing // else it commits, and has its own bounds
		s.mu.Unlock()
		if hungUp {
			member, _ = s.group.GroupMetadata()
			s.hangUp()
		}
		err = <-left
	}
	if hungUp || s.deps.Instance != "" {
		return s.depart(ctx, member)
	}
	return err
}

// depart tells the group that a member is gone.
func (s *Splitter) depart(ctx context.Context, member string) error {
	s.mu.Lock()
	fenced := s.mu.fenced
	s.mu.Unlock()
	if fenced || member == "" && s.deps.Instance == "" {
		return nil // there is nothing to leave
	}
	client, err := kgo.NewClient(s.deps.Input...)
	if err != nil {
		return err
	}
	defer client.Close()
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group, request.MemberID = s.cfg.Group, member
	gone := kmsg.NewLeaveGroupRequestMember()
	gone.MemberID, gone.Reason = member, kmsg.StringPtr("shutting down")
	if s.deps.Instance != "" {
		gone.InstanceID = &s.deps.Instance
	}
	request.Members = append(request.Members, gone)
	_, err = request.RequestWith(ctx, client)
	return err
}

// errThrownOut ends a session whose partitions may have been another's meanwhile.
var errThrownOut = errors.New("the group had thrown this member out")

// assigned hears that a rebalance is over. The lanes that are left are ours as before. Where that is
// under another member id we were thrown out, and hear of it with a join: of everything that we get
// again at once the client tells no loss, and another may have split and committed on. So what we have is
// let go, and read anew from what is committed.
func (s *Splitter) assigned(_ context.Context, group *kgo.Client, _ map[string][]int32) {
	s.deps.Metrics.rebalances.Inc()
	member, _ := group.GroupMetadata()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.mu.merge.lanes {
		if l.member != member {
			s.failLocked(errThrownOut)
			return
		}
	}
	if s.mu.silent {
		s.deps.Log.Info("joined the consumer group again", "group", s.cfg.Group)
	}
	s.mu.joined, s.mu.silent = true, false
}

// adopt begins to read partitions that became ours at the offsets that were committed, or
// where input.start says. It waits for no partition: each reader asks for its own bounds. ctx
// is that of Run.
func (s *Splitter) adopt(ctx context.Context, offsets map[string]map[int32]kgo.Offset) error {
	var lanes []*lane
	for topic, partitions := range offsets {
		for partition, offset := range partitions {
			lanes = append(lanes, newLane(topic, partition, offset.EpochOffset().Offset, s.tagOf(topic, partition), s.deps.Topics.Partitions))
		}
	}
	if len(lanes) == 0 {
		return nil
	}
	if err := s.begin(ctx, lanes); err != nil {
		return err
	}
	member, _ := s.group.GroupMetadata()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.merge.lanes) == 0 {
		s.mu.refused = nil // that was of what we had before
		s.mu.began, s.mu.newest = time.Now(), time.Time{}
	}
	for _, l := range lanes {
		var readCtx context.Context
		readCtx, l.stop = context.WithCancel(ctx)
		l.owned, l.member = true, member
		l.ask()
		s.mu.merge.add(l)
		s.readers.Go(func() { s.read(readCtx, l) })
	}
	s.deps.Log.Info("splitting", "partitions", len(s.mu.merge.lanes), "added", len(lanes))
	return nil
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
	s.mu.handing = true
	landed := s.mu.flights.barrier()
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mu.handing = false
	}()
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

// commit commits what is marked of the lanes, of all where lanes is nil. Two commits never come
// closer to each other than Deps.CommitPace.
func (s *Splitter) commit(lanes []*lane) {
	s.committing.Lock()
	defer s.committing.Unlock()
	time.Sleep(time.Until(s.lastCommitted.Add(s.deps.CommitPace)))
	all := lanes == nil
	s.mu.Lock()
	if all {
		lanes = s.mu.merge.lanes
	}
	marks := s.marksOf(lanes)
	s.mu.Unlock()
	if len(marks) > 0 && !s.send(marks) {
		return
	}
	s.mu.Lock()
	for l, m := range marks {
		l.committed, l.tag = m.offset, m.tag.String()
		s.mu.beginnings[l.topic] = s.beginning(l.topic).with(l.partition)
		s.mu.topics = s.mu.topics.with(l.topic)
		if l.fresh {
			l.fresh = false
			close(l.first)
		}
	}
	s.mu.Unlock()
	s.rouse()
}

// mark is what of a lane may be committed.
type mark struct {
	offset int64
	tag    tag
}

// marksOf returns the marks of lanes that are ours, where they or what goes with them are not committed. What is known of
// topics goes with each offset: or one that is deleted had been the only one that said it.
func (s *Splitter) marksOf(lanes []*lane) map[*lane]mark {
	marks := make(map[*lane]mark)
	for _, l := range lanes {
		tag := s.tagFor(l)
		if l.owned && l.marked >= 0 && (l.marked != l.committed || l.fresh || l.tag != tag.String()) {
			marks[l] = mark{l.marked, tag}
		}
	}
	return marks
}

// send commits marks, and reports whether it did. It takes those out that the broker refuses because
// there is no such topic any more: nothing of that comes again, so nothing has to wait for it.
func (s *Splitter) send(marks map[*lane]mark) bool {
	offsets, lanes := make(map[string]map[int32]kgo.EpochOffset), make(map[string]map[int32]*lane)
	for l, m := range marks {
		if offsets[l.topic] == nil {
			offsets[l.topic], lanes[l.topic] = make(map[int32]kgo.EpochOffset), make(map[int32]*lane)
		}
		offsets[l.topic][l.partition], lanes[l.topic][l.partition] = kgo.EpochOffset{Epoch: -1, Offset: m.offset}, l
	}

	fault.Pass(fault.SplitLanded)
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
		for _, t := range req.Topics {
			for i := range t.Partitions {
				p := &t.Partitions[i]
				text := marks[lanes[t.Topic][p.Partition]].tag.text(p.Offset) // it is sent when the lock is no longer held
				p.Metadata = &text
			}
		}
		return nil
	})
	err := errors.New("no answer")
	s.group.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, e error) {
		if err = e; err != nil {
			return
		}
		refused(resp, func(topic string, partition int32, e error) {
			if errors.Is(e, kerr.UnknownTopicOrPartition) {
				delete(marks, lanes[topic][partition])
				s.deps.Metrics.commitErrors.Inc()
			} else if err == nil {
				err = e
			}
		})
	})
	s.lastCommitted = time.Now()
	s.tellCommit(err, len(marks))
	if err != nil {
		s.deps.Metrics.commitErrors.Inc()
		return false
	}
	fault.Pass(fault.SplitCommitted)
	return true
}

// tellCommit says how a commit went. What failed the next second tries again, or whoever takes over splits these
// messages again; so it is no news, unless the broker will not have it whoever sends it.
func (s *Splitter) tellCommit(err error, partitions int) {
	var of *kerr.Error
	final := errors.As(err, &of) && !of.Retriable && !kafka.Moved(err)
	s.mu.Lock()
	if err == nil || final {
		s.mu.refused = err
	}
	s.mu.Unlock()
	switch now, refused := time.Now(), kafka.CommitRefused(s.cfg.Group, err); {
	case err == nil:
	case refused != nil:
		s.fail(refused)
	case final && now.Sub(s.refusedTold) >= tellEvery:
		s.refusedTold = now
		s.deps.Log.Warn("the broker refuses to commit input offsets; trying on", "group", s.cfg.Group, "partitions", partitions, "error", err)
	default:
		s.deps.Log.Debug("committing input offsets", "group", s.cfg.Group, "partitions", partitions, "error", err)
	}
}
