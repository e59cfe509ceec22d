// Package split turns the raw input topics into prtwatch.signins: it reads every input
// partition, merges their messages by record timestamp, decodes them and produces one
// record a sign-in, keyed and partitioned by user, and a tick a minute. It owns the
// membership of the input's consumer group, the order of the merge and the rule of when an
// input offset may be committed. It must know nothing of verdicts, profiles or the baseline
// topic.
//
// Start at Splitter.Run, then Splitter.split: the loop through which every message goes.
//
// # Goroutines
//
//   - The loop (Splitter.split) takes the next message from the merge, decodes it and hands
//     its sign-ins to the producer. It alone owns the decoder and produces.
//   - A reader for each owned partition (reader.go) polls a client of its own when its queue
//     is low.
//   - The group client's callbacks (group.go) add and remove partitions. That client reads
//     nothing: it does membership and commits. A goroutine polls it for its errors only.
//   - The producer's acknowledgements (flight.go) come on kgo's goroutine.
//   - The keeper (keeper.go) commits each second. Another goroutine asks where the input ends.
//
// All that they share is behind Splitter.mu, held for moments and never while anything
// waits for a broker. One commits at a time (Splitter.committing).
//
// # At least once
//
// A message that the loop has taken is a flight, in a queue in the order of the merge. The
// flight lands when all of its records are acknowledged; a flight that has landed leaves the
// queue when all before it have, and only then its partition's offset is marked, and what is
// marked may be committed. So a committed offset says that everything before it in that
// partition is in prtwatch.signins or in the dead-letter topic. A produce that the client
// gives up on ends the stage: its flight never lands, and nothing after it is marked. What comes again
// after a crash comes from the same places, by which the next stage knows it: see signins.Origin.
//
// Where brokers give no producer ids, delivery at least once goes on in a session without
// idempotence: a request that was sent again may repeat sign-ins, in order (kafka.WithoutProducerID).
//
// Losing a partition is the race to watch. Say this process is stopped (SIGSTOP, a long
// pause) until its session is over, another member has taken the partition over and has
// committed far ahead. We wake with flights in the air. Their acknowledgements come, we mark
// them, meanwhile the client rejoins with a new member id and a new generation, and the
// commit, valid again, sets the group back. Therefore:
//
//   - a lane is marked and committed only while lane.owned, which a loss clears before the
//     client rejoins;
//   - a lane remembers the member id under which it was assigned, and a commit is dropped just
//     before it is sent unless the request carries that id. A member that was thrown out never
//     gets its id back, so a commit that passes is either made by the owner or refused by the
//     broker. Owned is not enough: a member that finds itself thrown out while it joins is told
//     so by a plain revoke, or by nothing where it gets the same again; then the session ends,
//     and another begins from what is committed (assigned).
//
// On a revoke with the id unchanged the partition is still ours: the callback stops its
// reader, waits until its flights have landed, commits and only then lets it go.
//
// # Non-obvious
//
//   - Where nothing is committed, the offset that reading starts at is committed before anything is
//     read, and each offset says how many partitions its topic had when the group began on it, of which
//     there were offsets since, and of which topics. So a partition that was added later is read from its beginning,
//     whatever input.start says, and one whose offset expired is told from one that had no leader yet; and a topic
//     whose offsets expired from one that is new. Where sign-ins were split and no offset says any of that, all
//     have expired (Splitter.begin).
//   - Control records are kept, and move the position: else a partition that ends in markers
//     would seem to have more for ever.
//   - A tick must be produced by the loop, between two messages: from elsewhere it could
//     overtake the sign-ins of the message in hand.
package split

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/stream/entra"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// Deps is what a Splitter works with. All of it outlives the Splitter.
type Deps struct {
	// Input are the options of the clients of the cluster where the export arrives, and
	// Internal those of the cluster where everything else lives: brokers, security, logging.
	Input, Internal []kgo.Opt
	// InputTopics are the raw topics.
	InputTopics []string
	// Start is where a partition that has no committed offset is read from.
	Start Start
	// Topics are the names of the internal topics and their partition count.
	Topics kafka.Topics
	// UserKey returns the key of a sign-in (Detector.UserKey), and Identity names by what it tells users from each
	// other (detector.Config.Identity): where that is another than before, users may be in other partitions.
	UserKey  func(*detector.SignIn) string
	Identity string
	// Instance names this process among those of the group, and outlives it; where it is empty,
	// one that was killed comes back as a stranger, and waits for its own session to end.
	Instance string
	// AcceptLoss reads from Start where the group has committed nothing though sign-ins were split,
	// instead of ending.
	AcceptLoss bool
	// AtLeastOnce goes on without idempotence where the brokers of Internal give no producer ids,
	// instead of ending.
	AtLeastOnce bool
	// CommitPace is how soon after one commit the next may follow.
	CommitPace time.Duration
	// Log gets what an operator should know.
	Log *slog.Logger
	// Metrics counts; made once with NewMetrics, used by one Splitter.
	Metrics *Metrics
}

// Periods and bounds that no one has needed to configure.
const (
	tickEvery   = time.Minute
	commitEvery = time.Second
	endsEvery   = 5 * time.Second
	tryEvery    = 100 * time.Millisecond // to tell a tick that is due

	// maxInFlight bounds what is taken and has not yet landed, in bytes with recordOverhead for
	// each message and each record of it. At 100,000 sign-ins a second it lasts 200 ms.
	maxInFlight    = 16 << 20
	recordOverhead = 256

	// fillFor is how long a batch of a partition may fill up while the loop is behind: a message's
	// sign-ins go to as many partitions, and would else go out a few to a batch. What it saves was
	// not measured apart from the rest.
	fillFor = 25 * time.Millisecond

	// landWithin is how long a revoke waits for acknowledgements, commitWithin how long a
	// commit may take; in a stop both have to do with kafka.LeaveWithin. After goodbyeAfter the
	// group is told that we leave by another connection.
	landWithin   = 4 * time.Second
	commitWithin = 2 * time.Second
	goodbyeAfter = time.Second
)

// Splitter is the splitting stage of one process. Many may run in one group: one of them
// splits, the others stand by.
type Splitter struct {
	cfg  Config
	deps Deps

	tickEvery, tryEvery, commitEvery, endsEvery, fillFor time.Duration // constants but for tests

	group    *kgo.Client
	hangUp   context.CancelFunc // ends both clients at once
	admin    *kadm.Client       // of the input cluster
	producer *kgo.Client
	readers  sync.WaitGroup
	wake     chan struct{} // of size 1: the loop may have something to do
	due      chan struct{} // of size 1: a commit is wanted before its time
	// committing is held while offsets are committed; it guards lastCommitted, when that was, and refusedTold, when it
	// was logged last that they are refused.
	committing                 sync.Mutex
	lastCommitted, refusedTold time.Time
	// connected is closed once the clients are there: the group's callbacks may come before
	// the call that makes its client has returned.
	connected chan struct{}
	end       context.CancelFunc // of a session's context

	// The loop's own.
	decoder *entra.Decoder
	arena   []byte
	records []*kgo.Record // of the message in hand
	held    bool          // records may wait for their batches to fill
	told    time.Time     // when a dead letter was logged last
	untold  int           // dead letters since
	missed  time.Time     // when a wait in vain was logged last
	bare    bool          // the brokers give no producer ids: without idempotence

	mu struct {
		sync.Mutex
		merge   merge
		flights *flights
		joined  bool  // the group has told us what is ours, be it nothing
		fenced  bool  // another member has our name: there is nothing to leave
		silent  bool  // a lost connection to the group was logged already
		ends    *ends // where the input ended lately; nil until asked
		// tags came with the offsets that were fetched last, by topic and partition; beginnings and topics are what
		// offsets have said in this session.
		tags       map[string]map[int32]tag
		beginnings map[string]beginning
		topics     topics
		ticked     time.Time
		tried      time.Time // to tell a tick
		handing    bool      // a revoke is handing partitions over
		refused    error     // the broker will not have the last commit, whoever sends it
		failure    error     // why the session ends, nil while all is well

		fencings kafka.Fencings

		began  time.Time // when the first of the partitions that are ours became ours
		newest time.Time // arrival of the newest message with a sign-in that was split since; zero before one was
	}
}

// New returns a Splitter for a valid configuration.
func New(cfg Config, deps Deps) *Splitter {
	s := &Splitter{
		cfg: cfg, deps: deps,
		tickEvery: tickEvery, tryEvery: tryEvery, commitEvery: commitEvery, endsEvery: endsEvery, fillFor: fillFor,
		wake: make(chan struct{}, 1), due: make(chan struct{}, 1),
		decoder: entra.NewDecoder(),
	}
	s.mu.merge.wait = cfg.MergeWait
	s.fresh()
	s.deps.Metrics.watch(s)
	return s
}

// fresh makes it ready for a session: nothing is ours, and nothing in the air.
func (s *Splitter) fresh() {
	s.connected = make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.merge.lanes, s.mu.merge.blocked = nil, time.Time{}
	s.mu.flights = &flights{}
	s.mu.joined, s.mu.fenced, s.mu.silent, s.mu.handing = false, false, false, false
	s.mu.ends, s.mu.refused, s.mu.failure = nil, nil, nil
	s.mu.tags, s.mu.beginnings, s.mu.topics = make(map[string]map[int32]tag), make(map[string]beginning), nil
}

// Ready reports whether the group has told this member what is its own, and takes its commits; standing by is
// ready. If not, it says what is missing.
func (s *Splitter) Ready() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.mu.joined:
		return false, "joining the consumer group " + s.cfg.Group
	case s.mu.refused != nil && len(s.mu.merge.lanes) > 0:
		return false, fmt.Sprintf("committing offsets of group %s: %v", s.cfg.Group, s.mu.refused)
	}
	return true, ""
}

// Run splits until ctx is done; then it lets what is in the air land, commits, leaves the
// group and returns nil, within kafka.LeaveWithin even when brokers are away. It returns an
// error when it cannot go on: a committed offset that is out of range, a record that cannot be
// produced, a right that is not granted, brokers that refuse idempotence (but see Deps.AtLeastOnce), or another process under
// the same instance name. It is called once.
func (s *Splitter) Run(ctx context.Context) error {
	for {
		err := s.session(ctx)
		warning := "the group knows us no more; joining it anew"
		switch {
		case errors.Is(err, errThrownOut):
		case errors.Is(err, kerr.FencedInstanceID) && !s.twin():
		case errors.Is(err, errNoProducerID) && !s.deps.AtLeastOnce:
			return fmt.Errorf("%w; grant this user IdempotentWrite on the cluster, or set `delivery: at-least-once`", err)
		case errors.Is(err, errNoProducerID):
			s.bare, warning = true, "the brokers give no producer ids; going on without, in a new session"
		default:
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		s.deps.Log.Warn(warning, "group", s.cfg.Group, "name", s.deps.Instance, "reason", err)
		s.fresh()
	}
}

// twin notes that we were fenced, and reports whether another process has our name.
func (s *Splitter) twin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.fencings.Twin(time.Now())
}

// session splits as one member of the group, until ctx is done or it cannot go on.
func (s *Splitter) session(ctx context.Context) error {
	runCtx, end := context.WithCancel(ctx)
	s.end = end
	defer end()
	farewell, done := kafka.After(runCtx, kafka.LeaveWithin)
	defer done()
	if err := s.connect(runCtx, farewell); err != nil {
		return err
	}
	defer s.producer.Close()
	defer s.hangUp()
	defer s.group.Close()

	var helpers sync.WaitGroup
	helpers.Go(func() { s.heed(runCtx) })
	helpers.Go(func() { s.keep(runCtx) })
	helpers.Go(func() { s.watch(runCtx) })
	s.split(runCtx)
	helpers.Wait()

	if err := s.leave(farewell); err != nil {
		s.deps.Log.Warn("leaving the group; a standby takes over after the session timeout", "group", s.cfg.Group, "error", err)
	}
	s.lose(s.everything()) // what leaving did not get round to
	s.readers.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.failure
}

// connect makes the two clients that live as long as the session, and no longer than farewell.
// It reaches no broker.
func (s *Splitter) connect(ctx, farewell context.Context) (err error) {
	var alive context.Context
	alive, s.hangUp = context.WithCancel(farewell)
	var idempotence []kgo.Opt // the client's own
	if s.bare {
		idempotence = kafka.WithoutProducerID()
	}
	s.producer, err = kgo.NewClient(slices.Concat(s.deps.Internal, idempotence, []kgo.Opt{
		kgo.WithContext(alive),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(s.fillFor), // not waited for while caught up: see sendOff
		kgo.MaxBufferedBytes(4 * maxInFlight),
		kgo.MaxBufferedRecords(4 * maxInFlight / recordOverhead),
	})...)
	if err != nil {
		return fmt.Errorf("making the splitter's producer: %w", err)
	}
	s.group, err = kgo.NewClient(slices.Concat(s.deps.Input, s.groupOpts(ctx), []kgo.Opt{kgo.WithContext(alive)})...)
	if err != nil {
		s.producer.Close()
		return fmt.Errorf("making the client of the consumer group %s: %w", s.cfg.Group, err)
	}
	s.admin = kadm.NewClient(s.group)
	close(s.connected)
	return nil
}

// fail ends the session with err, or with an earlier one.
func (s *Splitter) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
}

// failLocked is fail for who holds mu.
func (s *Splitter) failLocked(err error) {
	if s.mu.failure == nil {
		s.mu.failure = err
	}
	s.end()
}

func (s *Splitter) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// split is the loop: message by message in the order of the merge, until ctx is done.
func (s *Splitter) split(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		job, until := s.next(now)
		switch {
		case job.record != nil:
			s.message(job, now)
			continue
		case !job.tick.IsZero():
			s.tick(job)
			continue
		case !until.IsZero():
			timer.Reset(until.Sub(now))
		}
		s.sendOff()
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// sendOff has what was produced go out now, and waits for nothing. It is called where the loop is about
// to wait, so that no batch fills up soon. (What is sent to a topic that the client does not know yet
// waits for fillFor all the same.)
func (s *Splitter) sendOff() {
	if !s.held {
		return
	}
	s.held = false
	_ = s.producer.Flush(over) // its error is over's
}

// over is a context that has ended.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// job is what the loop does next: a message to split or a tick to write, and the flight
// that its records go on.
type job struct {
	flight *flight
	record *kgo.Record
	tick   time.Time
}

// next takes the next job, or returns when to ask again if nothing happens before.
func (s *Splitter) next(now time.Time) (job, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.flights.bytes >= maxInFlight {
		return job{}, time.Time{} // a landing wakes us
	}
	if tick, due := s.dueTick(now); due {
		return job{flight: s.mu.flights.start(nil, 0), tick: tick}, time.Time{}
	}
	waits := s.mu.merge.waits
	l, record, until := s.mu.merge.next(now)
	if s.mu.merge.waits > waits && now.Sub(s.missed) >= tellEvery {
		s.missed = now
		s.deps.Log.Warn("a partition that has more did not bring it within merge_wait: the others go on, and what it brings is out of order",
			"topic", s.mu.merge.absent.topic, "partition", s.mu.merge.absent.partition, "merge_wait", s.cfg.MergeWait, "waits", s.mu.merge.waits)
	}
	if record == nil {
		return job{}, until
	}
	l.ask()
	return job{flight: s.mu.flights.start(l, record.Offset+1), record: record}, time.Time{}
}
