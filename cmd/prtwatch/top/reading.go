package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/prtwatch/prtwatch/detector"
)

// ParseURL returns the URL below which an instance answers: of host:port as http.listen has it, or of a URL, with or without
// /metrics. A host that stands for every interface is taken for this machine.
func ParseURL(text string) (string, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" && u.Hostname() == "" {
		return "", errors.New("give host:port or a URL, such as http://127.0.0.1:9187")
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "" || ip != nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	}
	if u.Port() == "0" {
		return "", errors.New("port 0 is one that only the instance knows; give the port that its log names")
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/metrics")
	u.RawQuery, u.Fragment = "", ""
	return u.String(), nil
}

// reading is what an instance said of itself. A figure that it does not have is NaN.
type reading struct {
	at      time.Time
	started time.Time
	version string
	ready   bool
	waiting string // for what, where it is not ready

	judged, alerts       float64
	ages                 []bucket // of alerts
	splits               float64  // 1 where it reads the input, 0 where it stands by
	splitLag, lag        float64
	lagAge               float64
	partitions           map[string]float64 // by state
	leased               float64
	restored, toRestore  float64
	hits, misses         float64
	disk, letters, wrong float64
}

// bucket is how many observations were not above a bound.
type bucket struct{ bound, count float64 }

// maxAnswer bounds what is taken of an answer. With 200 partitions of input, and 32 of sign-ins, /metrics has some 100 KB.
const maxAnswer = 16 << 20

// read asks the instance at base.
func read(ctx context.Context, base string) (*reading, error) {
	code, body, err := get(ctx, base+"/metrics")
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("/metrics answers %d", code)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("/metrics is none: %w", err)
	}
	if families["prtwatch_build_info"] == nil {
		return nil, errors.New("/metrics is not prtwatch's")
	}
	r := readingOf(families)
	r.at = time.Now()
	if code, body, err = get(ctx, base+"/readyz"); err != nil {
		return nil, err
	}
	if r.ready = code == http.StatusOK; !r.ready {
		lines := strings.Split(strings.TrimSpace(body), "\n")
		r.waiting = detector.Printable(strings.Join(lines[min(1, len(lines)):], "; "))
	}
	return r, nil
}

func get(ctx context.Context, url string) (code int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", reasonOf(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, string(text), reasonOf(err)
}

// reasonOf takes the URL and the addresses off an error: the row has them.
func reasonOf(err error) error {
	var network *net.OpError
	var system *os.SyscallError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s", askWithin)
	case errors.As(err, &system):
		return system.Err
	case errors.As(err, &network):
		return network.Err
	}
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// readingOf finds the figures in /metrics.
func readingOf(families map[string]*dto.MetricFamily) *reading {
	m := metrics(families)
	r := &reading{
		wrong:  math.NaN(),
		judged: m.sum("signins_judged_total"), alerts: m.sum("alerts_total"), ages: m.buckets("alert_age_seconds"),
		splits: m.sum("split_active"), splitLag: m.sum("split_lag_messages"), lag: m.sum("detect_lag_records"),
		lagAge: greatest(m.sum("split_lag_age_seconds"), m.sum("detect_lag_age_seconds")),
		leased: m.sum("state_partitions_leased"), restored: m.sum("restore_records_done"), toRestore: m.sum("restore_records_remaining"),
		hits: m.sum("state_cache_hits_total"), misses: m.sum("state_cache_misses_total"), disk: m.sum("state_disk_bytes"),
		letters: m.sum("dead_letters_total"), partitions: m.by("detect_partitions", "state"),
	}
	if m["prtwatch_signins_late_total"] != nil { // it detects, and counts nothing before the first
		r.judged, r.alerts = plus(0, r.judged), plus(0, r.alerts)
	}
	if math.IsNaN(r.letters) { // of an earlier version
		r.letters = plus(m.sum("split_unreadable_total"), m.sum("signins_unreadable_total"))
	}
	for _, name := range []string{"detect_fetch_errors_total", "detect_commit_errors_total", "split_commit_errors_total"} {
		r.wrong = plus(r.wrong, m.sum(name))
	}
	// A rebalance and a stop abort transactions in good order.
	for cause, n := range m.by("transaction_aborts_total", "cause") {
		if cause != "rebalance" && cause != "stop" {
			r.wrong = plus(r.wrong, n)
		}
	}
	if failed, ok := m.by("allowlist_reloads_total", "result")["kept_old"]; ok {
		r.wrong = plus(r.wrong, failed)
	}
	if family := families["process_start_time_seconds"]; family != nil {
		seconds := valueOf(family.GetMetric()[0])
		r.started = time.UnixMilli(int64(seconds * 1000))
	}
	for version := range m.by("build_info", "version") {
		r.version = detector.Printable(version)
	}
	return r
}

// metrics are those of an instance, by name.
type metrics map[string]*dto.MetricFamily

func (m metrics) of(name string) []*dto.Metric { return m["prtwatch_"+name].GetMetric() }

// sum is a metric over all its labels, NaN where it is absent.
func (m metrics) sum(name string) float64 {
	all := math.NaN()
	for _, one := range m.of(name) {
		all = plus(all, valueOf(one))
	}
	return all
}

// by is a metric by the values of a label.
func (m metrics) by(name, label string) map[string]float64 {
	by := make(map[string]float64)
	for _, one := range m.of(name) {
		for _, l := range one.GetLabel() {
			if l.GetName() == label {
				by[l.GetValue()] += valueOf(one)
			}
		}
	}
	return by
}

// buckets are those of a histogram over all its labels.
func (m metrics) buckets(name string) (all []bucket) {
	for _, one := range m.of(name) {
		for i, b := range one.GetHistogram().GetBucket() {
			if i == len(all) {
				all = append(all, bucket{bound: b.GetUpperBound()})
			}
			all[i].count += float64(b.GetCumulativeCount())
		}
	}
	return all
}

func valueOf(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Untyped != nil:
		return m.Untyped.GetValue()
	}
	return 0
}

// plus adds what is there.
func plus(a, b float64) float64 {
	switch {
	case math.IsNaN(a):
		return b
	case math.IsNaN(b):
		return a
	}
	return a + b
}

func greatest(a, b float64) float64 {
	switch {
	case math.IsNaN(a):
		return b
	case math.IsNaN(b):
		return a
	}
	return max(a, b)
}
