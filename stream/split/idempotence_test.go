package split

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// A request takes its time, and has to be sent again: others that were sent meanwhile would overtake it.
func TestAtLeastOnceKeepsTheOrderWithoutProducerIDs(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.ClusterAuthorizationFailed, kerr.UnsupportedVersion} {
		t.Run(refusal.Message, func(t *testing.T) {
			h := newHub(t, brokertest.Fake(t), 1)
			h.instance, h.atLeast = "one", true
			h.b.Produce(h.record(0, 0, message(numbers(ada, 0, 1)...)))
			h.b.RefuseProducerIDs(refusal)
			r := h.run()
			h.drained()
			split := int(count(r.deps.Metrics.messages)) // one that was refused is split again

			release := h.holdProduce(h.topics.Signins)
			h.b.Embedded().Cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.Produce}, Topic: h.topics.Signins, Err: kerr.NotLeaderForPartition, Count: 2, // a tick may come first
				When: func(request kmsg.Request) bool {
					if acks := request.(*kmsg.ProduceRequest).Acks; acks != -1 {
						t.Errorf("%d brokers have to acknowledge, want all in-sync replicas", acks)
					}
					return true
				},
			})
			for i := 1; i < 10; i++ {
				h.b.Produce(h.record(0, i, message(numbers(ada, i, i+1)...)))
				h.eventually("it is in the air", func() bool { return int(count(r.deps.Metrics.messages)) == split+i })
			}
			release()
			h.drained()
			if err := h.halt(r); err != nil {
				t.Error(err)
			}
			if ids, _ := h.output(); !slices.Equal(ids[ada], numbers(ada, 0, 10)) {
				t.Errorf("split %v, want ten, in order", ids[ada])
			}
		})
	}
}

func TestExactlyOnceSaysThatProducerIDsAreRefused(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	h.b.Produce(h.record(0, 0, message(numbers(ada, 0, 1)...)))
	h.b.RefuseProducerIDs(kerr.ClusterAuthorizationFailed)
	err := h.ended(h.run())
	if err == nil || !strings.Contains(err.Error(), "delivery: at-least-once") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Run returned %v, want one line with the remedy", err)
	}
}
