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
)

const (
	// maxRecords bounds a transaction. DESIGN: from 5 thousand records on its cost is lost in
	// the rest.
	maxRecords = 5000
	// idlePoll is how long a member waits for records before it looks around.
	idlePoll = time.Second
	// heartbeat is how often a member shows the group that it lives.
	heartbeat = time.Second
	// rebuildAfter is how long a member waits before it makes a new session, so that a broker
	// that is down is not asked a thousand times.
	rebuildAfter = 500 * time.Millisecond

	// Fetch limits decide memory (DESIGN): a member's client buffers about this much.
	fetchPartitionBytes = 1 << 20
	fetchBytes          = 8 << 20
	fetchWait           = 200 * time.Millisecond
)

// member is one consumer of the group with one transactional id. All of its fields but the
// roster belong to the goroutine of run.
type member struct {
	cfg      Config
	deps     Deps
	name     string // group instance id
	log      *slog.Logger
	admin    *kadm.Client
	baseline baselineTopic

	roster  *roster
	session *kgo.GroupTransactSession
	hangUp  context.CancelFunc // ends the session's client, whatever it waits for
	running map[int32]*assignment
	work    transaction
	signIn  detector.SignIn // reused
	fenced  bool            // another process took our name: there is nothing to leave

	// marks is what the offsets were committed with, by partition. It belongs to the group's
	// callbacks: fetched writes it, adjust reads it.
	marks map[int32]string

	restores sync.WaitGroup
	fatal    chan error // the first thing that the member cannot go on after
}

func newMember(cfg Config, deps Deps, number int) *member {
	name := deps.Instance + "-" + strconv.Itoa(number)
	return &member{
		cfg: cfg, deps: deps, name: name,
		log:     deps.Log.With("member", number),
		roster:  newRoster(),
		running: make(map[int32]*assignment),
		marks:   make(map[int32]string),
		fatal:   make(chan error, 1),
	}
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
func (m *member) run(ctx context.Context, admin *kadm.Client, baseline baselineTopic) error {
	m.admin, m.baseline = admin, baseline
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
			m.log.Warn("stopping with a transaction of unknown outcome; the next owner learns it from the topic", "reason", err)
			return nil
		}
		m.log.Warn("starting over with a new session", "reason", err)
		select {
		case <-time.After(rebuildAfter):
		case <-ctx.Done():
			return nil
		}
	}
}

// errRebuild marks errors after which the session is of no use, but another may be.
var errRebuild = errors.New("session lost")

// open makes the session: a new client that joins the group.
func (m *member) open() error {
	m.roster.open()
	ctx, hangUp := context.WithCancel(context.Background())
	opts := append([]kgo.Opt(nil), m.deps.Client...)
	opts = append(opts,
		kgo.WithContext(ctx),
		kgo.ConsumerGroup(m.cfg.Group),
		kgo.ConsumeTopics(m.deps.Topics.Signins),
		kgo.Balancers(watchedBalancer{kgo.CooperativeStickyBalancer(), m.deps.Topics.Signins, m.roster}),
		kgo.InstanceID(m.name),
		kgo.TransactionalID(m.cfg.Group+"-"+m.name),
		kgo.TransactionTimeout(m.cfg.TransactionTimeout),
		kgo.SessionTimeout(m.cfg.SessionTimeout),
		kgo.HeartbeatInterval(heartbeat),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // adjust sets an offset wherever none is committed
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
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
		kgo.OnPartitionsLost(m.revoked),
		kgo.OnOffsetsFetched(m.fetched),
		kgo.AdjustFetchOffsetsFn(m.adjust),
	)
	session, err := kgo.NewGroupTransactSession(opts...)
	if err != nil {
		hangUp()
		return fmt.Errorf("making the client of detecting member %s: %w", m.name, err)
	}
	m.session, m.hangUp = session, hangUp
	return nil
}

// close gives everything back: what was not committed is forgotten.
func (m *member) close() {
	m.roster.abandon()
	if m.session != nil {
		// Close alone would wait until a rebalance is over, for a last commit; ours is made.
		m.hangUp()
		m.session.Close()
		m.session = nil
	}
	m.restores.Wait()
	m.work.reset()
	dropped, _ := m.roster.take()
	m.giveBack(dropped)
}

// finish closes the member in good order, unless close was called before. What it judged
// last was all there was, so the checkpoints of its partitions are those of now: without that,
// a partition in which nothing happens for days would be restored whole, for fear of
// deletions that it missed.
func (m *member) finish() {
	m.work.reset()
	for _, a := range m.running {
		if err := a.state.Commit(m.baseline.checkpoint(a.next, time.Now())); err != nil {
			m.fail(err)
		}
	}
	m.close()
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

func (m *member) assigned(_ context.Context, client *kgo.Client, added map[string][]int32) {
	partitions := added[m.deps.Topics.Signins]
	m.roster.assign(partitions, func() {
		client.PauseFetchPartitions(map[string][]int32{m.deps.Topics.Signins: partitions})
	})
	m.deps.Metrics.rebalances.Inc()
	if len(partitions) > 0 {
		m.log.Info("partitions assigned", "partitions", partitions)
	}
}

func (m *member) revoked(_ context.Context, client *kgo.Client, gone map[string][]int32) {
	partitions := gone[m.deps.Topics.Signins]
	m.roster.revoke(partitions)
	client.ResumeFetchPartitions(map[string][]int32{m.deps.Topics.Signins: partitions})
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
			return nil
		default:
		}
		if err := m.settle(); err != nil {
			return err
		}
		if err := m.gather(ctx); err != nil {
			m.rollback()
			return err
		}
		if m.work.records == 0 {
			continue
		}
		if err := m.commit(); err != nil {
			m.rollback()
			return err
		}
	}
}

// settle takes in what the group and the restores did since the last transaction. No polled
// record may be in hand.
func (m *member) settle() error {
	dropped, arrived := m.roster.take()
	if len(dropped) > 0 {
		// The session has noted a revoke and aborts the next transaction for it, which is none
		// of this partition's any more. An End without a Begin clears the note.
		ctx, cancel := context.WithTimeout(context.Background(), m.cfg.TransactionTimeout)
		defer cancel()
		_, err := m.session.End(ctx, kgo.TryAbort)
		m.giveBack(dropped)
		if err != nil {
			return m.sessionError("clearing the session after a rebalance", err)
		}
	}
	for _, a := range arrived {
		m.running[a.partition] = a
		m.roster.unless(a, func() {
			m.session.Client().ResumeFetchPartitions(map[string][]int32{m.deps.Topics.Signins: {a.partition}})
		})
	}
	return nil
}

// gather polls records for at most one transaction's time and judges them.
func (m *member) gather(ctx context.Context) error {
	m.work.reset()
	m.work.allowed = m.deps.Allowlist()
	if err := m.poll(ctx, idlePoll, maxRecords); err != nil || m.work.records == 0 {
		return err
	}
	if m.work.records >= maxRecords/2 {
		return nil // behind: what comes is there already
	}
	// Caught up: sign-ins that come within the transaction's time share one. One sleep and one
	// poll cost less than a poll a record.
	wait, cancel := m.roster.pollContext(ctx, m.cfg.Transaction)
	<-wait.Done()
	cancel()
	//lint:ignore SA1012 to the client a nil context means: what is buffered, without waiting
	return m.poll(nil, 0, maxRecords-m.work.records)
}

// poll judges up to most records. With a nil ctx it takes only what is buffered.
func (m *member) poll(ctx context.Context, wait time.Duration, most int) error {
	if ctx != nil {
		var cancel context.CancelFunc
		ctx, cancel = m.roster.pollContext(ctx, wait)
		defer cancel()
	}
	fetches := m.session.PollRecords(ctx, most)
	for _, failed := range fetches.Errors() {
		if err := m.fetchError(failed); err != nil {
			return err
		}
	}
	var err error
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		m.deps.Metrics.lag(p.Partition, p.FetchPartition)
		for _, r := range p.Records {
			if err == nil {
				err = m.judge(r)
			}
		}
	})
	return err
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
	case errors.Is(err, kerr.FencedInstanceID):
		return m.sessionError("reading "+m.deps.Topics.Signins, err)
	case errors.Is(err, kerr.OffsetOutOfRange):
		return fmt.Errorf("reading partition %d of %s: the next sign-in is not in the topic any more: %w; "+
			"start it again: it then says how many are lost", failed.Partition, failed.Topic, err)
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed),
		errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
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
	if errors.Is(err, kerr.FencedInstanceID) {
		m.fenced = true
		return fmt.Errorf("%s: another process runs as instance %q (%w); give each its own `instance` and state.dir",
			doing, m.deps.Instance, err)
	}
	return fmt.Errorf("%w: %s: %v", errRebuild, doing, err)
}
