package split

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/signins"
)

func TestWhatIsNotCommittedBeginsAtItsOldestFlight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newReach(time.Hour)
		var out []step // of each flight that is not committed
		var flight, landed uint64
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			if rapid.Float64Range(0, 1).Draw(t, "commits") < 0.1 {
				landed = rapid.Uint64Range(landed, flight).Draw(t, "landed")
				oldest := out // those of the oldest hour
				if n := slices.IndexFunc(out, func(f step) bool { return f.hour != out[0].hour }); n >= 0 {
					oldest = out[:n]
				}
				want := len(oldest) > 0 && oldest[len(oldest)-1].flight <= landed
				if got := r.nearer(landed); got != want {
					t.Fatalf("a commit of all up to %d brings it nearer: %v, want %v: %v", landed, got, want, out)
				}
				r.committed(landed)
				out = slices.DeleteFunc(out, func(f step) bool { return f.flight <= landed })
			}
			hour := rapid.Int32Range(0, 5).Draw(t, "hour")
			want := int32(0)
			if len(out) > 0 {
				want = hour - out[0].hour
			}
			if got := r.beyond(hour); got != want {
				t.Fatalf("hour %d is %d beyond what is committed, want %d: %v", hour, got, want, out)
			}
			flight += rapid.Uint64Range(1, 3).Draw(t, "flights") // ticks and barriers between
			r.goesOut(flight, hour)
			out = append(out, step{hour: hour, flight: flight})
		}
	})
}

// One message in a hundred is of another time altogether, and one in ten of a day before.
func TestAMessageOfAnAbsurdDateIsWaitedForByNobody(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	r := newReach(24 * time.Hour)
	const now = 500_000
	for range 10 { // what came before
		r.pass(now)
	}
	last := 0
	for i := range 10_000 {
		hour := int32(now + i/1000)
		switch {
		case i-last > len(r.recent):
			hour = []int32{1, now + 5000}[random.IntN(2)]
			last = i
		case random.IntN(10) == 0:
			hour -= 25
		}
		reach := r.pass(hour)
		if beyond := r.beyond(reach); beyond > r.span/2 {
			t.Fatalf("message %d of hour %d: the reach is %d hours beyond what is committed", i, hour, beyond)
		}
		r.goesOut(uint64(i), reach)
	}
	if at := r.pass(now + 10); at < now+9 {
		t.Errorf("the reach is %d hours behind", now+10-at)
	}
}

// history fills partitions with 16 days, a message each ten minutes with a sign-in of every
// user, and returns their number.
func (h *hub) history(partitions int32, stamp func(at time.Time) time.Time) int {
	const n = 16 * 24 * 6
	h.b.Produce(h.tenMinutes(partitions, 0, n, stamp)...)
	return n
}

// tenMinutes makes n messages that lie ten minutes apart.
func (h *hub) tenMinutes(partitions int32, from, n int, stamp func(at time.Time) time.Time) (records []*kgo.Record) {
	for i := from; i < from+n; i++ {
		at := epoch.Add(time.Duration(i) * 10 * time.Minute)
		var ids []string
		for _, u := range users {
			ids = append(ids, numbers(u, i, i+1)...)
		}
		records = append(records, &kgo.Record{Topic: h.raw, Partition: int32(i) % partitions, Timestamp: stamp(at), Value: messageOf(at, ids...)})
	}
	return records
}

// refuse lets the group's commits fail from the after-th on, not counting those that say where
// reading begins.
func (h *hub) refuse(after int) *kfake.FaultHandle {
	return h.b.Embedded().Cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: h.cfg.Group, Err: kerr.InvalidCommitOffsetSize, Count: -1,
		When: func(request kmsg.Request) bool {
			for _, t := range request.(*kmsg.OffsetCommitRequest).Topics {
				for _, p := range t.Partitions {
					if p.Offset > 0 {
						after--
						return after < 0
					}
				}
			}
			return false
		},
	})
}

// atRest waits until commits are refused and a message waits for one.
func (h *hub) atRest(r *running) {
	h.Helper()
	h.eventually("nothing goes out for want of a commit", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		reach := &r.mu.reach
		return count(r.deps.Metrics.commitErrors) > 0 && reach.beyond(reach.at()) >= reach.span
	})
}

// A kill is a splitter whose commits are refused from a random moment on: what it does to the
// group and to the topics is the same.
func TestWhatAKillHasSplitAgainIsWithinTheSpan(t *testing.T) {
	for name, test := range map[string]struct {
		partitions int32
		stamp      func(time.Time) time.Time
	}{
		"stamped when made":     {4, func(at time.Time) time.Time { return at }},
		"stamped when appended": {1, func(time.Time) time.Time { return time.Now() }},
	} {
		t.Run(name, func(t *testing.T) {
			commits := rand.IntN(8)
			t.Logf("killed after %d commits", commits)
			h := newHub(t, brokertest.Fake(t), test.partitions)
			h.maxAhead = 24 * time.Hour
			n := h.history(test.partitions, test.stamp)
			refused := h.refuse(commits)
			killed := h.run()
			h.atRest(killed)
			if err := h.halt(killed); err != nil {
				t.Fatal(err)
			}
			refused.Remove()
			successor := h.run()
			h.drained()
			if err := h.halt(successor); err != nil {
				t.Fatal(err)
			}
			h.within(h.maxAhead, n)
		})
	}
}

// within wants n sign-ins of every user, some of them again, and none further behind the
// newest of its user than the span.
func (h *hub) within(span time.Duration, n int) {
	h.Helper()
	seen, newest, again := make(map[string]bool), make(map[string]int32), 0
	for _, record := range h.internal.ReadAll(h.topics.Signins) {
		if _, control := signins.ControlOf(record.Headers); control {
			continue
		}
		var s detector.SignIn
		if err := signins.Decode(record.Value, &s); err != nil {
			h.Fatal(err)
		}
		hour := detector.HourOf(s.Generated)
		if behind := time.Duration(newest[s.UPN]-hour) * time.Hour; behind > span {
			h.Fatalf("%s comes again %v behind its user's newest hour", s.ID, behind)
		}
		newest[s.UPN] = max(newest[s.UPN], hour)
		if seen[s.ID] {
			again++
		}
		seen[s.ID] = true
	}
	if len(seen) != n*len(users) || again == 0 {
		h.Errorf("%d sign-ins, want %d, and %d came again", len(seen), n*len(users), again)
	}
}

// A splitter that waits for a commit and loses its partitions leaves the message in hand to
// whoever has them now.
func TestAWaitForACommitEndsWhereThePartitionsGo(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	h.maxAhead = 24 * time.Hour
	n := h.history(1, func(at time.Time) time.Time { return at })
	refused := h.refuse(0)
	first := h.run()
	h.atRest(first)
	split := count(first.deps.Metrics.messages)
	second := h.run()
	h.eventually("the second has joined", func() bool { ok, _ := second.Ready(); return ok })
	first.mu.Lock()
	member := first.mu.merge.lanes[0].member
	first.mu.Unlock()
	h.expel(member)
	h.eventually("the second is active", second.active)
	h.eventually("the first has joined again", func() bool { ok, _ := first.Ready(); return ok && !first.active() })
	h.landed(first)
	if now := count(first.deps.Metrics.messages); now != split {
		t.Errorf("%v messages went out after the loss", now-split)
	}
	refused.Remove()
	h.drained()
	if err := h.halt(second); err != nil {
		t.Fatal(err)
	}
	h.within(h.maxAhead, n)
	h.eventually("the first is active again", first.active)
}

// A commit helps who waits for one only when something has landed that it is ahead of: before that, each of
// the two would rouse the other without a pause.
func TestWhoWaitsForRecordsToLandAsksForNoCommit(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	h.maxAhead = 24 * time.Hour
	n := h.history(1, func(at time.Time) time.Time { return at })
	release := h.holdProduce(h.topics.Signins)
	r := h.runAt(time.Hour, 0) // no commits but those that are asked for
	h.eventually("a message waits", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		reach := &r.mu.reach
		return reach.beyond(reach.at()) >= reach.span
	})
	r.committing.Lock() // what is asked for now is ours to count, but for one that the keeper took
	commit := sync.OnceFunc(r.committing.Unlock)
	defer commit()
	asked := 0
	h.rounds(r, 20, func() {
		select {
		case <-r.due:
			asked++
		default:
		}
	})
	if asked > 1 { // one may be from before
		t.Errorf("a commit was asked for %d times, and nothing has landed", asked)
	}
	release()
	h.eventually("a commit is asked for", func() bool { return len(r.due) > 0 })
	commit()
	h.eventually("all is split", func() bool { return int(count(r.deps.Metrics.messages)) == n })
	if err := h.halt(r); err != nil {
		t.Fatal(err)
	}
	if !h.inTheOrderOfTime(n) {
		t.Error("the sign-ins are not in the order of time")
	}
}
