package split

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// fullest returns how many bytes wait in the fullest queue, and whether the queues of all partitions
// but one are filled: no reader fetches any more, though all have more to read.
func (r *running) fullest(but int32) (most int, filled bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	filled = len(r.mu.merge.lanes) > 0
	for _, l := range r.mu.merge.lanes {
		most = max(most, l.bytes)
		if l.partition != but && (l.fetching || l.position >= l.end) {
			filled = false
		}
	}
	return most, filled
}

// Tens of megabytes wait in two partitions for one whose leader is away, and are not read before they
// can be split: a queue that is low gets one fetch, and that is all. Not compressed, a fetch is in memory
// what it is on the wire.
func TestAQueueThatWaitsForAnotherPartitionIsBounded(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 3)
	const away, messages, size = 1, 1500, 32 << 10
	client := h.b.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(4*size))
	for i := range messages {
		p := int32(i % 3)
		value := message(fmt.Sprintf("%s/%d", users[1+p], i))
		if p != away {
			value = append(value, bytes.Repeat([]byte{' '}, size-len(value))...)
		}
		client.Produce(context.Background(), h.record(p, i, value), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("producing: %v", err)
			}
		})
	}
	if err := client.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	fault := h.b.Embedded().Cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch}, Topic: h.raw, Partitions: []int32{away}, Err: kerr.LeaderNotAvailable, Count: -1,
	})
	r := h.run()
	peak := 0
	look := func() (filled bool) {
		const fetched = fetchBytes + fetchBytes/size*recordOverhead
		most, filled := r.fullest(away)
		if peak = max(peak, most); peak >= lowBytes+fetched {
			t.Fatalf("%d bytes wait in a queue, want less than the %d below which it is low and the %d of a fetch", peak, lowBytes, fetched)
		}
		return filled
	}
	h.eventually("the queues of the others are filled", look)
	if peak < lowBytes {
		t.Errorf("at most %d bytes wait in a queue, and no more is read", peak)
	}
	fault.Remove()
	h.eventually("all is split", func() bool { look(); return count(r.deps.Metrics.messages) == messages })
	t.Logf("of %d MiB at most %d KiB waited in a queue", messages/3*size>>20, peak>>10)
	if waits := r.waits(); waits != 0 {
		t.Errorf("waited %d times in vain", waits)
	}
}

// Control records and messages without a value take memory too.
func TestAQueueOfEmptyRecordsIsFullSomeTime(t *testing.T) {
	l := newLane("raw", 0, 0, tag{source: 1}, 1)
	const most = lowBytes / recordOverhead
	for i := range most {
		l.add([]*kgo.Record{{Offset: int64(i)}}, most)
	}
	if l.ask(); l.fetching {
		t.Errorf("with %d records in its queue a partition is fetched from", most)
	}
	for range most {
		l.pop()
	}
	if l.ask(); !l.fetching || l.bytes != 0 {
		t.Errorf("with none it has %d bytes in its queue, and is fetched from: %v", l.bytes, l.fetching)
	}
}

// holdProduce has the fake leave what is produced to a topic unanswered until release.
func (h *hub) holdProduce(topic string) (release func()) {
	h.Helper()
	topics, err := h.b.Admin().ListTopics(context.Background(), topic)
	if err != nil {
		h.Fatal(err)
	}
	id, released := topics[topic].ID, make(chan struct{})
	release = sync.OnceFunc(func() { close(released) })
	h.Cleanup(release)
	cluster := h.b.Embedded().Cluster
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		for _, t := range request.(*kmsg.ProduceRequest).Topics {
			if t.Topic == topic || t.TopicID == id {
				cluster.SleepControl(func() { <-released })
				break
			}
		}
		return nil, nil, false
	})
	return release
}

// rounds has the loop, which waits, look around n times, and calls each after every time.
func (h *hub) rounds(r *running, n int, each func()) {
	h.Helper()
	for range n {
		for range 2 { // it has looked around once more when it has heard us twice
			r.rouse()
			h.eventually("the loop hears us", func() bool { return len(r.wake) == 0 })
		}
		each()
	}
}

// Dead letters, for they are as large as their messages.
func TestWhatIsProducedAndNotAcknowledgedIsBounded(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	release := h.holdProduce(h.topics.DeadLetter)
	const messages, size = 2 * maxInFlight / (64 << 10), 64 << 10
	junk := bytes.Repeat([]byte{'x'}, size)
	for i := range messages {
		h.b.Produce(h.record(0, i, junk))
	}
	r := h.run()
	inFlight := func() int64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.mu.flights.bytes
	}
	h.eventually("the bound is reached", func() bool { return inFlight() >= maxInFlight })
	h.rounds(r, 3, func() {
		if n := inFlight(); n >= maxInFlight+size+2*recordOverhead {
			t.Fatalf("%d bytes are in flight, want less than the %d and a message", n, maxInFlight)
		}
	})
	release()
	h.drained()
	if n := len(h.internal.ReadAll(h.topics.DeadLetter)); n != messages {
		t.Errorf("%d dead letters, want %d", n, messages)
	}
}

// What brings no sign-in is waited for by nobody, and waits itself: here another category that shares the hub.
func TestWhatHasNothingInTheAirAndWaitsBehindWhatHasIsBounded(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	release := h.holdProduce(h.topics.Signins)
	h.b.Produce(h.record(0, 0, message("ada@example.com/0")))
	const most, messages = maxInFlight / recordOverhead, maxInFlight/recordOverhead + 5000
	others := make([]*kgo.Record, messages)
	for i := range others {
		others[i] = h.record(0, 1+i, []byte(`{"records":[{"category":"AuditLogs","properties":{}}]}`))
	}
	h.b.Produce(others...)
	r := h.run()
	queued := func() (flights int, bytes int64) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.mu.flights.queue), r.mu.flights.bytes
	}
	h.eventually("the bound is reached", func() bool {
		flights, bytes := queued()
		return flights > most || bytes >= maxInFlight
	})
	h.rounds(r, 3, func() {
		if n, _ := queued(); n > most {
			t.Fatalf("%d messages are queued, want %d at the most", n, most)
		}
	})
	release()
	h.drained()
	if n := count(r.deps.Metrics.skipped); n != messages {
		t.Errorf("%v records counted as skipped, want %d", n, messages)
	}
}
