package detect_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

const (
	restoreRecords   = "prtwatch_restore_records_total"
	restoreDone      = "prtwatch_restore_records_done"
	restoreRemaining = "prtwatch_restore_records_remaining"
)

// history has users sign in from a new network in each of some hours, so that each partition of
// the baseline topic has as many batches, and none of an aborted transaction, of which a restore sees nothing. It
// returns how many records the topic then has.
func (h *house) history(hours int) (records int) {
	h.t.Helper()
	s := h.start("history", h.t.TempDir(), alone)
	for at := range hours {
		var list []*detector.SignIn
		for user := range 40 {
			list = append(list, signIn(fmt.Sprintf("history-%d-%d", user, at), fmt.Sprintf("user%d@example.com", user),
				fmt.Sprintf("203.0.113.%d", at), fmt.Sprint(64496+at%16), at))
		}
		h.produce(list...)
		h.judged()
	}
	if err := s.stop(); err != nil {
		h.t.Fatal(err)
	}
	return len(h.b.ReadAll(h.topics.Baseline))
}

// age has the profiles of the baseline topic date from a while ago.
func (h *house) age(by time.Duration) {
	h.t.Helper()
	records := h.b.ReadAll(h.topics.Baseline)
	h.empty(h.topics.Baseline)
	for batch := range slices.Chunk(records, 10) {
		for i, r := range batch {
			batch[i] = h.again(r)
			batch[i].Timestamp = r.Timestamp.Add(-by)
		}
		h.b.Produce(batch...)
	}
}

// gate has the embedded broker hand out the baseline topic a batch a fetch, and no more of a
// partition than some fetches while it is shut.
type gate struct {
	h    *house
	left atomic.Int64 // fetches a partition
	open chan struct{}
	once sync.Once
}

// shutAfter shuts the gate of a house after so many fetches of each partition, or of some.
func (h *house) shutAfter(fetches int64, some ...int32) *gate {
	g := &gate{h: h, open: make(chan struct{})}
	g.left.Store(fetches)
	h.t.Cleanup(g.release)
	seen := make(map[int32]map[int64]bool) // offsets: a fetch that was given up is sent again
	h.fetches(func(p kmsg.FetchRequestTopicPartition, wait func(func())) {
		if seen[p.Partition] == nil {
			seen[p.Partition] = make(map[int64]bool)
		}
		if offsets := seen[p.Partition]; offsets[p.FetchOffset] || int64(len(offsets)) < g.left.Load() {
			offsets[p.FetchOffset] = true
		} else {
			wait(func() { <-g.open })
		}
	}, some...)
	return g
}

// fetches has the embedded broker hand out the baseline topic a batch a fetch, of each partition or of some, and
// calls do for each, which may have it wait. Fetches have to name their partitions: see whole.
func (h *house) fetches(do func(p kmsg.FetchRequestTopicPartition, wait func(func())), some ...int32) {
	h.t.Helper()
	baseline, err := h.b.Admin().ListTopics(context.Background(), h.topics.Baseline)
	if err != nil {
		h.t.Fatal(err)
	}
	id := baseline[h.topics.Baseline].ID
	cluster := h.b.Embedded().Cluster
	cluster.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		for _, topic := range request.(*kmsg.FetchRequest).Topics {
			if topic.TopicID != id {
				continue
			}
			for j := range topic.Partitions {
				if p := &topic.Partitions[j]; len(some) == 0 || slices.Contains(some, p.Partition) {
					p.PartitionMaxBytes = 1 // a broker hands out one batch all the same
					do(*p, cluster.SleepControl)
				}
			}
		}
		return nil, nil, false
	})
}

// pass lets every later fetch through; those that wait go on waiting.
func (g *gate) pass() { g.left.Store(1 << 40) }

// release lets all through.
func (g *gate) release() { g.pass(); g.once.Do(func() { close(g.open) }) }

// whole has each fetch name its partitions, which the gate looks for, and wait as long as it holds it.
func whole(_ *detect.Config, d *detect.Deps) {
	d.Client = append(d.Client, kgo.DisableFetchSessions(), kgo.RequestTimeoutOverhead(10*time.Minute))
}

func TestARestoreSaysHowFarItIsHowFastAndHowLongTheRestTakes(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	records := h.history(6)
	g := h.shutAfter(3)
	said := sentences{message: "restoring a partition"}
	s := h.start("one", t.TempDir(), whole, func(_ *detect.Config, d *detect.Deps) {
		detect.SetSayEvery(d, time.Nanosecond)
		d.Log = slog.New(&said)
	})
	h.until("the restores to be half done", func() bool {
		done, labels := s.count(restoreDone)
		return labels == partitions && done > 0
	})
	h.until("the broker to hold every restore", func() bool {
		before, _ := s.count(restoreDone)
		ready, missing := s.Ready()
		after, _ := s.count(restoreDone)
		remaining, _ := s.count(restoreRemaining)
		of := fmt.Sprintf("detect: restoring %d partitions, %.0f of %.0f records read, ", partitions, after, after+remaining)
		return !ready && before == after && strings.HasPrefix(missing, of) &&
			strings.Contains(missing, " a second, about ") && strings.HasSuffix(missing, "s left")
	})
	if read, _ := s.count(restoreRecords); read <= 0 || read >= float64(records) {
		t.Errorf("%.0f of %d records were read amid the restore", read, records)
	}
	h.until("every restore to have said it", func() bool { return said.partitions() == partitions })
	g.release()
	h.until("the stage to be ready", func() bool { ready, _ := s.Ready(); return ready })
	if read, _ := s.count(restoreRecords); read != float64(records) {
		t.Errorf("%.0f records were read, the topic has %d", read, records)
	}
	for _, gauge := range []string{restoreDone, restoreRemaining} {
		if _, labels := s.count(gauge); labels > 0 {
			t.Errorf("%s still says something of %d partitions", gauge, labels)
		}
	}
}

// sentences is a log handler that keeps what is said with a message.
type sentences struct {
	slog.Handler // nil: nothing else is asked of it
	message      string
	mu           sync.Mutex
	said         []map[string]slog.Value
}

func (s *sentences) Enabled(context.Context, slog.Level) bool { return true }
func (s *sentences) WithAttrs([]slog.Attr) slog.Handler       { return s }

func (s *sentences) Handle(_ context.Context, r slog.Record) error {
	if r.Message != s.message {
		return nil
	}
	fields := make(map[string]slog.Value)
	r.Attrs(func(a slog.Attr) bool { fields[a.Key] = a.Value; return true })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, fields)
	return nil
}

// count returns how often it was said of a partition.
func (s *sentences) count(partition int32) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fields := range s.said {
		if fields["partition"].Int64() == int64(partition) {
			n++
		}
	}
	return n
}

// partitions returns how many partitions' restores have said how far they are, how fast and how long
// the rest takes.
func (s *sentences) partitions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[int64]bool)
	for _, fields := range s.said {
		records, of := fields["records"].Int64(), fields["of"].Int64()
		if 0 < records && records < of && fields["per_second"].Int64() > 0 && fields["left"].Duration() > 0 {
			all[fields["partition"].Int64()] = true
		}
	}
	return len(all)
}

// The broker holds the fetches of a restore, and the group takes the partitions away: the leases
// are free at once, and who gets them next goes on from where the first one was. That the records
// are older than deletions are kept for changes nothing, for they were read just now.
func TestARebalanceBreaksARestoreOffAndTheNextOneGoesOnFromThere(t *testing.T) {
	classicOnly(t)
	h := newHouse(t, brokertest.Fake(t))
	records := h.history(6)
	h.age(30 * time.Hour)
	g := h.shutAfter(3)
	s := h.start("one", t.TempDir(), whole, alone)
	h.until("the broker to hold every restore", func() bool {
		before, _ := s.count(restoreDone)
		_, missing := s.Ready()
		after, labels := s.count(restoreDone)
		return labels == partitions && before == after && before > 0 && missing != ""
	})
	before, _ := s.count(restoreRecords)
	g.pass() // for the next restore; the fetches of this one are held on
	h.evict("one-0")
	h.until("the partitions to be assigned again and restored", func() bool {
		rebalances, _ := s.count("prtwatch_detect_rebalances_total")
		running, _ := s.Partitions()
		return rebalances >= 2 && running == partitions
	})
	if read, _ := s.count(restoreRecords); read != float64(records) {
		t.Errorf("%.0f records were read before the rebalance and %.0f in all; the topic has %d", before, read, records)
	}
	h.produce(signIn("known", "user1@example.com", "203.0.113.0", "64511", 8), signIn("thief", "user1@example.com", "192.0.2.1", "64400", 8))
	h.judged()
	if got := h.alerts(); got["known"] != 0 || got["thief"] != 1 {
		t.Errorf("%d alerts of a known network, %d of a thief's", got["known"], got["thief"])
	}
}

// What a zombie has overwritten is found by the restore that meets it, and mended after it. One that
// is broken off in between leaves it to the next to find again.
func TestARestoreThatIsBrokenOffForgetsNothingThatHasToBeMended(t *testing.T) {
	classicOnly(t)
	h, dir := newHouse(t, brokertest.Fake(t)), t.TempDir()
	one := h.start("one", dir, atLeastOnce)
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
	h.judged()
	h.produce(signIn("second", ada, "192.0.2.2", "64501", 1))
	h.judged()
	if err := one.stop(); err != nil {
		t.Fatal(err)
	}
	h.b.Produce(h.again(h.b.ReadAll(h.topics.Baseline)[0])) // the zombie's
	for _, other := range []string{"bob", "cleo", "dan", "eve"} {
		h.b.Produce(h.again(&kgo.Record{Partition: kafka.Partition([]byte(ada), partitions), Key: []byte(other)}))
	}
	g := h.shutAfter(2)
	one = h.start("one", dir, atLeastOnce, whole, alone)
	h.until("the restore to have read two of five records", func() bool { read, _ := one.count(restoreRecords); return read == 2 })
	g.pass()
	h.evict("one-0")
	h.until("the profile to be mended", func() bool { mended, _ := one.count("prtwatch_baseline_mended_total"); return mended == 1 })
	if err := one.stop(); err != nil {
		t.Fatal(err)
	}
	h.produce(signIn("known", ada, "192.0.2.9", "64501", 5))
	h.start("another", t.TempDir(), atLeastOnce)
	h.judged()
	h.wantAlerts("first", "second")
}

// again returns a record of the baseline topic to be written once more.
func (h *house) again(r *kgo.Record) *kgo.Record {
	return &kgo.Record{Topic: h.topics.Baseline, Partition: r.Partition, Key: r.Key, Value: r.Value}
}

func TestARestoreInWhichNothingMovesEndsWithItsPlace(t *testing.T) {
	classicOnly(t)
	t.Parallel()
	h := newHouse(t, brokertest.Fake(t))
	h.history(3)
	h.shutAfter(1)
	// By then each has the batch that it gets.
	s := h.start("one", t.TempDir(), whole, func(_ *detect.Config, d *detect.Deps) { detect.SetPatience(d, 10*time.Second) })
	err := s.wait()
	var partition int32
	var at, end int64
	if err == nil {
		t.Fatal("the stage ended without an error")
	}
	_, after, _ := strings.Cut(err.Error(), "restoring partition ")
	if _, scanErr := fmt.Sscanf(after, "%d of "+h.topics.Baseline+": nothing came for 10s at offset %d of %d", &partition, &at, &end); scanErr != nil || at <= 0 || at >= end {
		t.Errorf("it ended with %q: %v", err, scanErr)
	}
}

// What a restore has put into Pebble, some megabytes at a time, stays where it ends with an error, and
// so does how far that is.
func TestARestoreThatFailsGoesOnFromWhatItWrote(t *testing.T) {
	classicOnly(t)
	t.Parallel()
	h, dir := newHouse(t, brokertest.Fake(t)), t.TempDir()
	s := h.start("one", dir, alone)
	h.tick(0) // so that each partition has an offset, and nothing in the baseline
	h.judged()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	const large = 10
	for user := range large {
		h.b.Produce(&kgo.Record{Topic: h.topics.Baseline, Key: fmt.Appendf(nil, "large%d", user), Value: make([]byte, 900<<10)})
	}
	g := h.shutAfter(large-2, 0) // where the large ones are
	s = h.start("one", dir, whole, alone, func(_ *detect.Config, d *detect.Deps) { detect.SetPatience(d, 10*time.Second) })
	if err := s.wait(); err == nil {
		t.Fatal("the stage ended without an error")
	}
	g.release()
	s = h.start("one", dir, alone)
	h.until("the stage to be ready", func() bool { ready, _ := s.Ready(); return ready })
	if read, _ := s.count(restoreRecords); read == 0 || read > large-4 {
		t.Errorf("%.0f records were read again, of %d large ones and more", read, large)
	}
}

// alone is a member that evict can reach.
func alone(c *detect.Config, _ *detect.Deps) { c.Members, c.GroupProtocol = 1, detect.Classic }

// evict has a classic group forget a member.
func (h *house) evict(instances ...string) {
	h.t.Helper()
	left, err := h.b.Admin().LeaveGroup(h.t.Context(), kadm.LeaveGroup(h.group).InstanceIDs(instances...))
	if err == nil {
		err = left.Error()
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// othersJudged waits until all partitions but one are judged up to an offset. (allJudged asks the leaders where they end.)
func (h *house) othersJudged(offset int64) {
	h.t.Helper()
	h.until("all other partitions to be judged", func() bool {
		offsets, err := h.b.Admin().FetchOffsets(h.t.Context(), h.group)
		judged := 0
		offsets.Each(func(o kadm.OffsetResponse) {
			if o.At == offset {
				judged++
			}
		})
		return err == nil && judged == partitions-1
	})
}

// A partition whose leader is away is waited for by nobody but itself, which is said again and again, and
// restored when it is back.
func TestAPartitionWithoutLeaderDoesNotKeepTheOthersFromBeingJudged(t *testing.T) {
	const away = 1
	for _, test := range []struct{ committed, baseline, lossy bool }{
		{false, false, false}, {false, true, false}, {true, false, false}, {true, true, false}, {true, false, true}, {false, true, true},
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			h, dir := newHouse(t, brokertest.Fake(t)), t.TempDir()
			var want []string
			write := func(at int) {
				list := inEach("user", at)
				h.produce(list...)
				if at == 0 {
					for _, s := range list {
						want = append(want, s.ID)
					}
				}
			}
			if test.committed {
				one := h.start("one", dir)
				write(0)
				h.judged()
				if err := one.stop(); err != nil {
					t.Fatal(err)
				}
			}
			topic := h.topics.Signins
			if test.baseline {
				topic = h.topics.Baseline
			}
			fault := h.b.Embedded().Cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch}, Topic: topic, Partitions: []int32{away}, Err: kerr.LeaderNotAvailable, Count: -1,
			})
			write(len(want)) // known by then, or nobody is
			said := sentences{message: "waiting for the leaders of a partition before it is restored"}
			one := h.start("one", dir, func(_ *detect.Config, d *detect.Deps) {
				d.AcceptLoss = test.lossy
				detect.SetSayEvery(d, time.Nanosecond)
				d.Log = slog.New(&said)
			})
			each := int64(1) // sign-ins of a partition
			if test.committed {
				each++
			}
			h.othersJudged(each)
			h.until("it to say why it is not ready", func() bool {
				ready, missing := one.Ready()
				return !ready && strings.HasPrefix(missing, "detect: restoring 1 partitions, ") &&
					strings.HasSuffix(missing, fmt.Sprintf(" records read; partition %d waits for its leaders: LEADER_NOT_AVAILABLE", away))
			})
			h.until("it to have said so twice", func() bool { return said.count(away) > 1 })
			fault.Remove()
			h.judged()
			h.until("the stage to be ready", func() bool { ready, _ := one.Ready(); return ready })
			h.wantAlerts(want...)
		})
	}
}

// The same of a broker that hears requests and answers none, where what was deleted of each partition has to be looked
// for too.
func TestAPartitionOfAMuteBrokerDoesNotKeepTheOthersFromBeingJudged(t *testing.T) {
	const away = 1
	h, dir := newHouse(t, brokertest.Fake(t, kfake.NumBrokers(2))), t.TempDir()
	cluster := h.b.Embedded().Cluster
	coordinator := cluster.CoordinatorFor(h.group)
	mute := 1 - coordinator
	move := func(topic string, partition, to int32) {
		if err := cluster.MoveTopicPartition(topic, partition, to); err != nil {
			t.Fatal(err)
		}
	}
	for p := range int32(partitions) {
		for _, topic := range []string{h.topics.Signins, h.topics.Baseline, h.topics.Alerts} {
			move(topic, p, coordinator)
		}
	}
	move(h.topics.Signins, away, mute)
	h.produce(inEach("user", 0)...)
	one := h.start("one", dir)
	h.judged()
	if err := one.stop(); err != nil {
		t.Fatal(err)
	}
	h.produce(inEach("lost", 1)...)
	h.empty(h.topics.Signins)
	h.produce(inEach("kept", 2)...)
	heard := make(chan struct{})
	answer := sync.OnceFunc(func() { close(heard) })
	t.Cleanup(answer)
	cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if cluster.CurrentNode() == mute {
			cluster.SleepControl(func() { <-heard })
		}
		return nil, nil, false
	})
	h.start("one", dir, lossy)
	h.othersJudged(3)
	answer()
	h.judged()
}

// Where a loss is accepted, its sign-ins are read from where they begin by then.
func TestAPartitionWithoutLeaderIsReadFromWhereItBegins(t *testing.T) {
	const away = 1
	h, dir := newHouse(t, brokertest.Fake(t)), t.TempDir()
	h.produce(inEach("user", 0)...)
	one := h.start("one", dir)
	h.judged()
	if err := one.stop(); err != nil {
		t.Fatal(err)
	}
	h.produce(inEach("lost", 1)...)
	h.empty(h.topics.Signins)
	kept := inEach("kept", 2)
	h.produce(kept...)
	fault := h.b.Embedded().Cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch}, Topic: h.topics.Signins, Partitions: []int32{away}, Err: kerr.LeaderNotAvailable, Count: -1,
	})
	h.start("one", dir, lossy)
	h.until("all other partitions to be judged", func() bool { return h.allJudged(away) })
	fault.Remove()
	h.judged()
	if n := h.alerts()[kept[away].ID]; n != 1 {
		t.Errorf("%d alerts for what is left of it, want 1", n)
	}
}
