package split

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/prtwatch/prtwatch/stream/entra"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// Metrics counts what a Splitter does. No label ever holds a user.
type Metrics struct {
	messages, bytes, skipped, ticks, commitErrors, rebalances prometheus.Counter
	signIns                                                   *prometheus.CounterVec // by topic
	unreadable                                                *prometheus.CounterVec // by reason
	age                                                       prometheus.Histogram
	deadLetters                                               prometheus.Counter

	splitter                                 atomic.Pointer[Splitter] // what the collector looks into; set by New
	active, lag, lagAge, waits, waited, last *prometheus.Desc
}

// NewMetrics registers the metrics of the splitting stage.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "prtwatch", Subsystem: "split", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("prtwatch_split_"+name, help, labels, nil)
	}
	m := &Metrics{
		signIns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "prtwatch", Subsystem: "split",
			Name: "sign_ins_total", Help: "Sign-ins written to the sign-ins topic, by the topic of the input that they came from.",
		}, []string{"topic"}),
		rebalances:   counter("rebalances_total", "Group generations that the splitter has seen."),
		messages:     counter("messages_total", "Input messages split."),
		bytes:        counter("bytes_total", "Bytes of the input messages split, uncompressed."),
		skipped:      counter("skipped_total", "Records of other categories, which share the input."),
		ticks:        counter("ticks_total", "Ticks written, each to every partition of the sign-ins topic."),
		commitErrors: counter("commit_errors_total", "Commits of input offsets that did not succeed."),
		unreadable: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "prtwatch", Subsystem: "split",
			Name: "unreadable_total", Help: "Records that could not be read and went to the dead-letter topic, by reason.",
		}, []string{"reason"}),
		age: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "prtwatch", Subsystem: "split",
			Name: "message_age_seconds", Help: "Age of an input message, by its Kafka timestamp, when it was split.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600},
		}),

		deadLetters: kafka.DeadLetters(reg, "split"),

		active: desc("active", "1 while this instance reads the input, 0 while it stands by."),
		lag:    desc("lag_messages", "Input messages not yet split and acknowledged, when the brokers were last asked.", "topic", "partition"),
		lagAge: desc("lag_age_seconds", "How long ago the brokers were asked for the lag."),
		waits:  desc("merge_waits_total", "How often a partition with more to come was waited for in vain, for merge_wait."),
		waited: desc("merge_wait_seconds_total", "Time in which nothing was split because a partition with more to come was waited for."),
		last:   desc("last_signin_timestamp_seconds", "Arrival of the newest message with a sign-in that was split; before the first, when this instance began to read the input. Absent while it stands by."),
	}
	reg.MustRegister(m.signIns, m.unreadable, m.age, m)
	for _, reason := range entra.Reasons() {
		m.unreadable.WithLabelValues(reason)
	}
	return m
}

// watch has the metrics show what a splitter does. Of a topic that brings nothing from the beginning it is seen that it does.
func (m *Metrics) watch(s *Splitter) {
	for _, topic := range s.deps.InputTopics {
		m.signIns.WithLabelValues(topic)
	}
	m.splitter.Store(s)
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.active, m.lag, m.lagAge, m.waits, m.waited, m.last} {
		ch <- d
	}
}

// Collect implements prometheus.Collector with what is read off the Splitter's state.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	s := m.splitter.Load()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	active := 0.0
	if len(s.mu.merge.lanes) > 0 {
		active = 1
	}
	gauge(m.active, active)
	ch <- prometheus.MustNewConstMetric(m.waits, prometheus.CounterValue, float64(s.mu.merge.waits))
	ch <- prometheus.MustNewConstMetric(m.waited, prometheus.CounterValue, s.mu.merge.waited.Seconds())
	if active == 0 {
		return
	}
	last := s.mu.newest
	if last.IsZero() {
		last = s.mu.began
	}
	gauge(m.last, float64(last.UnixMilli())/1e3)
	if s.mu.ends == nil {
		return
	}
	gauge(m.lagAge, time.Since(s.mu.ends.asked).Seconds())
	for _, l := range s.mu.merge.lanes {
		if end, ok := s.mu.ends.offsets[l.topic][l.partition]; ok {
			gauge(m.lag, float64(max(0, end-l.marked)), l.topic, strconv.Itoa(int(l.partition)))
		}
	}
}
