package detect_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
)

// value is the value of a counter, gauge or the count of a histogram under a label value; false where there is none.
func (s *stage) value(name, label string) (float64, bool) {
	s.t.Helper()
	families, err := s.counts.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() != "prtwatch_"+name || label != "" && m.GetLabel()[0].GetValue() != label {
				continue
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()), true
		}
	}
	return 0, false
}

// sum is the sum of a histogram.
func (s *stage) sum(name string) float64 {
	s.t.Helper()
	families, err := s.counts.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "prtwatch_"+name {
			return family.GetMetric()[0].GetHistogram().GetSampleSum()
		}
	}
	s.t.Fatalf("there is no %s", name)
	return 0
}

// wants checks values of metrics: name, label value, value.
func (s *stage) wants(name, label string, want float64) {
	s.t.Helper()
	if got, ok := s.value(name, label); !ok || got != want {
		s.t.Errorf("%s{%s} is %v (there: %t), want %v", name, label, got, ok, want)
	}
}

func TestMetricsAreThereFromTheStart(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	s := h.start("one", t.TempDir(), alone)
	for name, labels := range map[string][]string{
		"signins_judged_total":     {"failed", "other_address", "allowlisted", "other_resource", "multi_factor", "known_address", "known_network", "repeated", "alerted"},
		"alerts_total":             {"new_network", "no_baseline"},
		"transactions_total":       {"committed", "aborted", "unknown"},
		"transaction_aborts_total": {"rebalance", "fenced", "broker", "stop", "fatal"},
		"dead_letters_total":       {"detect"},
	} {
		for _, label := range labels {
			s.wants(name, label, 0)
		}
	}
	for _, state := range []string{"assigned", "restoring", "restored", "running"} {
		if _, ok := s.value("detect_partitions", state); !ok {
			t.Errorf("detect_partitions{%s} is not there", state)
		}
	}
}

func TestMetricsFollowPartitionsSignInsAndDeadLetters(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHouse(t, b)
		one := h.start("one", t.TempDir(), alone)
		runs := func(s *stage, n float64) func() bool {
			return func() bool { got, _ := s.value("detect_partitions", "running"); return got == n }
		}
		h.until("one to judge all", runs(one, partitions))
		if n, _ := one.value("detect_rebalance_seconds", ""); n < 1 {
			t.Error("joining the group took no time")
		}
		if retention, ok := one.value("signins_retention_seconds", ""); !ok || retention < 3600 {
			t.Errorf("signins_retention_seconds is %v (there: %t)", retention, ok)
		}
		prompt := signIn("prompt", ada, "192.0.2.1", "64500", 0)
		prompt.Created, prompt.Arrived = prompt.Generated.Add(-100*time.Second), prompt.Generated.Add(90*time.Second)
		unknown := signIn("unknown", ada, "192.0.2.1", "64500", 0)
		unknown.Arrived = time.Time{}
		h.produce(prompt, unknown)
		b.Produce(&kgo.Record{Topic: h.topics.Signins, Partition: 0, Key: []byte("x"), Value: []byte("no sign-in")})
		h.judged()
		h.until("it to be counted", func() bool { n, _ := one.value("dead_letters_total", "detect"); return n == 1 })
		h.until("the delay to be counted", func() bool { n, _ := one.value("azure_delay_seconds", ""); return n > 0 })
		one.wants("azure_delay_seconds", "", 1)
		if got := one.sum("azure_delay_seconds"); got != 190 {
			t.Errorf("Azure took %v s, want 190", got)
		}

		h.tick(1)
		h.judged()
		h.until("the lag of all to be known again", func() bool { age, _ := one.value("detect_lag_age_seconds", ""); return age < 5 })
		moved, _ := one.value("detect_rebalance_seconds", "")
		two := h.start("two", t.TempDir(), alone)
		h.until("two to judge half", runs(two, partitions/2))
		h.until("one to judge half", runs(one, partitions/2))
		h.until("the rebalance to have been timed", func() bool { n, _ := one.value("detect_rebalance_seconds", ""); return n > moved })
		if err := two.stop(); err != nil {
			t.Fatal(err)
		}
		two.wants("detect_partitions", "running", 0)
		if age, there := two.value("detect_lag_age_seconds", ""); there {
			t.Errorf("who judges nothing says that its lag is %v s old", age)
		}
		two.wants("signins_partitions", "", partitions)
	})
}

// As an alert says that a stage has not heard how far it is behind, that has to age where nothing comes.
func TestTheAgeOfTheLagGrowsWhereNothingComes(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	s := h.start("one", t.TempDir(), alone)
	age := func() float64 { age, _ := s.value("detect_lag_age_seconds", ""); return age }
	h.until("it to judge all", func() bool { n, _ := s.value("detect_partitions", "running"); return n == partitions })
	h.until("the age to grow", func() bool { return age() > 0.5 })
	h.tick(1)
	h.until("the age to be that of the tick", func() bool { return age() < 0.5 })
}

func TestTheCauseOfAnAbortIsToldByItsError(t *testing.T) {
	for _, test := range []struct {
		err   error
		given bool // a stop waits no longer
		want  string
	}{
		{kerr.ProducerFenced, false, "fenced"},
		{kerr.FencedInstanceID, true, "fenced"},
		{detect.ErrThrownOut, false, "rebalance"},
		{fmt.Errorf("%w: committing: %w", detect.ErrRebuild, kerr.IllegalGeneration), false, "rebalance"},
		{fmt.Errorf("%w: committing: %w", detect.ErrRebuild, context.DeadlineExceeded), false, "broker"},
		{fmt.Errorf("%w: committing: %w", detect.ErrRebuild, context.Canceled), true, "stop"},
		{kerr.MessageTooLarge, false, "fatal"},
		{errors.New("the state store is broken"), false, "fatal"},
	} {
		if got := detect.CauseOf(test.err, test.given); got != test.want {
			t.Errorf("%v: %s, want %s", test.err, got, test.want)
		}
	}
}
