package detect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

const (
	// maxBytes bounds a transaction besides pace.records, for so many profiles of as many networks as
	// a user may have would take some 200 MB. It ends with the poll that has it pass this;
	// pollRecords bounds that.
	maxBytes    = 8 << 20
	pollRecords = 100
	// idlePoll is how long a member waits for records before it looks around.
	idlePoll = time.Second
	// heartbeat is how often a member shows the group that it lives, and so how soon it hears of a
	// rebalance: partitions that move are judged by nobody until every member has.
	heartbeat = 300 * time.Millisecond
	// rebuildAfter is how long a member waits before it makes a new session, so that a broker
	// that is down is not asked a thousand times.
	rebuildAfter = 500 * time.Millisecond

	// Fetch limits decide memory (DESIGN): a member's client buffers about this much, and of a
	// partition a MiB, which is the client's default.
	fetchBytes = 8 << 20
	fetchWait  = 200 * time.Millisecond
)

// member is one consumer of the group with one transactional id. All of its fields but the
// roster belong to the goroutine of run.
type member struct {
	cfg      Config
	deps     Deps
	name     string // group instance id
	log      *slog.Logger
	asking   *kgo.Client // of the stage, as is admin
	admin    *kadm.Client
	baseline baselineTopic
	// limit is done when a stop waits no longer for what is in hand, and so is the session.
	limit context.Context

	roster   *roster
	delivery delivery
	client   *kgo.Client // the session's
	hangUp   func()      // ends the client, whatever it waits for
	running  map[int32]*assignment
	// turn is held while records may be in hand. A revoke waits for it where delivery is at
	// least once.
	turn     chan struct{}
	work     transaction
	signIn   detector.SignIn // reused
	fenced   bool            // another process took our name: there is nothing to leave
	fencings kafka.Fencings
	ids      memberIDs
	// takeovers is how often it has taken its name from another process since it started.
	takeovers int

	warned time.Time // of sign-ins that have waited long

	// marks is what the offsets were committed with, by partition. It belongs to the group's
	// callbacks: fetched writes it, adjust reads it.
	marks map[int32]mark

	restores sync.WaitGroup
	fatal    chan error // the first thing that the member cannot go on after
}

func newMember(cfg Config, deps Deps, number int) *member {
	name := deps.Instance + "-" + strconv.Itoa(number)
	m := &member{
		cfg: cfg, deps: deps, name: name,
		log:     deps.Log.With("member", number),
		roster:  newRoster(),
		running: make(map[int32]*assignment),
		marks:   make(map[int32]mark),
		turn:    make(chan struct{}, 1),
		fatal:   make(chan error, 1),
	}
	m.delivery = &exactlyOnce{member: m}
	if deps.AtLeastOnce {
		m.delivery = &atLeastOnce{member: m}
	}
	return m
}

// fail ends the member with err at its next look around. It may be called by any goroutine.
func (m *member) fail(err error) {
	select {
	case m.fatal <- err:
	default:
	}
	m.roster.mu.Lock()
	defer m.roster.mu.Unlock()
	m.roster.wake()
}

// run judges until ctx is done or it cannot go on, with one session after another. It
// leaves the last one open: the caller closes the member once it has left the group.
func (m *member) run(ctx context.Context) error {
	for {
		if err := m.open(); err != nil {
			return err
		}
		err := m.loop(ctx)
		if err == nil {
			return nil // ctx is done, and all that was judged is committed
		}
		m.close()
		switch {
		case !errors.Is(err, errRebuild):
			return err
		case ctx.Err() != nil:
			m.log.Warn("stopping before the brokers have confirmed what was in hand; the next owner learns from the topics what became of it", "reason", err)
			return nil
		}
		m.log.Warn("starting over with a new session", "reason", err)
		saying, cancel := context.WithTimeout(ctx, goodbyeWithin)
		m.goodbye(saying, m.asking)
		cancel()
		select {
		case <-time.After(rebuildAfter):
		case <-ctx.Done():
			return nil
		}
	}
}

// errRebuild marks errors after which the session is of no use, but another may be.
var errRebuild = errors.New("session lost")

// errThrownOut: the group has another member id for us than when it gave us a partition. Who is thrown out
// and hears of it with a join is told of no loss where it gets the same again, and others may have had
// that meanwhile: it is ours, and what we know of it is old. What is then committed next meets this.
var errThrownOut = fmt.Errorf("%w: the group had thrown this member out", errRebuild)

// open makes the session: a new client that joins the group.
func (m *member) open() error {
	m.roster.open()
	ctx, hangUp := context.WithCancel(m.limit)
	opts := append([]kgo.Opt(nil), m.deps.Client...)
	opts = append(opts,
		kgo.WithContext(ctx),
		kgo.ConsumerGroup(m.cfg.Group),
		kgo.ConsumeTopics(m.deps.Topics.Signins),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.InstanceID(m.name),
		kgo.SessionTimeout(m.cfg.SessionTimeout),
		kgo.HeartbeatInterval(heartbeat),
		// How long a member that joined and died can hold up a rebalance. Ours answer at once, but
		// for a transaction that has to end.
		kgo.RebalanceTimeout(max(20*time.Second, 2*m.cfg.TransactionTimeout)),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // adjust sets an offset wherever none is committed
		kgo.FetchMaxBytes(fetchBytes),
		// A partition that is resumed is in the next fetch only, so this is how long it may lie
		// idle behind others that have nothing.
		kgo.FetchMaxWait(fetchWait),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		// With the default a produce that meets CONCURRENT_TRANSACTIONS waits 5 s (DESIGN).
		kgo.MetadataMinAge(10*time.Millisecond),
		kgo.OnPartitionsAssigned(m.assigned),
		kgo.OnPartitionsRevoked(m.revoked),
		kgo.OnPartitionsLost(m.lost),
		kgo.OnOffsetsFetched(m.fetched),
		kgo.AdjustFetchOffsetsFn(m.adjust),
		kgo.WithHooks(&steps{roster: m.roster, ids: &m.ids}),
	)
	if m.cfg.GroupProtocol == Consumer {
		opts = append(opts, kgo.ServerSideBalancer())
	}
	client, err := m.delivery.open(opts)
	if err != nil {
		hangUp()
		return fmt.Errorf("making the client of detecting member %s: %w", m.name, err)
	}
	m.client = client
	m.hangUp = func() {
		hangUp()
		m.ids.is("")
	}
	return nil
}

// close gives everything back: what was not committed is forgotten.
func (m *member) close() {
	m.roster.abandon()
	if m.client != nil {
		// Close alone would wait until a rebalance is over, for a last commit; ours is made.
		m.hangUp()
		m.client.Close()
		m.client = nil
	}
	m.restores.Wait()
	m.work.reset()
	dropped, _ := m.roster.take()
	m.giveBack(dropped)
}

// giveBack releases the leases of assignments that are over.
func (m *member) giveBack(dropped []*assignment) {
	for _, a := range dropped {
		if m.running[a.partition] == a {
			delete(m.running, a.partition)
			m.deps.Metrics.forget(a.partition)
		}
		if a.state == nil {
			continue // its restore has not handed it over and releases it itself
		}
		a.state.Rollback()
		if err := a.state.Release(); err != nil {
			m.fail(err)
		}
	}
}

func (m *member) assigned(ctx context.Context, client *kgo.Client, added map[string][]int32) {
	partitions := added[m.deps.Topics.Signins]
	id, _ := client.GroupMetadata()
	moving := m.roster.assign(partitions, id, func() {
		client.PauseFetchPartitions(map[string][]int32{m.deps.Topics.Signins: partitions})
	})
	m.deps.Metrics.rebalances.Inc()
	if !moving.IsZero() {
		m.deps.Metrics.rebalanceSeconds.Observe(time.Since(moving).Seconds())
	}
	if len(partitions) > 0 {
		m.log.Info("partitions assigned", "partitions", partitions)
		m.restores.Go(func() { m.delivery.inherit(ctx, client) })
	}
}

// lost hears of partitions that are another's already.
func (m *member) lost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	partitions := gone[m.deps.Topics.Signins]
	m.roster.outside()
	m.roster.revoke(partitions)
	if len(partitions) > 0 {
		m.log.Info("partitions lost", "partitions", partitions)
	}
}

func (m *member) revoked(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	partitions := gone[m.deps.Topics.Signins]
	if m.deps.AtLeastOnce && len(partitions) > 0 {
		defer m.handOver()()
	}
	m.roster.revoke(partitions)
	if len(partitions) > 0 {
		m.log.Info("partitions revoked", "partitions", partitions)
	}
}

// loop judges with the open session until ctx is done (nil), the session is of no use any
// more (errRebuild) or the member cannot go on.
func (m *member) loop(ctx context.Context) error {
	for {
		select {
		case err := <-m.fatal:
			return err
		case <-ctx.Done():
			return m.delivery.acknowledge(m.limit)
		default:
		}
		if err := m.round(ctx); err != nil {
			return err
		}
	}
}

// round gathers and commits one transaction.
func (m *member) round(ctx context.Context) error {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	if err := m.settle(); err != nil {
		return err
	}
	if err := m.gather(ctx); err != nil {
		m.rollback()
		return err
	}
	if m.work.records == 0 {
		return nil
	}
	if err := m.commit(); err != nil {
		m.rollback()
		return err
	}
	return nil
}

// settle takes in what the group and the restores did since the last transaction. No polled
// record may be in hand.
func (m *member) settle() error {
	asked := time.Now()
	m.roster.holds(m.client.CommittedOffsets()[m.deps.Topics.Signins], asked)
	dropped, arrived := m.roster.take()
	if len(dropped) > 0 {
		ctx, cancel := context.WithTimeout(m.limit, m.cfg.TransactionTimeout)
		defer cancel()
		err := m.delivery.clear(ctx)
		m.giveBack(dropped)
		if err != nil {
			return err
		}
	}
	for _, a := range arrived {
		m.running[a.partition] = a
		m.deps.Metrics.expect(a.partition)
		m.roster.unless(a, func() {
			m.client.ResumeFetchPartitions(map[string][]int32{m.deps.Topics.Signins: {a.partition}})
		})
	}
	return m.delivery.look()
}

// gather polls records for at most one transaction's time and judges them.
func (m *member) gather(ctx context.Context) error {
	m.work.reset()
	m.work.allowed, m.work.pace = m.deps.Allowlist(), m.deps.usualPace()
	m.work.moves, _ = m.roster.moves()
	if err := m.poll(ctx, idlePoll); err != nil || m.work.records == 0 {
		return err
	}
	if err := m.drain(); err != nil || m.work.records >= m.work.pace.records/2 || m.full() {
		return err // behind, where there is no error: what comes is there already
	}
	// Caught up: sign-ins that come within the transaction's time share one. One sleep and one
	// poll cost less than a poll a record.
	wait, cancel := m.roster.pollContext(ctx, m.cfg.Transaction)
	<-wait.Done()
	cancel()
	return m.drain()
}

// drain judges what the client has buffered, as far as the work in hand may grow.
func (m *member) drain() error {
	for more := true; more && !m.full(); {
		before := m.work.records
		//lint:ignore SA1012 to the client a nil context means: what is buffered, without waiting
		if err := m.poll(nil, 0); err != nil {
			return err
		}
		more = m.work.records > before
	}
	return nil
}

// full reports whether the work in hand is as large as it may become.
func (m *member) full() bool {
	bytes := m.work.bytes
	for _, a := range m.work.touched {
		bytes += a.state.OpenBytes()
	}
	return bytes >= maxBytes || m.work.records >= m.work.pace.records
}

// poll judges some records. With a nil ctx it takes only what is buffered.
func (m *member) poll(ctx context.Context, wait time.Duration) error {
	if ctx != nil {
		var cancel context.CancelFunc
		ctx, cancel = m.roster.pollContext(ctx, wait)
		defer cancel()
	}
	fetches := m.client.PollRecords(ctx, min(pollRecords, m.work.pace.records-m.work.records))
	for _, failed := range fetches.Errors() {
		if err := m.fetchError(failed); err != nil {
			return err
		}
	}
	var err error
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if m.running[p.Partition] != nil {
			m.deps.Metrics.lag(p.Partition, p.FetchPartition)
			m.waited(p.FetchPartition)
		}
		for _, r := range p.Records {
			if err == nil {
				err = m.judge(r)
			}
		}
	})
	return err
}

// waited warns, once a minute, of sign-ins that have waited for half of the time after which their topic deletes them.
func (m *member) waited(p kgo.FetchPartition) {
	kept := m.baseline.retention
	if len(p.Records) == 0 || kept <= 0 || time.Since(m.warned) < time.Minute {
		return
	}
	if age := time.Since(p.Records[0].Timestamp); age > kept/2 {
		m.warned = time.Now()
		m.log.Warn("sign-ins have waited for more than half of what their topic keeps: start more instances, or raise its retention.ms, before it deletes them",
			"topic", m.deps.Topics.Signins, "partition", p.Partition, "waited", age.Round(time.Second), "retention", kept)
	}
}

// fetchError decides what an error that came with a poll means.
func (m *member) fetchError(failed kgo.FetchError) error {
	err := failed.Err
	var lost *kgo.ErrDataLoss
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil // the poll's own end
	case errors.Is(err, kgo.ErrClientClosed):
		return fmt.Errorf("%w: the client was closed", errRebuild)
	case errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kerr.UnreleasedInstanceID) && m.taken():
		return m.sessionError("reading "+m.deps.Topics.Signins, err)
	case errors.Is(err, kerr.OffsetOutOfRange):
		return fmt.Errorf("reading partition %d of %s: the next sign-in is not in the topic any more: %w; "+
			"start it again: it then says how many are lost", failed.Partition, failed.Topic, err)
	case kafka.Denied(err) != nil:
		return fmt.Errorf("reading %s as group %s: %w; grant the right to this user", m.deps.Topics.Signins, m.cfg.Group, err)
	case errors.As(err, &lost):
		m.log.Error("the broker lost records; going on with what is left", "error", err)
		return nil
	default:
		// While a broker is down every poll brings this. The client tries on, and logs.
		m.deps.Metrics.fetchErrors.Inc()
		m.log.Debug("reading sign-ins", "error", err)
		return nil
	}
}

// sessionError wraps an error after which the outcome of a transaction is unknown.
func (m *member) sessionError(doing string, err error) error {
	fenced := errors.Is(err, kerr.FencedInstanceID) ||
		(errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)) && m.replaced()
	if errors.Is(err, kerr.UnreleasedInstanceID) || fenced && m.fencings.Twin(time.Now()) {
		m.fenced = true
		return fmt.Errorf("%s: another process runs as instance %q (%w); give each its own `instance` and state.dir",
			doing, m.deps.Instance, err)
	}
	return fmt.Errorf("%w: %s: %w", errRebuild, doing, err)
}
