package detect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/fault"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// transaction is the work in hand: records that were polled and judged, and what they have
// to write besides the changed profiles, which lie with the partitions. Where delivery is at
// least once it is no Kafka transaction.
type transaction struct {
	pace    pace
	allowed *detector.Allowlist
	records int
	bytes   int // of the records and of output
	output  []output
	touched map[int32]*assignment
	strayed bool // a record came of a partition that does not run: nothing may be committed
	moves   int  // how often partitions had begun to move when it began
	tally   tally
}

// output is an alert or a dead letter, and the partition whose record it came of.
type output struct {
	of     *assignment
	record *kgo.Record
}

func (t *transaction) write(a *assignment, r *kgo.Record) {
	t.output = append(t.output, output{a, r})
	t.bytes += len(r.Key) + len(r.Value)
}

func (t *transaction) reset() {
	clear(t.output)
	*t = transaction{output: t.output[:0], touched: t.touched}
	if t.touched == nil {
		t.touched = make(map[int32]*assignment)
	}
	clear(t.touched)
}

// The splitter writes nothing larger, for it cuts texts and refuses long ids. Of a sign-in of
// somebody else that is, the alert or the profile could be more than a broker takes.
const (
	maxKey    = 8 << 10
	maxSignIn = 128 << 10
)

// judge decides on one record and puts what follows from it into the transaction.
func (m *member) judge(r *kgo.Record) error {
	m.work.records++
	m.work.bytes += len(r.Key) + len(r.Value)
	a := m.running[r.Partition]
	if a == nil {
		m.work.strayed = true
		return nil
	}
	m.work.touched[r.Partition] = a
	a.judged = r.Offset + 1
	if kind, ok := signins.ControlOf(r.Headers); ok {
		return m.control(a, r, kind)
	}
	switch err := signins.Decode(r.Value, &m.signIn); {
	case errors.Is(err, signins.ErrNewer):
		return newerRecord(r, err)
	case err != nil, len(r.Key) > maxKey, len(r.Value) > maxSignIn:
		m.work.write(a, kafka.DeadLetter(m.deps.Topics.DeadLetter, r, -1, "sign_in", r.Value))
		m.work.tally.unreadable++
		return nil
	}
	if !a.heard.takes(signins.OriginOf(r.Value)) {
		m.work.tally.splitAgain++
		return nil
	}
	a.pass(m.deps.Detector.Hour(&m.signIn), r)
	profile, err := a.state.ProfileFor(string(r.Key), a.now, r.Offset)
	if err != nil || profile == nil {
		return err // without a profile: it was judged before, and only its offset not committed
	}
	if m.deps.AtLeastOnce {
		profile.Carry(r.Offset + 1)
	}
	verdict := m.deps.Detector.Judge(&m.signIn, m.work.allowed, profile)
	m.work.tally.count(&m.signIn, verdict, r)
	if verdict.Alert != nil {
		m.work.write(a, m.alert(r, verdict.Alert))
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
		m.work.write(a, kafka.DeadLetter(m.deps.Topics.DeadLetter, r, -1, "tick", r.Value))
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

// pace is how much is done with one transaction. Nothing of it can be seen in an alert.
type pace struct {
	records    int   // that are judged, at most
	sweepEvery int64 // hours of event time after which a partition's users are gone through again
	sweepSlice int   // so many of them with a transaction
}

// usualPace is that of a member. DESIGN: from 5 thousand records on the cost of a transaction is
// lost in the rest.
var usualPace = pace{records: 5000, sweepEvery: 6, sweepSlice: 500}

// sweep deletes the users of a partition who stayed away, a slice of them with each
// transaction.
func (m *member) sweep(a *assignment) error {
	now := a.now
	if m.deps.AtLeastOnce {
		// What is judged again after a crash must find the users whom it found the first time.
		now = a.committedHour
	}
	if !a.sweeping && int64(now)-int64(a.swept) < m.work.pace.sweepEvery {
		return nil
	}
	if !a.sweeping {
		a.sweeping, a.swept = true, now
	}
	ended, err := a.state.Sweep(now, m.work.pace.sweepSlice)
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

// commit writes the work in hand out and then into Pebble. On errRebuild the outcome is unknown
// and the session of no use.
func (m *member) commit() error {
	fault.Pass(fault.DetectJudged)
	start := time.Now()
	ctx, cancel := context.WithTimeout(m.limit, m.cfg.TransactionTimeout)
	defer cancel()
	committed, err := m.delivery.write(ctx)
	if err != nil {
		m.deps.Metrics.failed("unknown", m.causeOf(err))
		return err
	}
	if !committed {
		// A rebalance came in between, or the offsets were not taken just then: the session goes back to what is committed.
		m.deps.Metrics.failed("aborted", m.causeOfAbort())
		m.rollback()
		return nil
	}
	fault.Pass(fault.DetectCommitted)
	m.deps.Metrics.transactions.WithLabelValues("committed").Inc()
	m.deps.Metrics.transactionSeconds.Observe(time.Since(start).Seconds())
	m.deps.Metrics.add(&m.work.tally)
	for _, o := range m.work.output {
		if o.record.Topic == m.deps.Topics.DeadLetter {
			m.deps.Metrics.deadLetters.Inc()
		}
	}
	if err := m.keep(); err != nil {
		return err
	}
	return m.delivery.acknowledge(ctx)
}

// The causes for which a transaction was not committed: label values.
const (
	causeRebalance = "rebalance" // amid it the group took partitions away, or had thrown the member out
	causeFenced    = "fenced"    // another one has the member's name or its transactional id
	causeBroker    = "broker"    // no answer in time, or an error that the next one may not meet
	causeStop      = "stop"      // a stop waited no longer for the brokers
	causeFatal     = "fatal"     // the instance ends of it: a right that is not granted, a record too large, a state that cannot be read
)

var causes = []string{causeRebalance, causeFenced, causeBroker, causeStop, causeFatal}

// causeOf returns why a transaction failed with err.
func (m *member) causeOf(err error) string {
	switch {
	case m.fenced, errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch):
		return causeFenced
	case errors.Is(err, errThrownOut), kafka.Moved(err):
		return causeRebalance
	case !errors.Is(err, errRebuild):
		return causeFatal
	case m.limit.Err() != nil:
		return causeStop
	}
	return causeBroker
}

// causeOfAbort returns why a transaction was aborted in good order. The session does not say.
func (m *member) causeOfAbort() string {
	if times, now := m.roster.moves(); m.work.strayed || now || times != m.work.moves {
		return causeRebalance
	}
	return causeBroker
}

// promise returns what is to be called with each record that the broker took or refused, and
// the first error that came. The client calls promises one at a time, before Flush returns.
func promise() (failed func(*kgo.Record, error), first *error) {
	first = new(error)
	return func(r *kgo.Record, err error) {
		if err != nil && *first == nil {
			*first = fmt.Errorf("producing to %s: %w", r.Topic, err)
		}
	}, first
}

// produceOutput hands the alerts and dead letters of the work to the client.
func (m *member) produceOutput(ctx context.Context, failed func(*kgo.Record, error)) {
	for _, o := range m.work.output {
		m.client.Produce(ctx, o.record, failed)
	}
}

// produceChanges hands the changed profiles of the work to the client.
func (m *member) produceChanges(ctx context.Context, failed func(*kgo.Record, error)) {
	for _, a := range m.work.touched {
		for user, profile := range a.state.Changes() {
			m.produceProfile(ctx, a, user, profile, a.judged, failed)
		}
	}
}

// flush waits until the broker has answered for all that was produced.
func (m *member) flush(ctx context.Context) error {
	if err := m.client.Flush(ctx); err != nil {
		return fmt.Errorf("waiting for the broker to take a transaction's records: %w", err)
	}
	return nil
}

// produceProfile hands a profile to the client, or with nil its deletion as of offset.
func (m *member) produceProfile(ctx context.Context, a *assignment, user string, profile []byte, offset int64, failed func(*kgo.Record, error)) {
	record := &kgo.Record{Topic: m.deps.Topics.Baseline, Partition: a.partition, Key: []byte(user), Value: profile}
	if m.deps.AtLeastOnce {
		record.Headers = m.baseline.carries(profile, offset)
	}
	m.client.Produce(ctx, record, func(r *kgo.Record, err error) {
		if err == nil && r.Offset < a.next {
			err = fmt.Errorf("%w: offset %d of partition %d, which was at %d: it was deleted and made again", errAnotherTopic, r.Offset, r.Partition, a.next)
		}
		if failed(r, err); err == nil {
			a.produced, a.producedLast = r.Offset+1, r.Timestamp
			a.wrote++
		}
	})
}

// errAnotherTopic marks a profile that was written where the profiles are not.
var errAnotherTopic = errors.New("the topic is another one")

// produceError decides whether another session could do better with the same records.
func (m *member) produceError(err error) error {
	for _, final := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.TopicAuthorizationFailed,
		kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed, kerr.UnknownTopicOrPartition,
		errAnotherTopic,
	} {
		if errors.Is(err, final) {
			return err
		}
	}
	return m.sessionError("writing a transaction", err)
}

// keep writes what a committed transaction taught into Pebble.
func (m *member) keep() error {
	for _, a := range m.work.touched {
		if a.produced > a.next {
			a.next, a.last, a.wrote = a.produced, a.producedLast, 0
		}
		if err := a.state.Commit(m.baseline.checkpoint(a.next, a.last)); err != nil {
			return err
		}
		a.heard.keep()
		a.hour, a.position = a.now, a.judged
		fault.Pass(fault.DetectKeeping)
	}
	fault.Pass(fault.DetectKept)
	return nil
}

// rollback forgets the work in hand.
func (m *member) rollback() {
	for _, a := range m.work.touched {
		a.state.Rollback()
		a.produced, a.judged = 0, a.position
		a.heard.rollback()
		a.now, a.sweeping = a.hour, true // what a sweep had deleted is there again
	}
	m.work.reset()
}

// A profile is what a verdict is taken from: here the two meet that do not know each other.
var _ detector.History = (*state.Profile)(nil)
