package detect

import (
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// Metrics are what the detecting stage counts. No label holds a user or an address.
type Metrics struct {
	signIns            *prometheus.CounterVec
	alerts             *prometheus.CounterVec
	late, clamped      prometheus.Counter
	unreadable         prometheus.Counter
	splitAgain         prometheus.Counter
	transactions       *prometheus.CounterVec
	transactionSeconds prometheus.Histogram
	rebalances         prometheus.Counter
	fetchErrors        prometheus.Counter
	commitErrors       prometheus.Counter
	mended             prometheus.Counter
	restoreSeconds     prometheus.Histogram
	restoreRecords     prometheus.Counter
	restoreDone        *prometheus.GaugeVec
	restoreRemaining   *prometheus.GaugeVec
	ageSeconds         prometheus.Histogram
	alertSeconds       prometheus.Histogram
	lagRecords         *prometheus.GaugeVec
	lagSeen            *prometheus.GaugeVec
	aborts             *prometheus.CounterVec
	rebalanceSeconds   prometheus.Histogram
	azureSeconds       prometheus.Histogram
	deadLetters        prometheus.Counter
	retention          *prometheus.GaugeVec // of no label; without a value until it is known

	stage                   atomic.Pointer[Stage] // what the collector looks into; set by New
	partitions, all, lagAge *prometheus.Desc
	learned                 struct {
		sync.Mutex
		at map[int32]time.Time // when the lag of a running partition was last learned, or began to be waited for
	}
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "prtwatch_" + name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "prtwatch_" + name, Help: help}, labels)
	}
	gauges := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "prtwatch_" + name, Help: help}, []string{"partition"})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "prtwatch_" + name, Help: help, Buckets: buckets})
	}
	seconds := prometheus.ExponentialBuckets(0.005, 2, 16) // 5 ms to 164 s
	m := &Metrics{
		signIns:            counters("signins_judged_total", "Sign-ins judged, by the step that decided.", "outcome"),
		alerts:             counters("alerts_total", "Alerts, by reason.", "reason"),
		late:               counter("signins_late_total", "Sign-ins that came later than the state is kept complete for."),
		clamped:            counter("signins_clamped_total", "Sign-ins dated in the future, judged at their arrival."),
		unreadable:         counter("signins_unreadable_total", "Records of the sign-ins topic that cannot be read; they are in the dead-letter topic."),
		splitAgain:         counter("signins_split_again_total", "Copies of sign-ins that were split again after a crash, or by a splitter that owns nothing any more; left out."),
		transactions:       counters("transactions_total", "Transactions, by how they ended.", "result"),
		transactionSeconds: histogram("transaction_seconds", "Time that committing a transaction took.", seconds),
		rebalances:         counter("detect_rebalances_total", "Group generations that a member has seen."),
		fetchErrors:        counter("detect_fetch_errors_total", "Polls that brought an error."),
		commitErrors:       counter("detect_commit_errors_total", "Commits of offsets that failed, where delivery is at least once; a later one makes up for them."),
		mended:             counter("baseline_mended_total", "Profiles that an instance which had lost their partition had overwritten in the baseline topic, and that were written again."),
		restoreSeconds:     histogram("restore_seconds", "Time from a partition's assignment until it was restored.", seconds),
		restoreRecords:     counter("restore_records_total", "Records that restores have read from the baseline topic."),
		restoreDone:        gauges("restore_records_done", "Offsets that the restore of a partition has passed; only while it is restored."),
		restoreRemaining:   gauges("restore_records_remaining", "Offsets that are before the restore of a partition; only while it is restored."),
		ageSeconds:         histogram("signin_age_seconds", "Age of a sign-in's raw record when its verdict was committed.", seconds),
		alertSeconds:       histogram("alert_age_seconds", "Age of the raw record of an alerting sign-in when its alert was committed.", seconds),
		lagRecords:         gauges("detect_lag_records", "Sign-ins of a partition that are not judged yet, when it was last read."),
		lagSeen:            gauges("detect_lag_timestamp_seconds", "When the lag of a partition was last learned."),
		aborts:             counters("transaction_aborts_total", "Transactions that were not committed, or of which nobody knows, by cause.", "cause"),
		rebalanceSeconds:   histogram("detect_rebalance_seconds", "Time from asking to join, or from the loss of partitions, until the next assignment.", seconds),
		azureSeconds: histogram("azure_delay_seconds", "Time from a sign-in, as its record dates it (createdDateTime), until it was in the raw topic: Azure's delay, not ours.",
			[]float64{1, 5, 15, 30, 60, 120, 180, 300, 600, 900, 1800, 3600, 2 * 3600, 6 * 3600, 12 * 3600, 24 * 3600}),
		deadLetters: kafka.DeadLetters(registry, "detect"),
		retention: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "prtwatch_signins_retention_seconds", Help: "How long the sign-ins topic keeps a sign-in, as it was at the start; +Inf is for ever.",
		}, nil),
		partitions: prometheus.NewDesc("prtwatch_detect_partitions", "Partitions of this instance, by what is done with them.", []string{"state"}, nil),
		all:        prometheus.NewDesc("prtwatch_signins_partitions", "Partitions of the sign-ins topic (topics.partitions): where all are judged, so many run, over all instances.", nil, nil),
		lagAge:     prometheus.NewDesc("prtwatch_detect_lag_age_seconds", "Age of the oldest lag figure of the partitions that are judged here; absent where none is.", nil, nil),
	}
	m.learned.at = make(map[int32]time.Time)
	for outcome := range detector.Alerted + 1 {
		m.signIns.WithLabelValues(outcome.String())
	}
	for _, reason := range []detector.Reason{detector.NewNetwork, detector.NoBaseline} {
		m.alerts.WithLabelValues(string(reason))
	}
	for _, result := range []string{"committed", "aborted", "unknown"} {
		m.transactions.WithLabelValues(result)
	}
	for _, cause := range causes {
		m.aborts.WithLabelValues(cause)
	}
	registry.MustRegister(m.signIns, m.alerts, m.late, m.clamped, m.unreadable, m.splitAgain, m.transactions, m.transactionSeconds,
		m.rebalances, m.fetchErrors, m.commitErrors, m.mended, m.restoreSeconds,
		m.restoreRecords, m.restoreDone, m.restoreRemaining, m.ageSeconds, m.alertSeconds, m.lagRecords, m.lagSeen,
		m.aborts, m.rebalanceSeconds, m.azureSeconds, m.retention, m)
	return m
}

func (m *Metrics) watch(s *Stage) { m.stage.Store(s) }

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.partitions
	ch <- m.all
	ch <- m.lagAge
}

// Collect implements prometheus.Collector with what is read off the Stage's state.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	var phases [len(phaseNames)]int
	if s := m.stage.Load(); s != nil {
		phases = s.phases()
		ch <- prometheus.MustNewConstMetric(m.all, prometheus.GaugeValue, float64(s.deps.Topics.Partitions))
	}
	for phase, n := range phases {
		ch <- prometheus.MustNewConstMetric(m.partitions, prometheus.GaugeValue, float64(n), phaseNames[phase])
	}
	if age, ok := m.oldestLag(time.Now()); ok {
		ch <- prometheus.MustNewConstMetric(m.lagAge, prometheus.GaugeValue, age.Seconds())
	}
}

// kept notes how long the sign-ins topic keeps a sign-in: negative is for ever, 0 is not known.
func (m *Metrics) kept(retention time.Duration) {
	switch {
	case retention < 0:
		m.retention.WithLabelValues().Set(math.Inf(1))
	case retention > 0:
		m.retention.WithLabelValues().Set(retention.Seconds())
	}
}

// failed counts a transaction that was not committed, or of which nobody knows.
func (m *Metrics) failed(result, cause string) {
	m.transactions.WithLabelValues(result).Inc()
	m.aborts.WithLabelValues(cause).Inc()
}

// expect begins to wait for the lag of a partition, which is judged from now on.
func (m *Metrics) expect(partition int32) { m.learn(partition, time.Now()) }

func (m *Metrics) learn(partition int32, at time.Time) {
	m.learned.Lock()
	defer m.learned.Unlock()
	m.learned.at[partition] = at
}

// oldestLag returns how long ago the lag was learned of the partition of which that is longest ago, and false where
// none is judged here.
func (m *Metrics) oldestLag(now time.Time) (age time.Duration, ok bool) {
	m.learned.Lock()
	defer m.learned.Unlock()
	for _, at := range m.learned.at {
		age = max(age, now.Sub(at))
	}
	return age, len(m.learned.at) > 0
}

// lag notes how far a partition is behind.
func (m *Metrics) lag(partition int32, p kgo.FetchPartition) {
	if len(p.Records) == 0 {
		return
	}
	label, now := strconv.Itoa(int(partition)), time.Now()
	m.lagRecords.WithLabelValues(label).Set(float64(p.HighWatermark - p.Records[len(p.Records)-1].Offset - 1))
	m.lagSeen.WithLabelValues(label).Set(float64(now.UnixNano()) / 1e9)
	m.learn(partition, now)
}

// restoring notes how far the restore of a partition is.
func (m *Metrics) restoring(partition int32, p progress) {
	label := strconv.Itoa(int(partition))
	m.restoreDone.WithLabelValues(label).Set(float64(p.done()))
	m.restoreRemaining.WithLabelValues(label).Set(float64(p.remaining()))
}

// restored takes the progress of a restore away that has come to an end, be it a good one.
func (m *Metrics) restored(partition int32) {
	label := strconv.Itoa(int(partition))
	m.restoreDone.DeleteLabelValues(label)
	m.restoreRemaining.DeleteLabelValues(label)
}

// forget takes the figures of a partition away: they are another instance's now.
func (m *Metrics) forget(partition int32) {
	label := strconv.Itoa(int(partition))
	m.lagRecords.DeleteLabelValues(label)
	m.lagSeen.DeleteLabelValues(label)
	m.learned.Lock()
	defer m.learned.Unlock()
	delete(m.learned.at, partition)
}

// tally counts one transaction's sign-ins until it is known whether they count.
type tally struct {
	outcomes      [detector.Alerted + 1]int
	reasons       map[detector.Reason]int
	late, clamped int
	unreadable    int
	splitAgain    int
	arrived       []time.Time     // of each sign-in
	alerted       []time.Time     // of each alerting one
	azure         []time.Duration // from its own time to its arrival, of each sign-in of which that is known
}

func (t *tally) count(s *detector.SignIn, v detector.Verdict, r *kgo.Record) {
	t.outcomes[v.Outcome]++
	if v.Late {
		t.late++
	}
	if v.Clamped {
		t.clamped++
	}
	at := s.Arrived
	if at.IsZero() {
		at = r.Timestamp
	} else {
		own := s.Created
		if own.IsZero() {
			own = s.Generated
		}
		t.azure = append(t.azure, max(0, at.Sub(own)))
	}
	t.arrived = append(t.arrived, at)
	if v.Alert != nil {
		if t.reasons == nil {
			t.reasons = make(map[detector.Reason]int)
		}
		t.reasons[v.Alert.Reason]++
		t.alerted = append(t.alerted, at)
	}
}

// add counts what a committed transaction has judged.
func (m *Metrics) add(t *tally) {
	for outcome, n := range t.outcomes {
		if n > 0 {
			m.signIns.WithLabelValues(detector.Outcome(outcome).String()).Add(float64(n))
		}
	}
	for reason, n := range t.reasons {
		m.alerts.WithLabelValues(string(reason)).Add(float64(n))
	}
	m.late.Add(float64(t.late))
	m.clamped.Add(float64(t.clamped))
	m.unreadable.Add(float64(t.unreadable))
	m.splitAgain.Add(float64(t.splitAgain))
	now := time.Now()
	for _, at := range t.arrived {
		m.ageSeconds.Observe(now.Sub(at).Seconds())
	}
	for _, delay := range t.azure {
		m.azureSeconds.Observe(delay.Seconds())
	}
	for _, at := range t.alerted {
		m.alertSeconds.Observe(now.Sub(at).Seconds())
	}
}
