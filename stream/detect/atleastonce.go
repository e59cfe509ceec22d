package detect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/fault"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// handOverWithin is for how long a revoke waits for the work in hand. Heartbeats go on
// meanwhile, and what is not done by then is judged again by who takes over.
const handOverWithin = 2 * time.Second

// atLeastOnce does without transactions, by the order of what it writes: alerts, then the
// profiles, which remember the alerts, then Pebble, then the offsets. After a crash an alert
// may come again under its id, until the profile that remembers it is written; from then on the
// profile says by the offset that it carries what it has taken in, and that is not judged again.
type atLeastOnce struct {
	*member
	bare   bool // the brokers give no producer ids: without idempotence
	looked time.Time
	said   time.Time // when the log was last told that commits are refused
}

func (d *atLeastOnce) open(opts []kgo.Opt) (*kgo.Client, error) {
	opts = append(opts, kgo.DisableAutoCommit())
	if d.bare {
		opts = append(opts, kafka.WithoutProducerID()...)
	}
	d.looked = time.Now()
	return kgo.NewClient(opts...)
}

func (d *atLeastOnce) inherit(context.Context, *kgo.Client) {}
func (d *atLeastOnce) clear(context.Context) error          { return nil }

// write writes the alerts and then the profiles of the work. A partition that is lost meanwhile
// is left out.
func (d *atLeastOnce) write(ctx context.Context) (bool, error) {
	if d.work.strayed {
		return false, fmt.Errorf("%w: records of a partition came before it was restored", errRebuild)
	}
	d.shed()
	for _, a := range d.work.touched {
		if err := d.sweep(a); err != nil {
			return false, err
		}
	}
	if err := d.produce(ctx, d.produceOutput); err != nil {
		return false, err
	}
	fault.Pass(fault.DetectProducing)
	d.shed()
	if err := d.produce(ctx, d.produceChanges); err != nil {
		return false, err
	}
	fault.Pass(fault.DetectProduced)
	for _, a := range d.work.touched {
		if a.interrupted() {
			if err := d.survey(ctx, a); err != nil {
				return false, err
			}
			if a.produced == 0 { // it was postponed, and behind its checkpoint Pebble would hold our part alone
				return false, fmt.Errorf("%w: what others wrote to partition %d of %s meanwhile is further than we are, or cannot be read now",
					errRebuild, a.partition, d.baseline.name)
			}
		}
	}
	return true, nil
}

// shed leaves out what is another's already.
func (d *atLeastOnce) shed() {
	kept := d.work.output[:0]
	for _, o := range d.work.output {
		if !d.roster.lost(o.of) {
			kept = append(kept, o)
		}
	}
	d.work.output = kept
	for p, a := range d.work.touched {
		if d.roster.lost(a) {
			delete(d.work.touched, p) // its state is rolled back when it is given back
		}
	}
}

// produce writes what records hands to the client, and returns the first error of a record.
func (d *atLeastOnce) produce(ctx context.Context, records func(context.Context, func(*kgo.Record, error))) error {
	failed, first := promise()
	records(ctx, failed)
	err := d.flush(ctx)
	if err == nil {
		err = *first
	}
	switch {
	case err == nil:
		return nil
	case kafka.Refused(err) != nil && !d.bare:
		d.bare = true
		return fmt.Errorf("%w: the brokers refuse an idempotent producer (%v); going on without", errRebuild, err)
	}
	return d.produceError(err)
}

// acknowledge commits the offsets of what is kept. The member id and the generation come first,
// then it is looked whether the partitions are still ours: so either the broker refuses, or
// nobody else has them. What is refused is committed with the next work, or found to be in the
// profiles by who has the partition then.
func (d *atLeastOnce) acknowledge(ctx context.Context) error {
	id, generation := d.client.GroupMetadata()
	pending, stranger := d.roster.unacknowledged(d.running, id)
	if stranger {
		return errThrownOut
	}
	if len(pending) == 0 {
		return nil
	}
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = d.deps.Topics.Signins, d.baseline.signins
	for _, a := range pending {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		mark := d.baseline.mark(a.position, max(a.next, a.produced), a.hour, a.heard.kept)
		p.Partition, p.Offset, p.Metadata = a.partition, a.position, &mark
		topic.Partitions = append(topic.Partitions, p)
	}
	request := kmsg.NewPtrOffsetCommitRequest()
	request.Group, request.Generation, request.MemberID, request.InstanceID = d.cfg.Group, generation, id, &d.name
	request.Topics = append(request.Topics, topic)
	fault.Pass(fault.DetectEnding)
	asked := time.Now()
	response, err := request.RequestWith(ctx, d.client)
	if err != nil {
		return d.commitError(err)
	}
	for _, topic := range response.Topics {
		for _, p := range topic.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return d.commitError(err)
			}
		}
	}
	for _, a := range pending {
		a.committed, a.committedHour = a.position, a.hour
		a.last = asked // as the next checkpoint says, which is a minute away where a splitter writes its ticks
	}
	fault.Pass(fault.DetectOffsets)
	return nil
}

// commitError decides whether a commit that failed can be made up for by a later one.
func (d *atLeastOnce) commitError(err error) error {
	d.deps.Metrics.commitErrors.Inc()
	const doing = "committing offsets"
	switch {
	case errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kgo.ErrClientClosed),
		errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition):
		return d.sessionError(doing, err)
	}
	if final := kafka.CommitRefused(d.cfg.Group, err); final != nil {
		return final
	}
	if now := time.Now(); !passing(err) && now.Sub(d.said) > cmp.Or(d.deps.sayEvery, waitsEvery) {
		d.said = now
		d.log.Warn("committing offsets is refused; what is judged is judged again after a restart", "error", err)
	}
	d.log.Debug(doing, "error", err)
	return nil
}

// passing reports whether a commit may be refused for now alone: amid a rebalance, or by a broker that is not the
// group's any more, or that is away.
func passing(err error) bool {
	var said *kerr.Error
	return kafka.Moved(err) || !errors.As(err, &said) || said.Retriable
}

// handOver waits, for a while, until no record is in hand and all that was judged is
// committed, and keeps the member from taking more until the returned function is called.
func (m *member) handOver() (done func()) {
	m.roster.leave(true)
	defer m.roster.leave(false)
	select {
	case m.turn <- struct{}{}:
		return func() { <-m.turn }
	case <-time.After(cmp.Or(m.deps.handOver, handOverWithin)):
		m.log.Warn("handing partitions over before what is judged is written; some alerts may come again")
		return func() {}
	}
}
