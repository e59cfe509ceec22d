package detect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// transaction is the work in hand: records that were polled and judged, and what they have
// to write besides the changed profiles, which lie with the partitions.
type transaction struct {
	allowed *detector.Allowlist
	records int
	output  []*kgo.Record
	touched map[int32]*assignment
	strayed bool // a record came of a partition that does not run: nothing may be committed
	tally   tally
}

func (t *transaction) reset() {
	clear(t.output)
	*t = transaction{output: t.output[:0], touched: t.touched}
	if t.touched == nil {
		t.touched = make(map[int32]*assignment)
	}
	clear(t.touched)
}

// judge decides on one record and puts what follows from it into the transaction.
func (m *member) judge(r *kgo.Record) error {
	m.work.records++
	a := m.running[r.Partition]
	if a == nil {
		m.work.strayed = true
		return nil
	}
	m.work.touched[r.Partition] = a
	if kind, ok := signins.ControlOf(r.Headers); ok {
		return m.control(a, r, kind)
	}
	switch err := signins.Decode(r.Value, &m.signIn); {
	case errors.Is(err, signins.ErrNewer):
		return newerRecord(r, err)
	case err != nil:
		m.work.output = append(m.work.output, kafka.DeadLetter(m.deps.Topics.DeadLetter, r, -1, "sign_in", r.Value))
		m.work.tally.unreadable++
		return nil
	}
	a.pass(m.deps.Detector.Hour(&m.signIn), r)
	profile, err := a.state.ProfileAt(string(r.Key), a.now)
	if err != nil {
		return err
	}
	verdict := m.deps.Detector.Judge(&m.signIn, m.work.allowed, profile)
	m.work.tally.count(&m.signIn, verdict, r)
	if verdict.Alert != nil {
		m.work.output = append(m.work.output, m.alert(r, verdict.Alert))
	}
	return nil
}

// control takes in a control record: so far a tick, by which time passes where no sign-in does.
func (m *member) control(a *assignment, r *kgo.Record, kind string) error {
	if err := signins.CheckControl(kind); err != nil {
		return newerRecord(r, err)
	}
	switch tick, err := signins.DecodeTick(r.Value); {
	case errors.Is(err, signins.ErrNewer):
		return newerRecord(r, err)
	case err != nil:
		m.work.output = append(m.work.output, kafka.DeadLetter(m.deps.Topics.DeadLetter, r, -1, "tick", r.Value))
		m.work.tally.unreadable++
	default:
		a.pass(detector.HourOf(tick.Time), r)
	}
	return nil
}

// pass moves the event time of the partition to hour: no further than the broker's own time of
// the record, so that a clock which is ahead (a splitter's, or one that dates raw records)
// does not close everyone's window.
func (a *assignment) pass(hour int32, r *kgo.Record) {
	a.now = max(a.now, min(hour, detector.HourOf(r.Timestamp)+1))
}

// The pace of sweeps: each sweepEvery hours of event time a partition's users are gone
// through, so many of them with a transaction.
const (
	sweepEvery = 6
	sweepSlice = 500
)

// sweep deletes the users of a partition who stayed away, a slice of them with each
// transaction.
func (m *member) sweep(a *assignment) error {
	if !a.sweeping && int64(a.now)-int64(a.swept) < sweepEvery {
		return nil
	}
	if !a.sweeping {
		a.sweeping, a.swept = true, a.now
	}
	ended, err := a.state.Sweep(a.now, sweepSlice)
	if ended {
		a.sweeping = false
	}
	return err
}

// newerRecord says why the instance stops: nothing may be skipped in the middle of an upgrade,
// and the session commits the offsets of all its partitions or of none.
func newerRecord(r *kgo.Record, err error) error {
	return fmt.Errorf("reading partition %d of %s at offset %d: %w", r.Partition, r.Topic, r.Offset, err)
}

// alert is the record that announces an alert: same key and partition as its sign-in.
func (m *member) alert(r *kgo.Record, alert *detector.Alert) *kgo.Record {
	record := &kgo.Record{
		Topic:     m.deps.Topics.Alerts,
		Partition: r.Partition,
		Key:       r.Key,
		Value:     alert.JSON(),
	}
	for _, h := range alert.Headers() {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
	}
	return record
}

// commit writes the work in hand as one transaction, and then into Pebble. On errRebuild the
// outcome is unknown and the session of no use.
func (m *member) commit() error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), m.cfg.TransactionTimeout)
	defer cancel()
	committed, err := m.transact(ctx)
	if err != nil {
		m.deps.Metrics.transactions.WithLabelValues("unknown").Inc()
		return err
	}
	if !committed {
		// A rebalance came in between: the session goes back to what is committed.
		m.deps.Metrics.transactions.WithLabelValues("aborted").Inc()
		m.rollback()
		return nil
	}
	m.deps.Metrics.transactions.WithLabelValues("committed").Inc()
	m.deps.Metrics.transactionSeconds.Observe(time.Since(start).Seconds())
	m.deps.Metrics.add(&m.work.tally)
	return m.keep()
}

// transact produces the work and commits it with its offsets. It reports false where the
// transaction was aborted in good order.
func (m *member) transact(ctx context.Context) (committed bool, err error) {
	if m.work.strayed {
		if _, err := m.session.End(ctx, kgo.TryAbort); err != nil {
			return false, m.sessionError("leaving out records of a partition that was revoked", err)
		}
		return false, nil
	}
	for _, a := range m.work.touched {
		if err := m.sweep(a); err != nil {
			return false, err
		}
	}
	if err := m.session.Begin(); err != nil {
		return false, m.sessionError("beginning a transaction", err)
	}
	if err := m.produce(ctx); err != nil {
		// A record that was refused must not be missing from a committed transaction.
		if _, endErr := m.session.End(ctx, kgo.TryAbort); endErr != nil {
			return false, m.sessionError("aborting a transaction", endErr)
		}
		return false, m.produceError(err)
	}
	// The offsets carry how far the baseline topic has come: see baselineTopic.mark.
	committed, err = m.session.End(kgo.PreTxnCommitFnContext(ctx, m.markOffsets), kgo.TryCommit)
	if err != nil {
		return false, m.sessionError("committing a transaction", err)
	}
	return committed, nil
}

// produce writes the work's records and waits until the broker has them. It returns the
// first error of a record.
func (m *member) produce(ctx context.Context) error {
	var first error // written by promises, which the client runs one at a time
	failed := func(r *kgo.Record, err error) {
		if err != nil && first == nil {
			first = fmt.Errorf("producing to %s: %w", r.Topic, err)
		}
	}
	for _, r := range m.work.output {
		m.session.Produce(ctx, r, failed)
	}
	for _, a := range m.work.touched {
		for user, profile := range a.state.Changes() {
			record := &kgo.Record{Topic: m.deps.Topics.Baseline, Partition: a.partition, Key: []byte(user), Value: profile}
			m.session.Produce(ctx, record, func(r *kgo.Record, err error) {
				if failed(r, err); err == nil {
					a.produced, a.producedLast = r.Offset+1, r.Timestamp
				}
			})
		}
	}
	if err := m.session.Client().Flush(ctx); err != nil {
		return fmt.Errorf("waiting for the broker to take a transaction's records: %w", err)
	}
	return first
}

// produceError decides whether another session could do better with the same records.
func (m *member) produceError(err error) error {
	for _, final := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.TopicAuthorizationFailed,
		kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed, kerr.UnknownTopicOrPartition,
	} {
		if errors.Is(err, final) {
			return err
		}
	}
	return m.sessionError("writing a transaction", err)
}

// markOffsets adds to the offsets of a transaction how far the baseline topic has come.
// The session calls it after all records were acknowledged.
func (m *member) markOffsets(request *kmsg.TxnOffsetCommitRequest) error {
	for i := range request.Topics {
		for j := range request.Topics[i].Partitions {
			p := &request.Topics[i].Partitions[j]
			if a := m.running[p.Partition]; a != nil {
				mark := m.baseline.mark(max(a.next, a.produced), a.now)
				p.Metadata = &mark
			}
		}
	}
	return nil
}

// keep writes what a committed transaction taught into Pebble.
func (m *member) keep() error {
	for _, a := range m.work.touched {
		if a.produced > a.next {
			a.next, a.last = a.produced, a.producedLast
		}
		if err := a.state.Commit(m.baseline.checkpoint(a.next, a.last)); err != nil {
			return err
		}
		a.hour = a.now
	}
	return nil
}

// rollback forgets the work in hand.
func (m *member) rollback() {
	for _, a := range m.work.touched {
		a.state.Rollback()
		a.produced = 0
		a.now, a.sweeping = a.hour, true // what a sweep had deleted is there again
	}
	m.work.reset()
}

// A profile is what a verdict is taken from: here the two meet that do not know each other.
var _ detector.History = (*state.Profile)(nil)
