package split

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

func TestEverySignInOfUnevenPartitionsArrivesOnceAndInOrder(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 4)
		h.uneven(4, 0, 3000)
		r := h.run()
		h.drained()
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		ids, _ := h.output()
		for _, u := range users {
			if want := numbers(u, 0, 3000); !slices.Equal(ids[u], want) {
				t.Errorf("%q has %d sign-ins, want %d in order", u, len(ids[u]), len(want))
			}
		}
		if waits := r.waits(); waits != 0 {
			t.Errorf("waited %d times in vain", waits)
		}
	})
}

func TestWhatCannotBeReadIsKeptWithWhereItCameFrom(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 1)
		mixed := `{"records":[
			{"time":"2026-11-23T10:00:00Z","category":"NonInteractiveUserSignInLogs","properties":{"userPrincipalName":"ada@example.com"}},
			{"category":"AuditLogs","properties":{}},
			{"time":"2026-11-23T10:00:00Z","category":"NonInteractiveUserSignInLogs","properties":{"id":"ada@example.com/1","userPrincipalName":"ada@example.com"}}]}`
		h.b.Produce(h.record(0, 0, []byte("not json")), h.record(0, 1, []byte(mixed)), h.record(0, 2, nil))
		r := h.run()
		h.drained()
		var got []string
		for _, letter := range h.internal.ReadAll(h.topics.DeadLetter) {
			headers := make(map[string]string)
			for _, header := range letter.Headers {
				headers[header.Key] = string(header.Value)
			}
			if headers["topic"] != h.raw || headers["partition"] != "0" || headers["reason"] == "" {
				t.Errorf("headers %v", headers)
			}
			got = append(got, fmt.Sprintf("offset %s record %s: %.8s", headers["offset"], headers["record"], letter.Value))
		}
		want := []string{"offset 0 record : not json", `offset 1 record 0: {"time":`, "offset 2 record : "}
		if !slices.Equal(got, want) {
			t.Errorf("dead letters\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if ids, _ := h.output(); !slices.Equal(ids["ada@example.com"], numbers("ada@example.com", 1, 2)) {
			t.Errorf("a bad record took its neighbour with it: %v", ids)
		}
		if all := h.origins()[kafka.Partition([]byte(ada), h.topics.Partitions)]; len(all) != 1 || all[0].Place != (signins.Place{Offset: 1, Index: 2}) {
			t.Errorf("the sign-in says that it stood in %+v", all)
		}
		if n := count(r.deps.Metrics.skipped); n != 1 {
			t.Errorf("%v records counted as skipped, want 1", n)
		}
	})
}

func TestAbortedMessagesAndMarkersDoNotHoldUpTheMerge(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 2)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		tx := b.Client(kgo.TransactionalID(b.Name("tx")), kgo.MetadataMinAge(10*time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		second := 0
		for i := range 20 {
			if err := tx.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			end, user := kgo.TryCommit, "ada@example.com"
			if i%2 == 1 {
				end, user = kgo.TryAbort, "aborted@example.com"
			}
			for p := range int32(2) {
				id := fmt.Sprintf("%s/%d", user, i+int(p))
				second++
				if err := tx.ProduceSync(ctx, h.record(p, second, message(id))).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			if err := tx.EndTransaction(ctx, end); err != nil {
				t.Fatal(err)
			}
		}
		r := h.run()
		h.drained()
		ids, _ := h.output()
		if want := numbers("ada@example.com", 0, 20); !slices.Equal(ids["ada@example.com"], want) || len(ids) != 1 {
			t.Errorf("split %v, want 20 sign-ins of ada@example.com in order", ids)
		}
		if waits := r.waits(); waits != 0 {
			t.Errorf("waited %d times in vain", waits)
		}
	})
}

// What an open transaction hides is not known to come: nobody waits for it, until it is committed.
func TestAnOpenTransactionDoesNotHoldUpTheMerge(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 2)
		b.Produce(h.record(0, 10, message(numbers(ada, 1, 2)...)), h.record(1, 0, message(numbers(ada, 0, 1)...)))
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		tx := b.Client(kgo.TransactionalID(b.Name("tx")), kgo.MetadataMinAge(10*time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := tx.ProduceSync(ctx, h.record(1, 5, message(numbers(ada, 2, 3)...))).FirstErr(); err != nil {
			t.Fatal(err)
		}
		r := h.run()
		h.eventually("what is to be seen of both is split", func() bool { return h.committed(0) == 1 && h.committed(1) == 1 })
		if err := tx.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		h.drained()
		if ids, _ := h.output(); !slices.Equal(ids[ada], numbers(ada, 0, 3)) {
			t.Errorf("split %v", ids[ada])
		}
		if waits := r.waits(); waits != 0 {
			t.Errorf("waited %d times in vain", waits)
		}
	})
}

func TestTheTickIsTheWallClockOnceAllIsRead(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 2)
		began := time.Now().Add(-time.Second)
		h.uneven(2, 0, 10)
		r := h.run()
		h.drained()
		before := count(r.deps.Metrics.ticks) // be it that they said less, or none
		h.eventually("some ticks", func() bool { return count(r.deps.Metrics.ticks) >= before+2 })
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		_, ticks := h.output()
		if n := len(ticks); n < int(2*h.topics.Partitions) || n%int(h.topics.Partitions) != 0 {
			t.Errorf("%d ticks, want as many on each of %d partitions", n, h.topics.Partitions)
		}
		if last := ticks[len(ticks)-1].Time; last.Before(began) || last.After(time.Now().Add(time.Second)) {
			t.Errorf("the last tick is %v, want the wall clock", last)
		}
	})
}

func TestARecordThatCannotBeProducedEndsTheStage(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	h.topics.Partitions = 400 // the topic has four
	h.b.Produce(h.record(0, 0, message("ada@example.com/1")))
	err := h.ended(h.run())
	if err == nil || !strings.Contains(err.Error(), h.topics.Signins) {
		t.Errorf("Run returned %v, want which topic could not be written", err)
	}
	committed, err := h.b.Admin().FetchOffsets(context.Background(), h.cfg.Group)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if c, ok := committed.Lookup(h.raw, 0); ok && c.At > 0 {
		t.Errorf("offset %d is committed of a message that was not produced", c.At)
	}
}

func TestTheStageOutlivesABrokerThatIsAway(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	cluster := h.b.Embedded().Cluster
	away := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Group: h.cfg.Group, TopLevel: true, Err: kerr.CoordinatorNotAvailable, Count: -1})
	r := h.run()
	h.b.Produce(h.record(0, 0, message("ada@example.com/0")))
	if ok, why := r.Ready(); ok || !strings.Contains(why, h.cfg.Group) {
		t.Errorf("ready without the group: %v, %q", ok, why)
	}
	away.Remove()
	h.drained()
}

// A partition whose leader is away is waited for as any other that has more to come, and no
// longer; when it is back, it is read from where it would have been.
func TestAPartitionWithoutLeaderDoesNotKeepTheOthersFromBeingRead(t *testing.T) {
	for _, committed := range []bool{false, true} {
		t.Run(fmt.Sprintf("committed=%v", committed), func(t *testing.T) {
			h := newHub(t, brokertest.Fake(t), 3)
			from, at := 0, int64(-1)
			if committed {
				h.uneven(3, 0, 300)
				r := h.run()
				h.drained()
				if err := h.halt(r); err != nil {
					t.Fatal(err)
				}
				from, at = 300, h.committed(1)
			}
			h.uneven(3, from, 300)
			away := h.b.Embedded().Cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch}, Topic: h.raw, Partitions: []int32{1}, Err: kerr.LeaderNotAvailable, Count: -1,
			})
			r := h.run()
			h.eventually("the merge waits for the partition", func() bool { return r.waitsFor(1, at) && r.readToTheEnd(1) })
			r.waitNoLongerThan(100 * time.Millisecond)
			// Three of 300 are in partition 0 and 147 in partition 1.
			h.eventually("the partitions that are there are split", func() bool { return count(r.deps.Metrics.messages) == 153 })
			if waits := r.waits(); waits != 1 {
				t.Errorf("waited %d times in vain, want once for the partition that is away", waits)
			}
			away.Remove()
			h.drained()
			ids, _ := h.output()
			for _, u := range users {
				got := slices.Sorted(slices.Values(ids[u]))
				if want := slices.Sorted(slices.Values(numbers(u, 0, from+300))); !slices.Equal(got, want) {
					t.Errorf("%q has %d sign-ins, want %d", u, len(got), len(want))
				}
			}
		})
	}
}
