package split

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// stall is a broker that answers no fetch of one input partition, from the after-th fetch on
// until it is over.
type stall struct {
	held chan struct{} // closed when the first fetch is held
	at   *int64        // the offset that it asks for
	over func()
}

// stall makes the fake hold the partition's fetches. Each fetch of the input gets one batch at
// the most, so that there is a middle to stall in.
func (h *hub) stall(partition int32, after int) stall {
	h.Helper()
	topics, err := h.b.Admin().ListTopics(context.Background(), h.raw)
	if err != nil {
		h.Fatal(err)
	}
	id := topics[h.raw].ID
	release := make(chan struct{})
	s := stall{held: make(chan struct{}), at: new(int64), over: sync.OnceFunc(func() { close(release) })}
	h.Cleanup(s.over)
	hold := sync.OnceFunc(func() { close(s.held) })
	cluster := h.b.Embedded().Cluster
	n := 0
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fetch := req.(*kmsg.FetchRequest)
		if len(fetch.Topics) != 1 || fetch.Topics[0].TopicID != [16]byte(id) {
			return nil, nil, false
		}
		// A session would leave out which partition it is for.
		fetch.SessionID, fetch.SessionEpoch, fetch.MaxBytes = 0, -1, 1
		if fetch.Topics[0].Partitions[0].Partition != partition {
			return nil, nil, false
		}
		if n++; n > after {
			if n == after+1 {
				*s.at = fetch.Topics[0].Partitions[0].FetchOffset
			}
			hold()
			cluster.SleepControl(func() { <-release })
		}
		return nil, nil, false
	})
	return s
}

// waitsFor reports whether nothing goes out for want of what the partition has at an offset,
// and of nothing else.
func (r *running) waitsFor(partition int32, at int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.mu.merge.lanes {
		if awaited := l.partition == partition; l.owes() != awaited || awaited && l.position != at {
			return false
		}
	}
	return !r.mu.merge.blocked.IsZero()
}

// readToTheEnd reports whether all that the other partitions hold has been read, split or not.
func (r *running) readToTheEnd(but int32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.mu.merge.lanes {
		if l.partition != but && l.position < l.end {
			return false
		}
	}
	return len(r.mu.merge.lanes) > 0
}

// waitNoLongerThan changes merge_wait of a splitter that runs.
func (r *running) waitNoLongerThan(wait time.Duration) {
	r.mu.Lock()
	r.mu.merge.wait = wait
	r.mu.Unlock()
	r.rouse()
}

// inTheOrderOfTime compares each user's sign-ins with the order in which they were made.
func (h *hub) inTheOrderOfTime(n int) bool {
	ids, _ := h.output()
	for _, u := range users {
		if !slices.Equal(ids[u], numbers(u, 0, n)) {
			return false
		}
	}
	return true
}

// backlog fills partitions with messages in many batches.
func (h *hub) backlog(partitions int32, n int) {
	for from := 0; from < n; from += 100 {
		h.uneven(partitions, from, 100)
	}
}

func TestAStallWithinMergeWaitCostsAWaitAndNoOrder(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 4)
	h.backlog(4, 3000)
	stalled := h.stall(1, 5)
	r := h.run()
	<-stalled.held
	h.eventually("the merge waits for the partition", func() bool { return r.waitsFor(1, *stalled.at) })
	if n := count(r.deps.Metrics.messages); n == 0 || n > 2700 {
		t.Fatalf("%v messages were split before the stall: it is not in the middle", n)
	}
	stalled.over()
	h.drained()
	if !h.inTheOrderOfTime(3000) {
		t.Error("the sign-ins are not in the order of time")
	}
	if waits := r.waits(); waits != 0 {
		t.Errorf("waited %d times in vain", waits)
	}
}

// Beyond merge_wait the others go on, after one wait that is counted; what the partition holds
// comes later, all of it.
func TestAStallBeyondMergeWaitCostsTheOrderAndNothingElse(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 4)
	h.backlog(4, 3000)
	stalled := h.stall(1, 5)
	r := h.run()
	<-stalled.held
	// Only then is it short: a busy machine may take as long for any first fetch.
	h.eventually("the merge waits for the partition", func() bool { return r.waitsFor(1, *stalled.at) && r.readToTheEnd(1) })
	const wait = 100 * time.Millisecond
	r.waitNoLongerThan(wait)
	// 990 messages are in partition 1, of which five fetches came.
	h.eventually("the others are split", func() bool { return count(r.deps.Metrics.messages) >= 3000-990 })
	r.mu.Lock()
	waits, waited := r.mu.merge.waits, r.mu.merge.waited
	r.mu.Unlock()
	if waits != 1 || waited < wait {
		t.Errorf("waited %d times in vain, %v in all, want once and %v at least", waits, waited, wait)
	}
	stalled.over()
	h.drained()
	h.eachOnce(3000)
}

// eachOnce wants n sign-ins of every user, in any order.
func (h *hub) eachOnce(n int) {
	h.Helper()
	ids, _ := h.output()
	for _, u := range users {
		slices.SortFunc(ids[u], func(a, b string) int { return number(a) - number(b) })
		if !slices.Equal(ids[u], numbers(u, 0, n)) {
			h.Errorf("%q has %d sign-ins, want %d, once each", u, len(ids[u]), n)
		}
	}
}

// number is the number of an id.
func number(id string) (n int) {
	_, s, _ := strings.Cut(id, "/")
	if _, err := fmt.Sscan(s, &n); err != nil {
		return math.MinInt
	}
	return n
}

// The message of the held partition is the older one, and merge_wait would hold the test up:
// what passes was not waiting for it.
func TestCaughtUpASignInWaitsForNoOtherPartition(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 2)
	h.b.Produce(h.record(0, 0, message("ada@example.com/0")), h.record(1, 1, message("bob@example.com/0")))
	stalled := h.stall(1, 1)
	r := h.run()
	h.drained()
	<-stalled.held
	h.b.Produce(h.record(1, 2, message("bob@example.com/1")))
	h.b.Produce(h.record(0, 3, message("ada@example.com/1")))
	h.eventually("what is there is split", func() bool { return h.committed(0) == 2 })
	if at := h.committed(1); at != 1 {
		t.Errorf("partition 1 is committed at %d: it was not held", at)
	}
	stalled.over()
	h.drained()
	if waits := r.waits(); waits != 0 {
		t.Errorf("waited %d times in vain", waits)
	}
}

func TestCaughtUpNothingWaitsForABatchToFill(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 2)
	h.fill = time.Minute // the client takes no more
	r := h.run()
	<-r.connected
	h.b.Produce(h.record(0, 0, message("ada@example.com/0")))
	h.eventually("the producer knows the topic, and a message is split", func() bool {
		_ = r.producer.Flush(over)
		return h.committed(0) == 1
	})
	for i := range 3 {
		h.b.Produce(h.record(1, i, message(fmt.Sprintf("ada@example.com/%d", i))))
		h.drained()
	}
}
