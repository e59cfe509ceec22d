package split

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/fault"
	"github.com/prtwatch/prtwatch/stream/entra"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

var noCtx = context.Background()

// message splits one input message: a record for each sign-in, a dead letter for what
// cannot be read.
func (s *Splitter) message(j job, now time.Time) {
	defer s.release(j.flight)
	if j.record.Attrs.IsControl() {
		return // nothing but an offset
	}
	raw, m, l := j.record, s.deps.Metrics, j.flight.lane
	clear(s.records)
	s.records = s.records[:0]
	signIns := 0
	skipped := s.decoder.Decode(raw.Value, func(in *detector.SignIn) {
		if raw.Timestamp.Unix() > 0 { // a record may have none
			in.Arrived = raw.Timestamp
		}
		s.records = append(s.records, s.signIn(in, l, signins.Place{Offset: raw.Offset, Index: int32(s.decoder.Record())}))
		signIns++
	}, func(u entra.Unreadable) {
		m.unreadable.WithLabelValues(u.Reason).Inc()
		s.tellUnreadable(raw, u, now)
		s.records = append(s.records, kafka.DeadLetter(s.deps.Topics.DeadLetter, raw, u.Record, u.Reason, u.Bytes))
	})
	if signIns > 0 {
		j.flight.arrived = raw.Timestamp
	}
	for _, r := range s.records {
		s.produce(j.flight, r)
	}
	fault.Pass(fault.SplitProduced)
	m.messages.Inc()
	m.bytes.Add(float64(len(raw.Value)))
	m.signIns.WithLabelValues(raw.Topic).Add(float64(signIns))
	m.skipped.Add(float64(skipped))
	m.age.Observe(now.Sub(raw.Timestamp).Seconds())
}

// tellEvery is how often dead letters are logged, for the topic has them all; and waits in vain, which
// are counted.
const tellEvery = time.Minute

// tellUnreadable logs a dead letter, and how many were not logged since the last that was.
func (s *Splitter) tellUnreadable(raw *kgo.Record, u entra.Unreadable, now time.Time) {
	if now.Sub(s.told) < tellEvery {
		s.untold++
		return
	}
	s.deps.Log.Warn("a record cannot be read: it is in the dead-letter topic", "reason", u.Reason, "detail", u.Detail,
		"topic", raw.Topic, "partition", raw.Partition, "offset", raw.Offset, "record", u.Record, "others_before", s.untold)
	s.told, s.untold = now, 0
}

// arenaBytes is how much memory for keys and values is taken at a time: some hundred
// sign-ins. It is freed when the last of them is acknowledged.
const arenaBytes = 64 << 10

// signIn returns the record of a sign-in that stands in a lane's place, in memory of its own.
func (s *Splitter) signIn(in *detector.SignIn, l *lane, place signins.Place) *kgo.Record {
	if cap(s.arena)-len(s.arena) < 4<<10 {
		s.arena = make([]byte, 0, arenaBytes)
	}
	start := len(s.arena)
	s.arena = append(s.arena, s.deps.UserKey(in)...)
	middle := len(s.arena)
	key := s.arena[start:middle:middle] // empty for the empty user, never nil
	partition := kafka.Partition(key, s.deps.Topics.Partitions)
	s.arena = signins.Append(s.arena, in, l.send(place, partition))
	end := len(s.arena)
	return &kgo.Record{
		Topic:     s.deps.Topics.Signins,
		Partition: partition,
		Key:       key,
		Value:     s.arena[middle:end:end],
	}
}

// dueTick returns the time of the tick that is due now, if one is: one each tickEvery. With an
// answer of the brokers that is old it says less, and nothing wrong. One that cannot be told is not tried
// again with each message: to try is to look at every partition.
func (s *Splitter) dueTick(now time.Time) (time.Time, bool) {
	e := s.mu.ends
	if len(s.mu.merge.lanes) == 0 || e == nil || now.Sub(s.mu.ticked) < s.tickEvery || now.Sub(s.mu.tried) < s.tryEvery {
		return time.Time{}, false
	}
	s.mu.tried = now
	to, known := s.mu.merge.readTo(e.asked, e.offsets)
	if known {
		s.mu.ticked = now
	}
	return to, known
}

// tick writes to every partition of the sign-ins topic up to when the input has been read.
func (s *Splitter) tick(j job) {
	defer s.release(j.flight)
	for p := range s.deps.Topics.Partitions {
		r := signins.Tick{Time: j.tick}.Record()
		r.Topic, r.Partition = s.deps.Topics.Signins, p
		s.produce(j.flight, r)
	}
	s.deps.Metrics.ticks.Inc()
}
