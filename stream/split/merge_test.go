package split

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 11, 9, 0, 0, 0, 0, time.UTC)

// at makes a message of a partition, stamped some seconds after the epoch.
func at(partition int32, offset int64, second int) *kgo.Record {
	return &kgo.Record{Topic: "t", Partition: partition, Offset: offset, Timestamp: epoch.Add(time.Duration(second) * time.Second), Value: []byte("x")}
}

func laneOf(partition int32, end int64) *lane {
	return &lane{topic: "t", partition: partition, queue: queue{end: end, vain: -2}}
}

// source is a partition's log and when each fetch of it arrives.
type source struct {
	lane    *lane
	records []*kgo.Record
	fetches []fetch
}

type fetch struct {
	at   time.Time
	upto int // records that have come by then
}

// drawSource makes a partition whose timestamps never fall, read by fetches that each come
// at most wait after the one before.
func drawSource(t *rapid.T, p int32, wait time.Duration) *source {
	seconds := rapid.SliceOfN(rapid.IntRange(0, 1000), 0, 200).Draw(t, fmt.Sprintf("timestamps of %d", p))
	slices.Sort(seconds)
	s := &source{}
	for i, sec := range seconds {
		s.records = append(s.records, at(p, int64(i), sec))
	}
	now := epoch
	for n := 0; n < len(s.records); {
		now = now.Add(rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(wait-1)).Draw(t, "delay"))
		}).Draw(t, "delay"))
		n = min(len(s.records), n+rapid.IntRange(1, 50).Draw(t, "size"))
		s.fetches = append(s.fetches, fetch{at: now, upto: n})
	}
	s.lane = laneOf(p, int64(len(seconds)))
	return s
}

func TestWhatArrivesInTimeIsMergedIntoTheOrderOfTimestamps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const wait = 5 * time.Second
		m := merge{wait: wait}
		var sources []*source
		var all []*kgo.Record
		for p := range int32(rapid.IntRange(1, 6).Draw(t, "partitions")) {
			s := drawSource(t, p, wait)
			sources = append(sources, s)
			all = append(all, s.records...)
			m.add(s.lane)
		}
		got := drain(&m, sources)
		slices.SortStableFunc(all, func(a, b *kgo.Record) int { return a.Timestamp.Compare(b.Timestamp) })
		if !slices.Equal(got, all) {
			t.Fatalf("merged %d of %d messages, or in another order than their timestamps", len(got), len(all))
		}
		if m.waits != 0 {
			t.Fatalf("waited %d times in vain for partitions that came in time", m.waits)
		}
		for _, s := range sources {
			if s.lane.bytes != 0 {
				t.Fatalf("%d bytes are still counted in an empty queue", s.lane.bytes)
			}
		}
	})
}

// drain runs the merge on a clock that jumps from fetch to fetch.
func drain(m *merge, sources []*source) (got []*kgo.Record) {
	now := epoch
	for {
		var next time.Time
		for _, s := range sources {
			for len(s.fetches) > 0 && !s.fetches[0].at.After(now) {
				s.lane.add(s.records[s.lane.position:s.fetches[0].upto], s.lane.end)
				s.fetches = s.fetches[1:]
			}
			if len(s.fetches) > 0 && (next.IsZero() || s.fetches[0].at.Before(next)) {
				next = s.fetches[0].at
			}
		}
		_, r, _ := m.next(now)
		if r != nil {
			got = append(got, r)
			continue
		}
		if next.IsZero() {
			return got
		}
		now = next
	}
}

func TestAPartitionThatStaysAwayIsWaitedForOnceAPosition(t *testing.T) {
	m := merge{wait: 5 * time.Second}
	here, away := laneOf(0, 10), laneOf(1, 10)
	m.add(here)
	m.add(away)
	here.add([]*kgo.Record{at(0, 0, 0), at(0, 1, 1), at(0, 2, 2)}, 3)

	_, r, until := m.next(epoch)
	if r != nil || until != epoch.Add(m.wait) {
		t.Fatalf("next = %v until %v, want to wait for partition 1 until %v", r, until, epoch.Add(m.wait))
	}
	for i := range 2 {
		if _, r, _ = m.next(epoch.Add(m.wait)); r == nil || r.Offset != int64(i) {
			t.Fatalf("after the wait: %v, want offset %d of partition 0", r, i)
		}
	}
	if m.waits != 1 || m.waited != m.wait {
		t.Errorf("counted %d waits of %v, want 1 of %v", m.waits, m.waited, m.wait)
	}

	away.add([]*kgo.Record{at(1, 0, 0)}, 10)
	if l, r, _ := m.next(epoch.Add(m.wait)); l != away || r.Offset != 0 {
		t.Fatalf("next = %v, want what came late", r)
	}
	if _, r, until = m.next(epoch.Add(m.wait)); r != nil || until != epoch.Add(2*m.wait) {
		t.Fatalf("next = %v until %v, want to wait for the new position of partition 1", r, until)
	}
}

func TestAPartitionReadToItsEndIsNotWaitedFor(t *testing.T) {
	m := merge{wait: 5 * time.Second}
	busy, idle := laneOf(0, 1), laneOf(1, 0)
	m.add(busy)
	m.add(idle)
	busy.add([]*kgo.Record{at(0, 0, 7)}, 1)
	if _, r, _ := m.next(epoch); r == nil {
		t.Fatal("waits for an empty partition")
	}
}

func TestTheInputIsReadUpToTheOldestMessageToCome(t *testing.T) {
	asked := epoch.Add(time.Hour)
	ends := map[string]map[int32]int64{"t": {0: 4, 1: 2}}
	m := merge{}
	a, b := laneOf(0, 4), laneOf(1, 2)
	m.add(a)
	if _, known := m.readTo(asked, ends); known {
		t.Error("speaks for a partition that is not ours")
	}
	m.add(b)
	if _, known := m.readTo(asked, ends); known {
		t.Error("speaks for partitions of which nothing was seen")
	}
	a.add([]*kgo.Record{at(0, 0, 10), at(0, 1, 30)}, 4)
	b.add([]*kgo.Record{at(1, 0, 20), at(1, 1, 25)}, 2)
	want := func(when time.Time) {
		t.Helper()
		if to, known := m.readTo(asked, ends); !known || !to.Equal(when) {
			t.Errorf("read to %v, %v, want %v", to, known, when)
		}
	}
	for _, second := range []int{10, 20, 25, 30} {
		want(epoch.Add(time.Duration(second) * time.Second))
		m.next(epoch)
	}
	want(epoch.Add(30 * time.Second)) // partition 0 has two more
	a.add([]*kgo.Record{at(0, 2, 40), at(0, 3, 50)}, 4)
	m.next(epoch)
	m.next(epoch)
	want(asked)
}

func TestATickSaysHowFarTheInputIsRead(t *testing.T) {
	s := &Splitter{tickEvery: time.Minute}
	l := laneOf(0, 2)
	s.mu.merge.add(l)
	now := epoch.Add(time.Hour)
	answer := func() { s.mu.ends = &ends{asked: now, offsets: map[string]map[int32]int64{"t": {0: 2}}} }
	want := func(due bool, when time.Time) {
		t.Helper()
		if to, got := s.dueTick(now); got != due || due && !to.Equal(when) {
			t.Errorf("tick of %v, %v, want %v, %v", to, got, when, due)
		}
	}
	want(false, now) // the brokers were not asked
	answer()
	want(false, now) // nothing was seen of the partition
	l.add([]*kgo.Record{at(0, 0, 10), at(0, 1, 20)}, 2)
	want(true, epoch.Add(10*time.Second))
	want(false, now)
	answer()
	want(false, now) // not yet a minute
	now = now.Add(time.Minute)
	s.mu.merge.next(now)
	s.mu.merge.next(now)
	answer()
	want(true, now)
	s.mu.merge.remove(l)
	now = now.Add(time.Minute)
	answer()
	want(false, now) // standing by
}

// Or each message would pay for a look at every partition.
func TestATickThatCannotBeToldIsTriedAgainAfterAWhile(t *testing.T) {
	s := &Splitter{tickEvery: time.Minute, tryEvery: time.Second}
	l := laneOf(0, 1)
	s.mu.merge.add(l)
	now := epoch.Add(time.Hour)
	s.mu.ends = &ends{asked: now, offsets: map[string]map[int32]int64{"t": {0: 1}}}
	for _, test := range []struct {
		after time.Duration
		due   bool
	}{{0, false}, {time.Second / 2, false}, {time.Second, true}} {
		if _, due := s.dueTick(now.Add(test.after)); due != test.due {
			t.Errorf("a tick is due %v after the first look: %v", test.after, due)
		}
		if test.after == 0 { // from now on it can be told
			l.add([]*kgo.Record{at(0, 0, 10)}, 1)
		}
	}
}
