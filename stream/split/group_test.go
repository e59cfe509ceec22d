package split

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

func TestARestartLosesAndDoublesNothing(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 3)
		h.uneven(3, 0, 2000)
		first := h.run()
		h.eventually("something was split", func() bool { return count(first.deps.Metrics.messages) > 100 })
		if err := h.halt(first); err != nil {
			t.Fatal(err)
		}
		h.uneven(3, 2000, 500)
		second := h.run()
		h.drained()
		if err := h.halt(second); err != nil {
			t.Fatal(err)
		}
		ids, _ := h.output()
		for _, u := range users {
			if want := numbers(u, 0, 2500); !slices.Equal(ids[u], want) {
				t.Errorf("%q has %d sign-ins, want %d in order", u, len(ids[u]), len(want))
			}
		}
	})
}

func TestASecondMemberStandsByAndTakesOver(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 3)
		h.uneven(3, 0, 5000)
		first := h.run()
		h.eventually("the first is active", first.active)
		second := h.run()
		h.eventually("the second has joined", func() bool { ok, _ := second.Ready(); return ok })
		if second.active() || !first.active() {
			t.Error("the second does not stand by")
		}
		if err := h.halt(first); err != nil {
			t.Fatal(err)
		}
		h.eventually("the second is active", second.active)
		third := h.run()
		h.eventually("the third has joined", func() bool { ok, _ := third.Ready(); return ok })
		h.drained()
		if third.active() || !second.active() {
			t.Error("a new member took over")
		}
		ids, _ := h.output()
		for _, u := range users {
			if want := numbers(u, 0, 5000); !slices.Equal(ids[u], want) {
				t.Errorf("%q has %d sign-ins, want %d in order", u, len(ids[u]), len(want))
			}
		}
	})
}

// The group takes a join of ours that came twice for two members of one name, and fences the one that
// we then are: here a client that is gone at once.
func TestWhoIsFencedByNobodyThatStaysJoinsAnew(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 3)
		h.instance = "one"
		h.uneven(3, 0, 1000)
		r := h.run()
		h.eventually("it is active", r.active)
		joined := make(chan struct{})
		once := sync.OnceFunc(func() { close(joined) })
		other, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.ConsumerGroup(h.cfg.Group), kgo.InstanceID("one"), kgo.ConsumeTopics(h.raw),
			kgo.Balancers(leaderTakesAll{}), kgo.DisableAutoCommit(), kgo.SessionTimeout(sessionTimeout),
			kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { once() }))
		if err != nil {
			t.Fatal(err)
		}
		<-joined
		other.Close()
		h.eventually("it was fenced, and is active again", func() bool {
			r.mu.Lock()
			fenced := r.mu.fencings != kafka.Fencings{}
			r.mu.Unlock()
			return fenced && r.active()
		})
		h.uneven(3, 1000, 500)
		h.drained()
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		ids, _ := h.output()
		for _, u := range users {
			slices.SortFunc(ids[u], func(a, b string) int { return number(a) - number(b) })
			if got, want := slices.Compact(ids[u]), numbers(u, 0, 1500); !slices.Equal(got, want) {
				t.Errorf("%q has %d sign-ins, want %d", u, len(got), len(want))
			}
		}
	})
}

func TestOfTwoOfOneNameOneEnds(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 3)
		h.instance = "one"
		first := h.run()
		h.eventually("the first is active", first.active)
		second := h.run()
		var err error
		rest := second
		select {
		case err = <-first.done:
			close(first.done)
		case err = <-second.done:
			close(second.done)
			rest = first
		case <-time.After(patience):
			t.Fatal("both go on")
		}
		if err == nil || !strings.Contains(err.Error(), `another process runs as instance "one"`) {
			t.Errorf("it ended with %v", err)
		}
		h.uneven(3, 0, 100)
		h.drained()
		if err := h.halt(rest); err != nil {
			t.Error(err)
		}
	})
}

func TestAcknowledgementsAfterALossDoNotSetTheGroupBack(t *testing.T) {
	b := brokertest.Fake(t)
	h := newHub(t, b, 1)
	cluster := b.Embedded().Cluster
	held := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: h.topics.Signins, Err: kerr.NotLeaderForPartition, Count: -1})
	first := h.run()
	h.eventually("the first is active", first.active)
	for i := range 20 {
		b.Produce(h.record(0, i, message("ada@example.com/1")))
	}
	h.eventually("all is in the air", func() bool { return count(first.deps.Metrics.messages) == 20 })
	lanes := first.everything()

	h.topics.Signins = b.Name("signins-of-the-second")
	b.CreateTopic(h.topics.Signins, h.topics.Partitions, nil)
	second := h.run()
	h.eventually("the second has joined", func() bool { ok, _ := second.Ready(); return ok })
	first.mu.Lock()
	member := lanes[0].member
	first.mu.Unlock()
	h.expel(member)
	h.eventually("the second is active", second.active)
	b.Produce(h.record(0, 20, message("ada@example.com/1")))
	h.drained()
	h.eventually("the first has noticed and joined again", func() bool { ok, _ := first.Ready(); return ok && !first.active() })

	held.Remove()
	h.landed(first)
	first.commit(lanes)
	if at := h.committed(0); at != 21 {
		t.Errorf("the group stands at offset %d, want 21", at)
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	if marked := lanes[0].marked; marked != 0 {
		t.Errorf("a lost partition is marked at %d", marked)
	}
}

// Brokers that take nothing hold a stop up for a while, and no longer; what they did not take is split by
// who comes next.
func TestAStopWaitsAWhileForWhatDoesNotLand(t *testing.T) {
	t.Parallel()
	b := brokertest.Fake(t)
	h := newHub(t, b, 1)
	held := b.Embedded().Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: h.topics.Signins, Err: kerr.NotLeaderForPartition, Count: -1})
	first := h.run()
	h.eventually("the first is active", first.active)
	b.Produce(h.record(0, 0, message("ada@example.com/0")))
	h.eventually("it is in the air", func() bool { return count(first.deps.Metrics.messages) == 1 })
	began := time.Now()
	if err := h.halt(first); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < landWithin {
		t.Errorf("the stop waited %v, want %v", took, landWithin)
	}
	held.Remove()
	h.run()
	h.drained()
	h.eventually("it is split", func() bool { ids, _ := h.output(); return len(ids["ada@example.com"]) > 0 })
}

func TestNothingIsCommittedUnderAnotherMembership(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 1)
		r := h.run()
		h.eventually("active", r.active)
		h.settled(r) // the offset that reading starts at
		lanes := r.everything()
		r.mu.Lock()
		lanes[0].member = "who we were before"
		r.mu.Unlock()
		b.Produce(h.record(0, 0, message("ada@example.com/1")))
		h.eventually("the message is marked", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return lanes[0].marked == 1
		})
		r.commit(lanes)
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		if at := h.committed(0); at != 0 {
			t.Errorf("the group stands at offset %d, want 0", at)
		}
	})
}

// A member that was thrown out learns of it when it joins, gets everything again under another id, and is
// told of no loss. Meanwhile another has split what was there, and has gone: the group is not set back to
// what was in the air.
func TestWhatIsOursAgainUnderAnotherIdIsReadAnew(t *testing.T) {
	b := brokertest.Fake(t)
	h := newHub(t, b, 1)
	release := h.holdProduce(h.topics.Signins)
	r := h.run()
	h.eventually("active", r.active)
	h.settled(r) // the offset that reading starts at
	id, _ := r.group.GroupMetadata()
	b.Deafen(id)
	b.Produce(h.record(0, 0, message("ada@example.com/0")))
	h.eventually("it is in the air", func() bool { return count(r.deps.Metrics.messages) == 1 })
	h.expel(id)

	h.topics.Signins = b.Name("signins-of-the-other")
	b.CreateTopic(h.topics.Signins, h.topics.Partitions, nil)
	other := h.run()
	h.eventually("the other is active", other.active)
	for i := 1; i < 20; i++ {
		b.Produce(h.record(0, i, message("ada@example.com/0")))
	}
	h.drained()
	if err := h.halt(other); err != nil {
		t.Fatal(err)
	}
	var committed sync.Map // by who is a member by then
	cluster := b.Embedded().Cluster
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if r := request.(*kmsg.OffsetCommitRequest); r.MemberID != id && len(r.Topics) > 0 {
			committed.Store(r.Topics[0].Partitions[0].Offset, true)
		}
		return nil, nil, false
	})
	r.mu.Lock()
	before := r.mu.merge.lanes[0]
	r.mu.Unlock()
	r.group.ForceRebalance()
	h.eventually("it has another id", func() bool {
		groups, err := b.Admin().DescribeGroups(t.Context(), h.cfg.Group)
		members := groups[h.cfg.Group].Members
		return err == nil && len(members) == 1 && members[0].MemberID != id
	})
	release()
	h.eventually("it begins anew", func() bool {
		lanes := r.everything()
		return len(lanes) == 1 && lanes[0] != before
	})
	b.Produce(h.record(0, 20, message("ada@example.com/0")))
	h.drained()
	committed.Range(func(offset, _ any) bool {
		if at := offset.(int64); at < 20 {
			t.Errorf("the group was set back to offset %d", at)
		}
		return true
	})
}

// What a member that was thrown out had in the air never lands, for its producer is closed. It is nothing to what
// it takes from then on.
func TestWhoIsThrownOutWithRecordsInTheAirCommitsAgainAfterwards(t *testing.T) {
	t.Parallel()
	b := brokertest.Fake(t)
	h := newHub(t, b, 1)
	release := h.holdProduce(h.topics.Signins)
	r := h.run()
	h.eventually("active", r.active)
	h.settled(r) // the offset that reading starts at
	before := r.everything()[0]
	id, _ := r.group.GroupMetadata()
	b.Deafen(id)
	b.Produce(h.record(0, 0, message("ada@example.com/0")))
	h.eventually("it is in the air", func() bool { return count(r.deps.Metrics.messages) == 1 })
	h.expel(id)
	r.group.ForceRebalance()
	h.eventually("it begins anew", func() bool {
		lanes := r.everything()
		return len(lanes) == 1 && lanes[0] != before
	})
	release()
	b.Produce(h.record(0, 1, message("ada@example.com/1")))
	h.drained()
	if err := h.halt(r); err != nil {
		t.Error(err)
	}
}
