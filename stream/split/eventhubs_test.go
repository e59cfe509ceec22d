package split

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// eventHubs is how a namespace is told from other clusters.
var eventHubs = kafka.Cluster{SASL: kafka.SASL{User: "$ConnectionString"}}

// newNamespaceHub has its input in an Event Hubs namespace and its internal topics on a broker.
func newNamespaceHub(t *testing.T, inputs int32) (*hub, *brokertest.Namespace) {
	t.Helper()
	n := brokertest.EventHubs(t)
	h := newHub(t, n.Inside, inputs)
	h.input = append(n.Options(), kgo.MetadataMinAge(10*time.Millisecond))
	h.internal = brokertest.Start(t)
	h.topics.Signins, h.topics.DeadLetter = h.internal.Name("signins"), h.internal.Name("dead-letter")
	h.internal.CreateTopic(h.topics.Signins, h.topics.Partitions, nil)
	h.internal.CreateTopic(h.topics.DeadLetter, 1, nil)
	return h, n
}

// well wants that nothing was done that Event Hubs does not take, and that offsets were committed.
func (h *hub) well(n *brokertest.Namespace) {
	h.Helper()
	if refused := n.Refused(); refused != nil {
		h.Errorf("the namespace refused %v", refused)
	}
	if n.MostCommits() == 0 {
		h.Error("nothing was committed through the endpoint")
	}
}

// minutes makes n messages that lie a minute apart, with a sign-in of every user.
func (h *hub) minutes(partitions int32, n int) (records []*kgo.Record) {
	for i := range n {
		at := epoch.Add(time.Duration(i) * time.Minute)
		var ids []string
		for _, u := range users {
			ids = append(ids, numbers(u, i, i+1)...)
		}
		records = append(records, &kgo.Record{Topic: h.raw, Partition: int32(i) % partitions, Timestamp: at, Value: messageOf(at, ids...)})
	}
	return records
}

// 16 days are caught up on as fast as commits may come, while the namespace gives nothing now and then.
func TestABacklogOfEventHubsThatThrottlesIsInOrderAndComplete(t *testing.T) {
	h, n := newNamespaceHub(t, 4)
	const messages = 16 * 24 * 60
	h.b.Produce(h.minutes(4, messages)...)
	n.Throttle(0)
	r := h.runAt(commitEvery, eventHubs.CommitPace())
	all := func() bool { return count(r.deps.Metrics.messages) == messages }
	phases := 0
	for ; !all(); phases++ { // a reader has one partition, so these are as many as there are partitions, or more
		starved := n.Starved()
		h.eventually("fetches bring nothing", func() bool { return all() || n.Starved() >= starved+4 })
		n.Throttle(1)
	}
	if n.Unthrottle(); phases < 4 {
		t.Errorf("it was throttled %d times", phases)
	}
	h.drained()
	if err := h.halt(r); err != nil {
		t.Fatal(err)
	}
	if !h.inTheOrderOfTime(messages) {
		t.Error("the sign-ins are not those of the input in the order of time")
	}
	if waits := r.waits(); waits != 0 {
		t.Errorf("waited %d times in vain", waits)
	}
	h.well(n)
}

// Connections are closed as soon as nothing is asked on them for a moment, too.
func TestARestartAndAStandbyOnEventHubsLoseAndDoubleNothing(t *testing.T) {
	h, n := newNamespaceHub(t, 3)
	n.CloseIdleAfter(200 * time.Millisecond)
	h.uneven(3, 0, 2000)
	first := h.runAt(commitEvery, eventHubs.CommitPace())
	h.eventually("something was split", func() bool { return count(first.deps.Metrics.messages) > 100 })
	if err := h.halt(first); err != nil {
		t.Fatal(err)
	}
	second := h.runAt(commitEvery, eventHubs.CommitPace())
	h.eventually("the second is active", second.active)
	standby := h.runAt(commitEvery, eventHubs.CommitPace())
	h.eventually("the standby has joined", func() bool { ok, _ := standby.Ready(); return ok })
	h.uneven(3, 2000, 500)
	h.drained()
	if err := h.halt(second); err != nil {
		t.Fatal(err)
	}
	h.eventually("the standby is active", standby.active)
	h.uneven(3, 2500, 500)
	h.drained()
	h.eachOnce(3000)
	h.well(n)
}
