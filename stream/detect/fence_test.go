package detect_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
)

// undecided leaves a transaction open under a transactional id, with a record in every partition of
// the alerts and of the baseline topic: as a member does that is killed in the middle of it. No
// broker aborts it while the test runs.
func (h *house) undecided(id string, opts ...kgo.Opt) *kgo.Client {
	h.t.Helper()
	return h.undecidedIn([]string{h.topics.Baseline, h.topics.Alerts}, id, opts...)
}

// undecidedIn is undecided with records in some topics alone.
func (h *house) undecidedIn(topics []string, id string, opts ...kgo.Opt) *kgo.Client {
	h.t.Helper()
	client := h.b.Client(append(opts, kgo.TransactionalID(id), kgo.TransactionTimeout(10*time.Minute),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))...)
	if err := client.BeginTransaction(); err != nil {
		h.t.Fatal(err)
	}
	for p := range int32(partitions) {
		for _, topic := range topics {
			record := &kgo.Record{Topic: topic, Partition: p, Key: []byte("ada@example.com"), Value: []byte("x")}
			if err := client.ProduceSync(h.t.Context(), record).FirstErr(); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	return client
}

func TestAMemberThatWasKilledAndComesBackEndsItsTransactionAtOnce(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHouse(t, b)
		h.undecided(h.group + "-one-0")
		h.undecided(h.group + "-one-1")
		h.produce(signIn("first", "ada@example.com", "192.0.2.1", "64500", 0), signIn("second", "bob@example.com", "192.0.2.2", "64501", 0))
		h.start("one", t.TempDir())
		h.judged()
		h.wantAlerts("first", "second")
	})
}

func TestWhoIsGivenTheirPartitionsEndsTheTransactionsOfMembersThatAreGone(t *testing.T) {
	for _, protocol := range []string{detect.Classic, detect.Consumer} {
		t.Run(protocol, func(t *testing.T) {
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHouse(t, b)
				h.undecided(h.group + "-gone-0")
				h.undecidedIn([]string{h.topics.Baseline}, h.group+"-gone-1")
				h.undecidedIn([]string{h.topics.Alerts}, h.group+"-gone-2")
				h.produce(signIn("first", "ada@example.com", "192.0.2.1", "64500", 0), signIn("second", "bob@example.com", "192.0.2.2", "64501", 0))
				h.start("one", t.TempDir(), func(cfg *detect.Config, _ *detect.Deps) { cfg.GroupProtocol = protocol })
				h.judged()
				h.wantAlerts("first", "second")
			})
		})
	}
}

// A member that is in the group will end its transaction itself, and to be fenced would cost it its
// session; and what a stranger does is not ours to end.
func TestNoTransactionOfAMemberOrAStrangerIsEnded(t *testing.T) {
	classicOnly(t)
	b := brokertest.Fake(t)
	h := newHouse(t, b)
	var mu sync.Mutex
	var begun []string
	asked := make(map[string]bool)
	b.Embedded().Cluster.ControlKey(int16(kmsg.InitProducerID), func(request kmsg.Request) (kmsg.Response, error, bool) {
		b.Embedded().Cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if id := request.(*kmsg.InitProducerIDRequest).TransactionalID; id != nil {
			begun = append(begun, *id)
		}
		return nil, nil, false
	})
	b.Embedded().Cluster.ControlKey(int16(kmsg.DescribeTransactions), func(request kmsg.Request) (kmsg.Response, error, bool) {
		b.Embedded().Cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		for _, id := range request.(*kmsg.DescribeTransactionsRequest).TransactionalIDs {
			asked[id] = true
		}
		return nil, nil, false
	})
	member := h.undecided(h.group+"-other-0", kgo.ConsumerGroup(h.group), kgo.InstanceID("other-0"), kgo.ConsumeTopics(h.topics.Signins),
		kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.DisableAutoCommit())
	stranger := h.undecided("stranger-0")
	h.until("the other member to join", func() bool {
		groups, err := b.Admin().DescribeGroups(context.Background(), h.group)
		return err == nil && groups[h.group].State == "Stable"
	})
	h.start("one", t.TempDir())
	h.until("one to look at the member's transaction", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return asked[h.group+"-other-0"]
	})
	// Which both must be able to commit.
	for _, client := range []*kgo.Client{member, stranger} {
		if err := client.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, id := range []string{h.group + "-other-0", "stranger-0"} {
		if n := len(slices.DeleteFunc(slices.Clone(begun), func(s string) bool { return s != id })); n != 1 {
			t.Errorf("a producer id was asked for under %s %d times, want once, by its owner", id, n)
		}
	}
}
