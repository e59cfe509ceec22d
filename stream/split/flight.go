package split

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

// flight is one input message on its way to the internal topics, or a tick.
type flight struct {
	of   *flights
	lane *lane // nil: moves no offset
	next int64 // the input offset to mark when it is done
	// airborne counts the records that are not acknowledged, and one for the loop while it
	// still adds some.
	airborne atomic.Int32
	bytes    int64         // of it and its records, the loop's until it lets go
	arrived  time.Time     // of a message with a sign-in: its timestamp
	passed   chan struct{} // closed when the flight leaves the queue; nil where nobody waits
}

// flights is the queue of flights in the order of the merge.
type flights struct {
	queue []*flight
	bytes int64 // of all that are queued
	// crashed: a record was given up. Nothing is marked any more, and nobody waits.
	crashed bool
}

// start puts a flight in the queue. It weighs something without a record too: it waits behind what has
// not landed.
func (q *flights) start(l *lane, next int64) *flight {
	f := &flight{lane: l, next: next, bytes: recordOverhead}
	f.airborne.Store(1)
	q.line(f)
	return f
}

func (q *flights) line(f *flight) {
	f.of = q
	q.queue = append(q.queue, f)
}

// barrier returns a channel that is closed when all flights of now have landed.
func (q *flights) barrier() <-chan struct{} {
	f := &flight{passed: make(chan struct{})}
	q.line(f)
	q.settle()
	return f.passed
}

// settle takes the flights that have landed off the head of the queue and marks their
// offsets.
func (q *flights) settle() {
	for len(q.queue) > 0 && q.queue[0].airborne.Load() == 0 {
		f := q.queue[0]
		q.queue[0] = nil
		q.queue = q.queue[1:]
		q.bytes -= f.bytes
		if f.lane != nil && f.lane.owned && !q.crashed {
			f.lane.marked = f.next
		}
		if f.passed != nil {
			close(f.passed)
		}
	}
}

// errNoProducerID ends a session with an idempotent producer.
var errNoProducerID = errors.New("the brokers give no producer id")

// produce puts a record on the flight. It does not wait: the loop takes no message while
// too much is in the air.
func (s *Splitter) produce(f *flight, r *kgo.Record) {
	f.airborne.Add(1)
	s.held = true
	f.bytes += int64(len(r.Key)+len(r.Value)) + recordOverhead
	bare := s.bare // as the client is that is asked
	// Not the context of Run: what is buffered when it ends still has to go out.
	s.producer.Produce(noCtx, r, func(r *kgo.Record, err error) {
		switch {
		case err == nil:
			if r.Topic == s.deps.Topics.DeadLetter {
				s.deps.Metrics.deadLetters.Inc()
			}
			s.land(f)
		case errors.Is(err, kgo.ErrClientClosed): // not committed: it is split again
			s.crash(f)
		case kafka.Refused(err) != nil && !bare:
			s.fail(fmt.Errorf("producing to topic %s: %w (%w)", r.Topic, errNoProducerID, err))
			s.crash(f)
		default:
			s.fail(fmt.Errorf("producing a record of %d bytes to topic %s partition %d: %w", len(r.Key)+len(r.Value), r.Topic, r.Partition, err))
			s.crash(f)
		}
	})
}

// release ends the loop's hold on the flight: it has all its records.
func (s *Splitter) release(f *flight) {
	s.mu.Lock()
	f.of.bytes += f.bytes
	if f.arrived.After(s.mu.newest) {
		s.mu.newest = f.arrived
	}
	s.mu.Unlock()
	s.land(f)
}

// land takes one hold off the flight.
func (s *Splitter) land(f *flight) {
	if f.airborne.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	f.of.settle()
	s.mu.Unlock()
	s.rouse()
}

// crash notes that a record of the flight will never be acknowledged.
func (s *Splitter) crash(f *flight) {
	s.mu.Lock()
	f.of.crashed = true
	s.mu.Unlock()
	s.land(f)
}
