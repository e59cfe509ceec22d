package detect_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
)

// Two rebalances take partitions away from a member while it waits for a broker. Its session tells
// of the first alone, and yet it gives back what the second one took.
func TestAMemberGivesBackWhatASecondRevokeTookAmidATransaction(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	patient := func(c *detect.Config, d *detect.Deps) { alone(c, d); c.TransactionTimeout = time.Minute }
	runs := func(s *stage) int { running, _ := s.Partitions(); return running }
	one := h.start("one", t.TempDir(), patient)
	h.until("one to judge all partitions", func() bool { return runs(one) == partitions })
	held, release := h.holdProduce()
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
	<-held

	two := h.start("two", t.TempDir(), patient)
	h.until("two to judge half of them", func() bool { return runs(two) == partitions/2 })
	three, four := h.start("three", t.TempDir(), patient), h.start("four", t.TempDir(), patient)
	h.until("the others to judge all but one", func() bool { return runs(two)+runs(three)+runs(four) == partitions-1 })
	release()
	h.until("one to judge the one that is left to it", func() bool { return runs(one) == 1 })
	h.judged()
	h.wantAlerts("first")
}

// A member that had nothing in hand when partitions were taken from it has nothing to abort for it
// either: the session would for its next transaction, which has records of the others alone.
func TestWhatARevokeTookFromAnIdleMemberAbortsNothing(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	runs := func(s *stage) int { running, _ := s.Partitions(); return running }
	one := h.start("one", t.TempDir(), alone)
	h.until("one to judge all partitions", func() bool { return runs(one) == partitions })
	two := h.start("two", t.TempDir(), alone)
	h.until("both to judge half of them", func() bool { return runs(one) == partitions/2 && runs(two) == partitions/2 })
	for n := range 4 * partitions { // users enough for each partition
		h.produce(signIn(fmt.Sprint(n), fmt.Sprintf("user%d@example.com", n), "192.0.2.1", "64500", 0))
	}
	h.judged()
	for _, s := range []*stage{one, two} {
		h.until("a transaction to be counted", func() bool { return s.works() > 0 }) // which is after it is committed
		if aborted, _ := s.count("prtwatch_transaction_aborts_total"); aborted > 0 {
			t.Errorf("%v of %v transactions were aborted, want none", aborted, s.works())
		}
	}
}

// A member that is frozen as it joins is thrown out. Another has its partitions, judges on, and leaves. The
// member wakes, hears that nobody knows it, joins anew and is given the same: the client tells it of no
// loss. It must not go on from where it was.
func TestWhoGetsTheSameAgainUnderAnotherMemberIDBeginsAnew(t *testing.T) {
	t.Parallel()
	h := newHouse(t, brokertest.Fake(t))
	net := newNetwork(kmsg.JoinGroup, frozen, 2)
	t.Cleanup(net.thaw)
	var client groupClient
	h.start("one", t.TempDir(), alone, net.under, func(_ *detect.Config, d *detect.Deps) {
		d.Client = append(d.Client, kgo.WithHooks(&client))
	})
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
	h.judged()
	before := client.Load()
	before.ForceRebalance()
	h.until("it to be frozen as it joins", net.done.Load)
	was, _ := before.GroupMetadata()
	h.evict("one-0")

	// Nothing may be in its hand when it wakes: of that the group would hear under the old id, and refuse it.
	h.until("what it had asked for to be answered", func() bool { return client.fetching.Load() == 0 })
	two := h.start("two", t.TempDir(), alone)
	h.produce(signIn("thief", ada, "203.0.113.9", "64511", 2))
	h.judged()
	if err := two.stop(); err != nil {
		t.Fatal(err)
	}
	net.thaw()
	h.until("it to be known again", func() bool {
		id, _ := before.GroupMetadata()
		return id != "" && id != was || client.Load() != before
	})
	h.produce(signIn("again", ada, "203.0.113.9", "64511", 20), signIn("another", ada, "203.0.113.10", "64510", 20))
	h.judged()
	h.wantAlerts("first", "thief", "another")
}

// holdProduce has the embedded broker hold the next alerts that come until release.
func (h *house) holdProduce() (held <-chan struct{}, release func()) {
	came, released := make(chan struct{}), make(chan struct{})
	release = sync.OnceFunc(func() { close(released) })
	h.t.Cleanup(release)
	topics, err := h.b.Admin().ListTopics(context.Background(), h.topics.Alerts)
	if err != nil {
		h.t.Fatal(err)
	}
	id := topics[h.topics.Alerts].ID
	cluster := h.b.Embedded().Cluster
	var first atomic.Bool
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		for _, topic := range request.(*kmsg.ProduceRequest).Topics {
			if (topic.Topic == h.topics.Alerts || topic.TopicID == id) && first.CompareAndSwap(false, true) {
				close(came)
				cluster.SleepControl(func() { <-released })
			}
		}
		return nil, nil, false
	})
	return came, release
}

// groupClient learns which client of a stage is a member's, and how many fetches of all its clients are on
// their way: those of a client that was closed for ever.
type groupClient struct {
	atomic.Pointer[kgo.Client]
	fetching atomic.Int64
}

// OnBrokerWrite hears of every request that was written.
func (g *groupClient) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if kmsg.Key(key) == kmsg.Fetch && err == nil {
		g.fetching.Add(1)
	}
}

// OnBrokerRead hears of every answer that was read, and of every one that will never be.
func (g *groupClient) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if kmsg.Key(key) == kmsg.Fetch {
		g.fetching.Add(-1)
	}
}

// OnNewClient hears of every client that is made with it as its hook.
func (g *groupClient) OnNewClient(client *kgo.Client) {
	if group, _ := client.OptValue(kgo.ConsumerGroup).(string); group != "" {
		g.Store(client)
	}
}

// The session commits the offsets of all partitions or of none: what is read of one before it is restored
// keeps the others from being judged.
func TestAPartitionIsNotReadBeforeItIsRestored(t *testing.T) {
	const late = 0
	h := newHouse(t, brokertest.Fake(t))
	h.history(1)
	g := h.shutAfter(0, late)
	var restored, early atomic.Bool
	h.eachFetch(h.topics.Signins, func(_ *kmsg.FetchRequest, p kmsg.FetchRequestTopicPartition) {
		if p.Partition == late && !restored.Load() {
			early.Store(true)
		}
	})
	h.start("one", t.TempDir(), whole, func(c *detect.Config, _ *detect.Deps) { c.Members = 1 })
	h.produce(inEach("user", 8)...)
	h.until("all other partitions to be judged", func() bool { return early.Load() || h.allJudged(late) })
	if early.Load() {
		t.Error("it was read")
	}
	restored.Store(true)
	g.release()
	h.judged()
}

// Should a client hand records out before their partition is restored, their offsets are not
// committed with the next transaction: nobody has judged them.
func TestRecordsOfAPartitionThatIsNotRestoredAreNotPassedOver(t *testing.T) {
	classicOnly(t)
	for _, delivery := range deliveries {
		t.Run(delivery.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, brokertest.Fake(t))
			h.history(1)
			already := h.alerts()
			g := h.shutAfter(0)
			var client groupClient
			s := h.start("one", t.TempDir(), whole, alone, delivery.option, func(_ *detect.Config, d *detect.Deps) {
				d.Client = append(d.Client, kgo.WithHooks(&client))
			})
			h.produce(signIn("thief", "user1@example.com", "192.0.2.1", "64400", 8))
			h.until("the member to have had records in hand", func() bool {
				if c := client.Load(); c != nil {
					c.ResumeFetchPartitions(map[string][]int32{h.topics.Signins: {0, 1, 2, 3}})
				}
				ended, _ := s.count("prtwatch_transactions_total")
				return ended > 0
			})
			g.release()
			h.until("the stage to be ready", func() bool { ready, _ := s.Ready(); return ready })
			h.judged()
			if got := h.alerts(); got["thief"] != 1 || len(got) != len(already)+1 {
				t.Errorf("%d alerts of a thief's sign-in, and %d of others, want 1 and %d", got["thief"], len(got)-1, len(already))
			}
		})
	}
}
