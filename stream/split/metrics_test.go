package split

import (
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// lastSignIn is prtwatch_split_last_signin_timestamp_seconds; false where it is absent.
func (r *running) lastSignIn() (time.Time, bool) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.deps.Metrics)
	families, err := registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, family := range families {
		if family.GetName() == "prtwatch_split_last_signin_timestamp_seconds" {
			return time.UnixMilli(int64(family.GetMetric()[0].GetGauge().GetValue() * 1000)), true
		}
	}
	return time.Time{}, false
}

// Azure sometimes just stops to send, without an error: the newest sign-in's age is how that is seen, by the instance that
// reads, and from its beginning on. Other categories may go on.
func TestSilenceIsTimedFromTheNewestSignIn(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 2)
	before := time.Now()
	first := h.run()
	h.eventually("it reads", first.active)
	if at, ok := first.lastSignIn(); !ok || at.Before(before.Truncate(time.Second)) || at.After(time.Now()) {
		t.Errorf("before the first sign-in it says %s (there: %t)", at, ok)
	}
	second := h.run()
	h.eventually("the second joins", func() bool { ready, _ := second.Ready(); return ready })
	standby := second
	if second.active() {
		standby = first
	}
	if at, ok := standby.lastSignIn(); ok {
		t.Errorf("a standby says %s", at)
	}
	reads := first
	if standby == first {
		reads = second
	}
	h.b.Produce(
		h.record(0, 7, message("ada@example.com/1")),
		h.record(1, 5, message("ada@example.com/2")),
		h.record(1, 9, []byte(`{"records":[{"time":"2026-11-23T10:00:00Z","category":"AuditLogs","properties":{"id":"x"}}]}`)),
		h.record(1, 10, []byte(`no json`)),
	)
	h.drained()
	if at, ok := reads.lastSignIn(); !ok || !at.Equal(epoch.Add(7*time.Second)) {
		t.Errorf("the newest sign-in arrived at %s (there: %t), want %s", at, ok, epoch.Add(7*time.Second))
	}
	if letters := count(reads.deps.Metrics.deadLetters); letters != 1 {
		t.Errorf("%v dead letters, want 1", letters)
	}
}

// Only what the brokers have taken is a dead letter.
func TestADeadLetterThatIsNotAcknowledgedIsNotCounted(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	h.topics.DeadLetter = "none"
	r := h.run()
	h.b.Produce(&kgo.Record{Topic: h.raw, Timestamp: epoch, Value: []byte("no json")})
	if err := h.ended(r); err == nil {
		t.Error("it goes on though a dead letter is lost")
	}
	if letters := count(r.deps.Metrics.deadLetters); letters != 0 {
		t.Errorf("%v dead letters", letters)
	}
}

// Of two hubs one may fall silent, and one may never have said anything: each is counted by itself, from the beginning.
func TestSignInsAreCountedByTheTopicThatTheyCameFrom(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	silent := h.another()
	r := h.run()
	h.b.Produce(h.record(0, 1, message("ada@example.com/1", "ada@example.com/2")))
	h.drained()
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.deps.Metrics.signIns)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := make(map[string]float64)
	for _, m := range families[0].GetMetric() {
		counted[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	if want := map[string]float64{h.raw: 2, silent: 0}; !maps.Equal(counted, want) {
		t.Errorf("counted %v, want %v", counted, want)
	}
	if n := count(r.deps.Metrics.rebalances); n < 1 {
		t.Errorf("%v rebalances, though it joined", n)
	}
}
