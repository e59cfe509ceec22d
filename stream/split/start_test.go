package split

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

const ada = "ada@example.com"

// recreate deletes the input topic and makes another one of its name.
func (h *hub) recreate(partitions int32) {
	h.Helper()
	if _, err := h.b.Admin().DeleteTopics(context.Background(), h.raw); err != nil {
		h.Fatal(err)
	}
	h.eventually("the input topic is made again", func() bool {
		made, err := h.b.Admin().CreateTopic(context.Background(), partitions, 1, map[string]*string{"retention.ms": kadm.StringPtr("-1")}, h.raw)
		return err == nil && made.Err == nil
	})
}

// anew produces with a client that knows no other topic of the name.
func (h *hub) anew(records ...*kgo.Record) {
	h.Helper()
	client := h.b.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	h.eventually("the new topic takes records", func() bool {
		return client.ProduceSync(context.Background(), records...).FirstErr() == nil
	})
}

// forget deletes the group, as brokers do with one that nobody was in for a week.
func (h *hub) forget() {
	h.Helper()
	h.eventually("the group is deleted", func() bool {
		deleted, err := h.b.Admin().DeleteGroups(context.Background(), h.cfg.Group)
		return err == nil && deleted.Error() == nil
	})
}

// set commits offsets, as an operator does.
func (h *hub) set(offsets kadm.Offsets) {
	h.Helper()
	h.eventually("the offsets are set", func() bool {
		set, err := h.b.Admin().CommitOffsets(context.Background(), h.cfg.Group, offsets)
		return err == nil && set.Error() == nil
	})
}

func (h *hub) at(offset int64) kadm.Offsets {
	offsets := make(kadm.Offsets)
	offsets.AddOffset(h.raw, 0, offset, -1)
	return offsets
}

// What happens to the input and to the group's offsets while no instance runs: one that comes back
// says what is wrong and what to do, and that then helps.
func TestAnInputOrOffsetsThatChangedWhileAwayAreRefusedWithARemedyThatHelps(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(h *hub)
		want   string
		remedy func(h *hub)
		split  []string // of ada, in the end
	}{
		{
			"the group's offsets expired, and are set again", (*hub).forget,
			"has committed no offset of it, but", func(h *hub) { h.set(h.at(3)) }, numbers(ada, 0, 4),
		},
		{
			"the group's offsets expired, and the loss is accepted", (*hub).forget,
			"pass --accept-loss", func(h *hub) {
				h.accept = true
				h.start, _ = ParseStart("2026-11-09T00:00:02Z")
			}, append(numbers(ada, 0, 3), numbers(ada, 2, 4)...),
		},
		{"an input that was made again, and is longer than before", func(h *hub) {
			committed, err := h.b.Admin().FetchOffsets(context.Background(), h.cfg.Group)
			if err != nil {
				h.Fatal(err)
			}
			h.recreate(1)
			for i := range 5 {
				h.anew(h.record(0, i, message(numbers(ada, 10+i, 11+i)...)))
			}
			h.set(committed.Offsets()) // some brokers forget offsets with the topic, others do not
		}, "it was deleted and made again", func(h *hub) {
			h.set(h.at(0))
		}, slices.Concat(numbers(ada, 0, 3), numbers(ada, 10, 15), numbers(ada, 3, 4))},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHub(t, b, 1)
				for i := range 3 {
					b.Produce(h.record(0, i, message(numbers(ada, i, i+1)...)))
				}
				r := h.run()
				h.drained()
				if err := h.halt(r); err != nil {
					t.Fatal(err)
				}
				test.spoil(h)
				for range 2 {
					if err := h.ended(h.run()); err == nil || !strings.Contains(err.Error(), test.want) {
						t.Fatalf("Run returned %v, want one with %q", err, test.want)
					}
				}
				test.remedy(h)
				r = h.run()
				h.anew(h.record(0, 9, message(numbers(ada, 3, 4)...)))
				h.drained()
				if err := h.halt(r); err != nil {
					t.Fatal(err)
				}
				if ids, _ := h.output(); !slices.Equal(ids[ada], test.split) {
					t.Errorf("split %v, want %v", ids[ada], test.split)
				}
				h.accept = false // what the remedy was is not wanted again
				again := h.run()
				h.eventually("active", again.active)
				if err := h.halt(again); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// The remedy is one for the whole topic, and helps at once: those that are beyond the old ones too have an offset then.
func TestAnInputThatWasMadeAgainWithMorePartitionsIsReadFromWhereItIsSet(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 2)
		for i := range 4 {
			b.Produce(h.record(int32(i%2), i, message(numbers(ada, i, i+1)...)))
		}
		h.splitAll()
		committed, err := b.Admin().FetchOffsets(t.Context(), h.cfg.Group)
		if err != nil {
			t.Fatal(err)
		}
		h.recreate(4)
		h.set(committed.Offsets()) // brokers that do not forget
		h.refused("was deleted and made again", "--group "+h.cfg.Group+" --topic "+h.raw+" --reset-offsets --to-earliest")
		all := make(kadm.Offsets)
		for partition := range int32(4) {
			all.AddOffset(h.raw, partition, 0, -1)
		}
		h.set(all)
		for i := range 4 {
			h.anew(h.record(int32(i), i, message(numbers(bob, i, i+1)...)))
		}
		h.splitAll()
		h.splitAll()
		if ids, _ := h.output(); !slices.Equal(ids[ada], numbers(ada, 0, 4)) || !slices.Equal(ids[bob], numbers(bob, 0, 4)) {
			t.Errorf("split %v", ids)
		}
	})
}

// another makes one more input topic of one partition.
func (h *hub) another() string {
	h.Helper()
	name := h.b.Name(fmt.Sprintf("raw-%d", len(h.also)+1))
	h.b.CreateTopic(name, 1, map[string]string{"retention.ms": "-1"})
	h.also = append(h.also, name)
	return name
}

// splitAll runs until all of the input is split.
func (h *hub) splitAll() {
	h.Helper()
	r := h.run()
	h.drained()
	if err := h.halt(r); err != nil {
		h.Fatal(err)
	}
}

// refused wants that it does not start, for a reason with all of these.
func (h *hub) refused(parts ...string) {
	h.Helper()
	err := h.ended(h.run())
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			h.Fatalf("Run returned %v, want one with %q", err, part)
		}
	}
}

const bob = "bob@example.com"

// What a start that is refused commits says that it is of the topic of before: so the next one is refused too.
func TestATopicThatWasMadeAgainIsRefusedEachTime(t *testing.T) {
	t.Parallel()
	h := newHub(t, brokertest.Fake(t), 1)
	for i := range 3 {
		h.b.Produce(h.record(0, i, message(numbers(ada, i, i+1)...)))
	}
	h.splitAll()
	committed, err := h.b.Admin().FetchOffsets(t.Context(), h.cfg.Group)
	if err != nil {
		t.Fatal(err)
	}
	h.recreate(1)
	for i := range 5 {
		h.anew(h.record(0, i, message(numbers(ada, 10+i, 11+i)...)))
	}
	h.set(committed.Offsets()) // brokers that keep them
	h.identity = "another"     // so that there is something to commit
	for range 3 {
		h.refused("it was deleted and made again")
	}
}

// The others' offsets say that nothing expired. Brokers without topic ids say no less.
func TestATopicThatIsNewAmongTheInputIsReadFromInputStart(t *testing.T) {
	without := kversion.Stable()
	for key, most := range map[kmsg.Key]int16{kmsg.Metadata: 9, kmsg.Fetch: 12, kmsg.Produce: 9, kmsg.OffsetCommit: 8, kmsg.OffsetFetch: 8} {
		without.SetMaxKeyVersion(int16(key), most)
	}
	for name, b := range map[string]*brokertest.Broker{"ids": brokertest.Fake(t), "no ids": brokertest.Fake(t, kfake.MaxVersions(without))} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, b, 1)
			b.Produce(h.record(0, 0, message(numbers(ada, 0, 3)...)))
			h.splitAll()
			added := h.another()
			for i := range 3 {
				record := h.record(0, i, message(numbers(bob, i, i+1)...))
				record.Topic = added
				b.Produce(record)
			}
			h.start, _ = ParseStart("2026-11-09T00:00:02Z")
			h.splitAll()
			if ids, _ := h.output(); !slices.Equal(ids[bob], numbers(bob, 2, 3)) || !slices.Equal(ids[ada], numbers(ada, 0, 3)) {
				t.Errorf("split %v", ids)
			}
		})
	}
}

// awayLeader has the leader of a partition of a topic away until it is removed.
func (h *hub) awayLeader(topic string, partition int32) *kfake.FaultHandle {
	h.Helper()
	return h.b.Embedded().Cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch}, Topic: topic, Partitions: []int32{partition}, Err: kerr.LeaderNotAvailable, Count: -1,
	})
}

// It is away in the first start ever and in the next one, then is read from input.start; and one that was added
// meanwhile from its beginning.
func TestAPartitionThatHadNoLeaderWhenOthersBeganIsNotTakenForOneThatExpiredOrWasAdded(t *testing.T) {
	t.Parallel()
	for away := range int32(3) {
		t.Run(fmt.Sprint("partition ", away), func(t *testing.T) {
			h := newHub(t, brokertest.Fake(t), 3)
			h.cfg.MergeWait = 0
			h.start, _ = ParseStart("2026-11-09T00:00:03Z")
			for i := range 9 {
				h.b.Produce(h.record(int32(i%3), i, message(numbers(ada, i, i+1)...)))
			}
			gone := h.awayLeader(h.raw, away)
			for range 2 {
				r := h.run()
				h.eventually("the others are split", func() bool { return h.committed((away+1)%3) == 3 && h.committed((away+2)%3) == 3 })
				if err := h.halt(r); err != nil {
					t.Fatal(err)
				}
			}
			gone.Remove()
			if _, err := h.b.Admin().CreatePartitions(t.Context(), 1, h.raw); err != nil {
				t.Fatal(err)
			}
			h.anew(h.record(3, 0, message(numbers(bob, 0, 1)...)))
			h.splitAll()
			ids, _ := h.output()
			if slices.Sort(ids[ada]); !slices.Equal(ids[ada], numbers(ada, 3, 9)) {
				t.Errorf("split %v, want what is as new as input.start", ids[ada])
			}
			if !slices.Equal(ids[bob], numbers(bob, 0, 1)) {
				t.Errorf("of the partition that was added %v was split", ids[bob])
			}
		})
	}
}

// An operator has set one of two partitions before the first start: in that one the other has no leader. It is read from
// input.start as soon as it has one, in the same session or in the next.
func TestWhatIsSetBeforeTheFirstStartSaysNothingOfTheOthers(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"the same session": false, "another": true} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, brokertest.Fake(t), 1)
			h.cfg.MergeWait = 0
			h.start, _ = ParseStart("2026-11-09T00:00:02Z")
			other := h.another()
			if _, err := h.b.Admin().UpdatePartitions(t.Context(), 2, other); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				h.b.Produce(h.record(0, i, message(numbers(ada, i, i+1)...)))
				for partition, user := range []string{bob, "cleo@example.com"} {
					record := h.record(int32(partition), i, message(numbers(user, i, i+1)...))
					record.Topic = other
					h.anew(record)
				}
			}
			some := make(kadm.Offsets)
			some.AddOffset(other, 0, 1, -1)
			h.set(some)
			gone := h.awayLeader(other, 1)
			r := h.run()
			h.eventually("the first is split", func() bool { return h.committed(0) == 3 })
			if restart {
				if err := h.halt(r); err != nil {
					t.Fatal(err)
				}
				r = h.run()
			}
			gone.Remove()
			h.drained()
			if err := h.halt(r); err != nil {
				t.Fatal(err)
			}
			ids, _ := h.output()
			if !slices.Equal(ids[ada], numbers(ada, 2, 3)) || !slices.Equal(ids[bob], numbers(bob, 1, 3)) || !slices.Equal(ids["cleo@example.com"], numbers("cleo@example.com", 2, 3)) {
				t.Errorf("split %v", ids)
			}
		})
	}
}

func TestAnInputThatIsMadeAgainUnderARunningStageEndsIt(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 1)
		h.looks = time.Hour // or four of them may find it gone, before it is made again
		for i := range 3 {
			b.Produce(h.record(0, i, message(numbers(ada, i, i+1)...)))
		}
		r := h.run()
		h.drained()
		h.recreate(1)
		for i := range 5 { // so that the offset to go on from is in it
			h.anew(h.record(0, i, message(numbers(ada, 10+i, 11+i)...)))
		}
		if err := h.ended(r); err == nil || !strings.Contains(err.Error(), "it was deleted and made again") {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestAnInputThatIsDeletedUnderARunningStageEndsIt(t *testing.T) {
	t.Parallel()
	h := newHub(t, brokertest.Fake(t), 1)
	h.b.Produce(h.record(0, 0, message(numbers(ada, 0, 1)...)))
	r := h.run()
	h.drained()
	if _, err := h.b.Admin().DeleteTopic(t.Context(), h.raw); err != nil {
		t.Fatal(err)
	}
	if err := h.ended(r); err == nil || !strings.Contains(err.Error(), h.raw+" was deleted while it was in use") {
		t.Errorf("Run returned %v", err)
	}
}

// What is committed of the others does not wait for it.
func TestAPartitionThatIsNoMoreDoesNotKeepTheOthersFromBeingCommitted(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 2)
	const messages = 10
	for i := range messages {
		for partition := range int32(2) {
			h.b.Produce(h.record(partition, i, message(numbers(ada, 2*i+int(partition), 2*i+int(partition)+1)...)))
		}
		if i > 0 {
			continue
		}
		r := h.run()
		h.drained()
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
	}
	h.b.Embedded().Cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetCommit}, Topic: h.raw, Partitions: []int32{1}, Err: kerr.UnknownTopicOrPartition, Count: -1,
	})
	r := h.run()
	h.eventually("all of both is split", func() bool { return count(r.deps.Metrics.messages) == 2*(messages-1) })
	h.eventually("the other partition is committed", func() bool { return h.committed(0) == messages })
	if err := h.halt(r); err != nil {
		t.Fatal(err)
	}
	if at := h.committed(1); at != 1 {
		t.Errorf("of the partition that is no more offset %d is committed", at)
	}
}

// Or one that is killed then would leave sign-ins behind and no offset, as though that had expired.
func TestNothingGoesOutBeforeItIsCommittedWhereReadingBegins(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 2)
	h.b.Produce(h.record(0, 0, message(numbers(ada, 0, 3)...))) // partition 1 stays empty
	refused := h.b.Embedded().Cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: h.cfg.Group, Err: kerr.UnknownServerError, Count: -1,
	})
	r := h.run()
	h.eventually("some commits have failed", func() bool { return count(r.deps.Metrics.commitErrors) > 5 })
	if err := h.halt(r); err != nil {
		t.Fatal(err)
	}
	if ids, ticks := h.output(); len(ids)+len(ticks) > 0 {
		t.Errorf("%v and %d ticks went out", ids, len(ticks))
	}
	refused.Remove()
	r = h.run()
	h.drained()
	if ids, _ := h.output(); !slices.Equal(ids[ada], numbers(ada, 0, 3)) {
		t.Errorf("split %v", ids[ada])
	}
	if err := h.halt(r); err != nil {
		t.Fatal(err)
	}
}

func TestInputStartDecidesWhereNothingIsCommitted(t *testing.T) {
	for start, want := range map[string][]string{
		"earliest":             numbers("ada@example.com", 0, 4),
		"latest":               numbers("ada@example.com", 3, 4),
		"2026-11-09T00:00:02Z": numbers("ada@example.com", 2, 4),
	} {
		t.Run(start, func(t *testing.T) {
			b := brokertest.Fake(t)
			h := newHub(t, b, 1)
			var err error
			if h.start, err = ParseStart(start); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				b.Produce(h.record(0, i, message(numbers("ada@example.com", i, i+1)...)))
			}
			h.run()
			h.eventually("where reading begins is committed", func() bool { return h.committed(0) >= 0 })
			b.Produce(h.record(0, 3, message("ada@example.com/3")))
			h.drained()
			if ids, _ := h.output(); !slices.Equal(ids["ada@example.com"], want) {
				t.Errorf("split %v, want %v", ids["ada@example.com"], want)
			}
		})
	}
}

// And so it is where nothing could be committed of the first one yet.
func TestAPartitionThatIsAddedIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]bool{"the first has a leader": false, "the first has none": true} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, brokertest.Fake(t), 1)
			h.cfg.MergeWait = 0
			h.start, _ = ParseStart("latest")
			h.b.Produce(h.record(0, 0, message(numbers(ada, 0, 1)...)))
			gone := h.awayLeader(h.raw, 0)
			if !away {
				gone.Remove()
			}
			r := h.run()
			h.eventually("it has begun", func() bool { return r.active() && (away || h.committed(0) == 1) })
			if _, err := h.b.Admin().UpdatePartitions(t.Context(), 2, h.raw); err != nil {
				t.Fatal(err)
			}
			h.anew(h.record(1, 1, message(numbers(ada, 1, 2)...)))
			r.group.ForceMetadataRefresh() // else it takes metadataAge
			h.eventually("what was added is split", func() bool { return h.committed(1) == 1 })
			gone.Remove()
			h.drained()
			if err := h.halt(r); err != nil {
				t.Fatal(err)
			}
			if ids, _ := h.output(); !slices.Equal(ids[ada], numbers(ada, 1, 2)) {
				t.Errorf("split %v, want what came after the start", ids[ada])
			}
		})
	}
}

func TestDeletedMessagesThatWereNotReadEndTheStage(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 2)
		h.uneven(2, 0, 10)
		r := h.run()
		h.drained()
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		h.uneven(2, 10, 20)
		cut := make(kadm.Offsets)
		cut.AddOffset(h.raw, 1, 15, -1)
		if _, err := b.Admin().DeleteRecords(context.Background(), cut); err != nil {
			t.Fatal(err)
		}
		err := h.ended(h.run())
		if err == nil || !strings.Contains(err.Error(), "6 messages are lost") || !strings.Contains(err.Error(), "--reset-offsets") {
			t.Errorf("Run returned %v, want how many are lost and the remedy", err)
		}
	})
}
