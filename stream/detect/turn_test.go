package detect_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
)

// another has somebody begin a transaction in some baseline partitions, and returns what ends it.
func (h *house) another(in ...int32) (end func(kgo.TransactionEndTry)) {
	h.t.Helper()
	id := h.b.Name(fmt.Sprintf("another%d", rand.Uint64()))
	client := h.b.Client(kgo.TransactionalID(id), kgo.TransactionTimeout(10*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := client.BeginTransaction(); err != nil {
		h.t.Fatal(err)
	}
	for _, p := range in {
		if err := client.ProduceSync(h.t.Context(), &kgo.Record{Topic: h.topics.Baseline, Partition: p, Key: []byte("user")}).FirstErr(); err != nil {
			h.t.Fatal(err)
		}
	}
	return func(how kgo.TransactionEndTry) {
		h.t.Helper()
		if err := client.EndTransaction(h.t.Context(), how); err != nil {
			h.t.Fatal(err)
		}
	}
}

// askedAmid is whether a request is one of those by which a restore is told how far it may read.
func askedAmid(r kmsg.Request) bool {
	list, ok := r.(*kmsg.ListOffsetsRequest)
	return !ok || list.IsolationLevel == 1
}

// Whatever the restores of three partitions wait for, the fourth is judged meanwhile, though one restore at
// a time may read; and they go on when it is there.
func TestAPartitionWaitsForNoRestoreThatStandsStill(t *testing.T) {
	stuck := []int32{0, 1, 2}
	for _, waits := range []struct {
		what  string
		begin func(h *house) (end func(), opts []stageOption)
	}{
		{"for a transaction", func(h *house) (func(), []stageOption) {
			end := h.another(stuck...)
			return func() { end(kgo.TryAbort) }, nil
		}},
		{"for a leader", func(h *house) (func(), []stageOption) {
			away := h.b.Embedded().Cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch}, Topic: h.topics.Baseline, Partitions: stuck,
				Err: kerr.LeaderNotAvailable, Count: -1, When: askedAmid,
			})
			return func() { away.Remove() }, nil
		}},
		{"for records", func(h *house) (func(), []stageOption) { return h.shutAfter(1, stuck...).release, nil }},
		{"for a lease", func(h *house) (func(), []stageOption) {
			var releases []func() error
			lease := func(_ *detect.Config, d *detect.Deps) {
				for _, p := range stuck {
					held, err := d.Store.Lease(h.t.Context(), p)
					if err != nil {
						h.t.Fatal(err)
					}
					releases = append(releases, held.Release)
				}
			}
			return func() {
				for _, release := range releases {
					if err := release(); err != nil {
						h.t.Error(err)
					}
				}
			}, []stageOption{lease}
		}},
	} {
		t.Run(waits.what, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, brokertest.Fake(t))
			h.history(2)
			end, opts := waits.begin(h)
			h.produce(inEach("user", 3)...)
			turns := semaphore.NewWeighted(1)
			s := h.start("one", t.TempDir(), append(opts, whole, func(_ *detect.Config, d *detect.Deps) { detect.SetTurns(d, turns, 200*time.Millisecond) })...)
			h.until("the one that waits for nothing to be judged", func() bool { return h.allJudged(stuck...) })
			// It may have been the first by chance.
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := turns.Acquire(ctx, 1); err != nil {
				t.Fatalf("those that wait do not let go of their turn: %v", err)
			}
			turns.Release(1)
			for _, p := range stuck {
				but := slices.DeleteFunc(slices.Clone(stuck), func(other int32) bool { return other == p })
				if h.allJudged(but...) {
					t.Errorf("partition %d was judged, and should wait", p)
				}
			}
			end()
			h.judged()
			h.until("the stage to be ready", func() bool { ready, _ := s.Ready(); return ready })
		})
	}
}

// One that reads has buffers; so few do.
func TestRestoresReadInTurns(t *testing.T) {
	classicOnly(t)
	h := newHouse(t, brokertest.Fake(t))
	h.history(6)
	h.shutAfter(1 << 40) // a batch a fetch
	said := sentences{message: "restoring a partition"}
	// However slow a restore is, its turn is not another's; and a second member would take partitions over amid theirs.
	s := h.start("one", t.TempDir(), whole, alone, func(_ *detect.Config, d *detect.Deps) {
		detect.SetTurns(d, semaphore.NewWeighted(1), time.Minute)
		detect.SetSayEvery(d, time.Nanosecond)
		d.Log = slog.New(&said)
	})
	h.until("the stage to be ready", func() bool { ready, _ := s.Ready(); return ready })
	var turns []int64
	said.mu.Lock()
	defer said.mu.Unlock()
	for _, fields := range said.said {
		if p := fields["partition"].Int64(); len(turns) == 0 || turns[len(turns)-1] != p {
			turns = append(turns, p)
		}
	}
	if len(turns) != partitions {
		t.Errorf("partitions were read by turns in this order: %v", turns)
	}
}

// slow has each fetch of the baseline topic take some time, of each partition or of some.
func (h *house) slow(by time.Duration, some ...int32) {
	h.t.Helper()
	h.fetches(func(_ kmsg.FetchRequestTopicPartition, wait func(func())) { wait(func() { time.Sleep(by) }) }, some...)
}

// A turn that is too short for what comes makes the next one longer, and that others had theirs for a while
// is no reason to give up.
func TestARestoreThatIsSlowComesToItsEnd(t *testing.T) {
	t.Parallel()
	// With the waits between them, turns of a second fit into patience; the first is too short, the longest long enough.
	const patience, turn, comes = 10 * time.Second, 200 * time.Millisecond, 300 * time.Millisecond
	h := newHouse(t, brokertest.Fake(t))
	h.history(1)
	h.slow(comes)
	turns := semaphore.NewWeighted(partitions)
	if err := turns.Acquire(t.Context(), partitions); err != nil {
		t.Fatal(err)
	}
	s := h.start("one", t.TempDir(), whole, func(_ *detect.Config, d *detect.Deps) {
		detect.SetPatience(d, patience)
		detect.SetTurns(d, turns, turn)
	})
	h.until("the restores to wait", func() bool { _, restoring := s.Partitions(); return restoring == partitions })
	began := time.Now()
	h.until("others to have had turns for long", func() bool { return time.Since(began) > patience })
	turns.Release(partitions)
	h.until("the stage to be ready", func() bool { ready, _ := s.Ready(); return ready })
}

// A batch comes each tenth of a second, of a hundred, to one that has the only turn. The other three partitions do not
// wait for its end.
func TestAPartitionWaitsForNoRestoreThatIsSlow(t *testing.T) {
	classicOnly(t)
	t.Parallel()
	const slow, batches = 0, 100
	h := newHouse(t, brokertest.Fake(t))
	h.history(1)
	for i := range batches {
		h.b.Produce(&kgo.Record{Topic: h.topics.Baseline, Partition: slow, Key: fmt.Appendf(nil, "nobody%d", i)})
	}
	h.slow(100*time.Millisecond, slow)
	h.produce(inEach("user", 3)...)
	var others []func() error
	said := sentences{message: "restoring a partition"}
	s := h.start("one", t.TempDir(), whole, alone, func(_ *detect.Config, d *detect.Deps) {
		detect.SetTurns(d, semaphore.NewWeighted(1), 0)
		detect.SetSlice(d, time.Second)
		detect.SetSayEvery(d, time.Nanosecond)
		d.Log = slog.New(&said)
		for p := slow + 1; p < partitions; p++ {
			held, err := d.Store.Lease(t.Context(), int32(p))
			if err != nil {
				t.Fatal(err)
			}
			others = append(others, held.Release)
		}
	})
	h.until("the slow one to have its turn", func() bool { return said.count(slow) > 0 })
	for _, release := range others {
		if err := release(); err != nil {
			t.Fatal(err)
		}
	}
	h.until("the others to be judged", func() bool { return h.allJudged(slow) })
	if h.allJudged() {
		t.Error("the one that is slow was judged before them")
	}
	h.judged()
	h.until("the stage to be ready", func() bool { ready, _ := s.Ready(); return ready })
}

// Of one whose leader says that there are records and sends none each turn is longer than the last, up to a bound: or
// others would wait for it ever longer.
func TestATurnInWhichNothingComesIsBounded(t *testing.T) {
	t.Parallel()
	const turn, many = 20 * time.Millisecond, 20 // turns; unbounded, the last of them alone takes longer than the test waits
	h := newHouse(t, brokertest.Fake(t))
	h.learned(0)
	topics, err := h.b.Admin().ListTopics(t.Context(), h.topics.Baseline)
	if err != nil {
		t.Fatal(err)
	}
	cluster := h.b.Embedded().Cluster
	var turns atomic.Int64 // each has a client of its own, which asks once
	cluster.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, topic := range request.(*kmsg.FetchRequest).Topics {
			if topic.TopicID == topics[h.topics.Baseline].ID {
				turns.Add(1)
				cluster.SleepControl(func() { <-t.Context().Done() })
			}
		}
		return nil, nil, false
	})
	h.start("one", t.TempDir(), alone, lossy, func(_ *detect.Config, d *detect.Deps) {
		detect.SetTurns(d, semaphore.NewWeighted(1), turn)
	})
	h.until("it to have had many turns", func() bool { return turns.Load() >= many })
}

// What counts is for how long nothing moves, not for how long a restore takes.
func TestARestoreThatMovesNowAndThenComesToItsEnd(t *testing.T) {
	t.Parallel()
	const patience, each = 10 * time.Second, 4 * time.Second // three are longer, and one is far from it
	h := newHouse(t, brokertest.Fake(t))
	first, second, third := h.another(0), h.another(0), h.another(0)
	s := h.start("one", t.TempDir(), alone, lossy, func(_ *detect.Config, d *detect.Deps) { detect.SetPatience(d, patience) })
	for _, end := range []func(kgo.TransactionEndTry){first, second, third} {
		h.until("the restore to wait", func() bool {
			_, missing := s.Ready()
			return strings.Contains(missing, "partition 0 waits amid its restore")
		})
		began := time.Now()
		h.until("it to have waited for a while", func() bool { return time.Since(began) > each })
		end(kgo.TryCommit)
	}
	h.until("the stage to be ready", func() bool { ready, _ := s.Ready(); return ready })
}

// What waits holds nothing in memory of what it took.
func TestARestoreThatWaitsHasWrittenWhatItRead(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	h.history(1)
	const size = 900 << 10
	h.b.Produce(&kgo.Record{Topic: h.topics.Baseline, Key: []byte("large"), Value: make([]byte, size)})
	h.another(0)
	s := h.start("one", t.TempDir())
	h.until("a restore to wait", func() bool {
		_, missing := s.Ready()
		return strings.HasSuffix(missing, "; partition 0 waits amid its restore: a transaction that began there has not ended")
	})
	if held := s.store.Metrics().MemTableBytes; held < size {
		t.Errorf("Pebble has %d bytes of the %d that were read", held, size)
	}
}

// A leader that was there and is gone is waited for for longer than one that is there and has nothing.
func TestALeaderThatIsLostAmidARestoreIsWaitedFor(t *testing.T) {
	t.Parallel()
	const patience, away = 3 * time.Second, 1
	h := newHouse(t, brokertest.Fake(t))
	h.learned(away)
	lost := h.b.Embedded().Cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch}, Topic: h.topics.Baseline, Partitions: []int32{away},
		Err: kerr.LeaderNotAvailable, Count: -1, When: askedAmid,
	})
	said := sentences{message: "a restore stands still"}
	s := h.start("one", t.TempDir(), alone, lossy, func(_ *detect.Config, d *detect.Deps) {
		detect.SetPatience(d, patience)
		detect.SetSayEvery(d, 100*time.Millisecond)
		d.Log = slog.New(&said)
	})
	h.until("it to have said so", func() bool { return said.count(away) > 0 })
	began := time.Now()
	h.until("it to say so for longer than it is patient", func() bool {
		return time.Since(began) > patience && said.count(away) > 1 || len(s.ended) > 0
	})
	ready, missing := s.Ready()
	if want := fmt.Sprintf("; partition %d waits amid its restore: ", away); ready || !strings.Contains(missing, want) {
		t.Errorf("it is ready (%v), or does not say why not: %s", ready, missing)
	}
	lost.Remove()
	h.until("the stage to be ready", func() bool { ready, _ := s.Ready(); return ready })
}

// learned has a record in a baseline partition, and none in the others: their restores have nothing to wait for.
func (h *house) learned(partition int32) {
	h.t.Helper()
	h.b.Produce(&kgo.Record{Topic: h.topics.Baseline, Partition: partition, Key: []byte("user")})
}

// What does not end by itself ends the stage, with its reason.
func TestARestoreThatWaitsForWhatWillNotComeEnds(t *testing.T) {
	for _, never := range []struct {
		what, want string
		begin      func(h *house)
	}{
		{"a transaction that nobody ends", "a transaction that began there has not ended", func(h *house) { h.another(1) }},
		{"a topic that was deleted", "UNKNOWN_TOPIC_OR_PARTITION", func(h *house) {
			h.learned(1)
			h.b.Embedded().Cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch}, Topic: h.topics.Baseline, Partitions: []int32{1},
				Err: kerr.UnknownTopicOrPartition, Count: -1, When: askedAmid,
			})
		}},
	} {
		t.Run(never.what, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, brokertest.Fake(t))
			never.begin(h)
			s := h.start("one", t.TempDir(), func(_ *detect.Config, d *detect.Deps) { detect.SetPatience(d, time.Second) })
			err := fmt.Sprint(s.wait())
			if want := "restoring partition 1 of " + h.topics.Baseline + ": nothing came for 1s at offset "; !strings.Contains(err, want) || !strings.Contains(err, never.want) {
				t.Errorf("the stage ended with %q", err)
			}
		})
	}
}
