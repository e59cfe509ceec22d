package split

import (
	"cmp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// merge brings the messages of many partitions into one order: oldest head first, by the
// timestamp that the input topic gave them. Within a partition the order is the log's.
//
// It waits for a partition that has run dry only when that is known to hold more, at most
// wait, and never twice for the same position; a partition that has been read to its end is
// not waited for. It is plain data: no goroutines, no clock but what it is told.
type merge struct {
	wait  time.Duration
	lanes []*lane // by topic, then partition: which decides between equal timestamps

	blocked time.Time     // since when nothing goes out; zero while it does
	waits   int           // how often a partition was waited for in vain
	absent  *lane         // the last one of those
	waited  time.Duration // how long nothing went out for want of a partition's head
}

// queue is what has been read of one partition and is yet to be merged.
type queue struct {
	records []*kgo.Record // control records too: they move the position, in order
	bytes   int           // of the values in records, with recordOverhead for each
	// position is the next offset to come from the broker, -1 while that is not known; end is
	// where the latest fetch saw the partition end, as far as read committed can see. More is
	// known to be there while position < end; of a partition whose leader has not answered
	// yet it is taken for granted.
	position, end int64
	newest        time.Time // timestamp of the last message that was taken; zero before one was

	since time.Time // when the merge began to wait for this partition; zero: it does not
	vain  int64     // the position that was waited for in vain, -2 before that
}

// add appends what a fetch brought. An end below 0 is unknown.
func (q *queue) add(records []*kgo.Record, end int64) {
	for _, r := range records {
		q.bytes += len(r.Value) + recordOverhead
		q.position = r.Offset + 1
	}
	q.records = append(q.records, records...)
	if end >= 0 {
		q.end = end
	}
	if len(records) > 0 {
		q.since = time.Time{}
	}
}

// pop takes the head.
func (q *queue) pop() *kgo.Record {
	r := q.records[0]
	q.records[0] = nil // what is taken must not be kept alive by its neighbours
	q.records = q.records[1:]
	q.bytes -= len(r.Value) + recordOverhead
	if !r.Attrs.IsControl() {
		q.newest = r.Timestamp
	}
	return r
}

// owes reports whether the partition is known to have more, and has not shown it yet.
func (q *queue) owes() bool {
	return len(q.records) == 0 && q.position < q.end && q.vain != q.position
}

func (m *merge) add(l *lane) {
	m.lanes = append(m.lanes, l)
	slices.SortFunc(m.lanes, func(a, b *lane) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
}

func (m *merge) remove(l *lane) {
	m.lanes = slices.DeleteFunc(m.lanes, func(x *lane) bool { return x == l })
}

func (m *merge) find(topic string, partition int32) *lane {
	for _, l := range m.lanes {
		if l.topic == topic && l.partition == partition {
			return l
		}
	}
	return nil
}

// next takes the message that goes out next. Without one (nil), it is worth asking again
// once a partition brings more, or at the time it returns, if that is not zero.
func (m *merge) next(now time.Time) (*lane, *kgo.Record, time.Time) {
	oldest := m.oldest()
	if oldest == nil {
		m.blocked = time.Time{}
		return nil, nil, time.Time{}
	}
	if oldest.records[0].Attrs.IsControl() {
		return oldest, oldest.pop(), time.Time{}
	}
	if until := m.awaited(now); !until.IsZero() {
		if m.blocked.IsZero() {
			m.blocked = now
		}
		return nil, nil, until
	}
	if !m.blocked.IsZero() {
		m.waited += now.Sub(m.blocked)
		m.blocked = time.Time{}
	}
	return oldest, oldest.pop(), time.Time{}
}

// oldest returns the lane whose head has the least timestamp, or one whose head is a
// control record: that carries nothing and waits for nobody. Nil when all are dry.
func (m *merge) oldest() *lane {
	var oldest *lane
	for _, l := range m.lanes {
		switch {
		case len(l.records) == 0:
		case l.records[0].Attrs.IsControl():
			return l
		case oldest == nil, l.records[0].Timestamp.Before(oldest.records[0].Timestamp):
			oldest = l
		}
	}
	return oldest
}

// awaited returns until when a partition is to be waited for, zero when none is. A wait
// that is over is noted, so that the same position is not waited for again.
func (m *merge) awaited(now time.Time) time.Time {
	var until time.Time
	for _, l := range m.lanes {
		if !l.owes() {
			continue
		}
		if l.since.IsZero() {
			l.since = now
		}
		if over := l.since.Add(m.wait); now.Before(over) {
			if until.IsZero() || over.Before(until) {
				until = over
			}
			continue
		}
		l.vain, l.since = l.position, time.Time{}
		m.waits++
		m.absent = l
	}
	return until
}

// readTo returns the time up to which the input has been read, given that it was read
// until asked, a wall-clock time, if all of ends was: the timestamp of the oldest message
// that is still to come, as far as it is known. False when nothing can be said, because a
// partition of ends is not ours or has shown no message yet.
func (m *merge) readTo(asked time.Time, ends map[string]map[int32]int64) (time.Time, bool) {
	to := asked
	for topic, partitions := range ends {
		for partition, end := range partitions {
			l := m.find(topic, partition)
			if l == nil {
				return time.Time{}, false
			}
			var from time.Time
			switch {
			case len(l.records) > 0:
				from = l.records[0].Timestamp
			case l.position >= end:
				continue // read to the end
			case l.newest.IsZero():
				return time.Time{}, false
			default:
				from = l.newest // what comes is not older, as far as anyone can tell
			}
			if from.Before(to) {
				to = from
			}
		}
	}
	return to, true
}
