package detect_test

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// A clock that is ahead by weeks, be it the splitter's or one that dates sign-ins, does not have those
// forgotten who share the partition.
func TestAClockThatIsAheadClosesNobodysWindow(t *testing.T) {
	today := int(time.Since(t0) / time.Hour) // by the clock that the broker dates records with
	ahead := today + 2*(detector.Window+48)
	for _, test := range []struct {
		name   string
		write  func(h *house)
		alerts []string
	}{
		{"a tick", func(h *house) { h.tick(ahead) }, []string{"first"}},
		{"a sign-in", func(h *house) {
			h.produce(signIn("ahead", userIn(kafka.Partition([]byte(ada), partitions), "neighbour"), "192.0.2.2", "64501", ahead))
		}, []string{"first", "ahead"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHouse(t, b)
				h.produce(signIn("first", ada, "192.0.2.1", "64500", today))
				test.write(h)
				h.produce(signIn("known", ada, "192.0.2.1", "64500", today+1))
				h.start("one", t.TempDir())
				h.judged()
				h.wantAlerts(test.alerts...)
			})
		})
	}
}

// Who takes a partition over knows its event time though nothing has named it since: so that a sign-in
// which comes late is known to.
func TestEventTimeGoesWithThePartitionToAnotherInstance(t *testing.T) {
	for _, delivery := range deliveries {
		t.Run(delivery.name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHouse(t, b)
				h.tick(detector.Window + 48)
				one := h.start("one", t.TempDir(), delivery.option)
				h.judged()
				if err := one.stop(); err != nil {
					t.Fatal(err)
				}
				h.produce(signIn("late", ada, "192.0.2.1", "64500", 300))
				h.start("two", t.TempDir(), delivery.option)
				h.judged()
				h.wantAlerts("late")
				for _, r := range b.ReadAll(h.topics.Alerts) {
					if alert := h.alert(r); !alert.Late {
						t.Errorf("the alert on sign-in %s does not say that it is late", alert.SignIn.ID)
					}
				}
			})
		})
	}
}

// What is judged again after an abort is judged as it was the first time: before the tick that came
// after it. And whom the transaction had swept the next one sweeps, though no more time has passed.
func TestAnAbortedTransactionTakesBackItsEventTimeAndItsSweep(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	var mu sync.Mutex
	var last int64 // all commits are refused up to and with the first of this offset
	h.refuseCommits(func(partition int32, offset int64) bool {
		mu.Lock()
		defer mu.Unlock()
		if partition != kafka.Partition([]byte(ada), partitions) || last == 0 {
			return false
		}
		if offset == last {
			last = 0
		}
		return true
	})
	refuse := func(upTo int64) {
		mu.Lock()
		defer mu.Unlock()
		last = upTo
	}
	refuse(3)
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0), signIn("known", ada, "192.0.2.1", "64500", 1))
	h.tick(detector.Window + 48 + 2)
	h.start("one", t.TempDir())
	h.judged()
	h.wantAlerts("first")

	refuse(4)
	h.tick(detector.Window + 48 + 20)
	h.judged()
	records := h.b.ReadAll(h.topics.Baseline)
	if len(records) == 0 || records[len(records)-1].Value != nil {
		t.Errorf("of %d records in the baseline topic the last does not delete %s", len(records), ada)
	}
	mu.Lock()
	defer mu.Unlock()
	if last != 0 {
		t.Errorf("no commit of offset %d was refused", last)
	}
}

// refuseCommits has the embedded broker refuse the offset of a partition in a transaction, where
// refuse says so, as after a rebalance.
func (h *house) refuseCommits(refuse func(partition int32, offset int64) bool) {
	h.b.Embedded().Cluster.ControlKey(int16(kmsg.TxnOffsetCommit), func(request kmsg.Request) (kmsg.Response, error, bool) {
		h.b.Embedded().Cluster.KeepControl()
		commit, refused := request.(*kmsg.TxnOffsetCommitRequest), false
		response := commit.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
		for _, topic := range commit.Topics {
			answer := kmsg.NewTxnOffsetCommitResponseTopic()
			answer.Topic = topic.Topic
			for _, p := range topic.Partitions {
				refused = refuse(p.Partition, p.Offset) || refused
				part := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				part.Partition, part.ErrorCode = p.Partition, kerr.IllegalGeneration.Code
				answer.Partitions = append(answer.Partitions, part)
			}
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, refused
	})
}
