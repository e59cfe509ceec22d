package main

import (
	"bytes"
	"errors"
	"maps"
	"math"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/tenant"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// metricsPage documents each metric as an instance exposes it.
const metricsPage = "../../docs/metrics.md"

// families are metrics by their names.
type families map[string]*dto.MetricFamily

func parseFamilies(t *testing.T, what, text string) families {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	parsed, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("reading %s: %v", what, err)
	}
	return parsed
}

// labels are the names that metrics of a family have, sorted.
func labels(f *dto.MetricFamily) []string {
	names := make(map[string]bool)
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			names[l.GetName()] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// sample is a family as the page may show it: of a histogram some buckets, of many series some.
func sample(f *dto.MetricFamily) string {
	const few = 3
	short := &dto.MetricFamily{Name: f.Name, Help: f.Help, Type: f.Type, Metric: f.GetMetric()[:min(few, len(f.GetMetric()))]}
	if f.GetType() == dto.MetricType_HISTOGRAM {
		short.Metric = f.GetMetric()[:1]
	}
	var text bytes.Buffer
	if _, err := expfmt.MetricFamilyToText(&text, short); err != nil {
		return err.Error()
	}
	var lines []string
	buckets := 0
	for line := range strings.Lines(text.String()) {
		if strings.Contains(line, "_bucket{") && !strings.Contains(line, `le="+Inf"`) {
			if buckets++; buckets > few {
				continue
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

// onlyWhen are the metrics that are exposed once something has gone wrong on a connection. They are asked for of the
// client's hook itself.
func onlyWhen(t *testing.T) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	hook := kafka.Metrics(registry, "kafka")
	client, err := kgo.NewClient(kgo.WithHooks(hook))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	broker, wrong := kgo.BrokerMetadata{NodeID: 1}, errors.New("wrong")
	hook.(kgo.HookBrokerConnect).OnBrokerConnect(broker, 0, nil, wrong)
	hook.(kgo.HookBrokerDisconnect).OnBrokerDisconnect(broker, &net.TCPConn{})
	hook.(kgo.HookBrokerE2E).OnBrokerE2E(broker, 0, kgo.BrokerE2E{WriteErr: wrong})
	hook.(kgo.HookBrokerE2E).OnBrokerE2E(broker, 0, kgo.BrokerE2E{ReadErr: wrong})
	gathered, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, f := range gathered {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

// exposed is what an instance shows amid a restore of what another has learned, and after it has gone on from there.
func exposed(t *testing.T, in *installation) (amid, after string) {
	t.Helper()
	in.people(tenant.Options{Users: 5, Days: 16, Thefts: 40})
	in.pour(3000)
	in.inputBroker.Produce(&kgo.Record{Topic: in.input, Timestamp: in.newest, Value: []byte("no export")})
	allowed := file(t, "offices.txt", "192.0.2.0/24\n")
	i := in.start(t.TempDir(), "--set", "detection.allowlist="+allowed)
	in.done()
	i.stop()

	profile := in.b.ReadAll(in.b.Name("baseline"))[0]
	p := newProxy(t, in.b)
	held := p.holdFetches(profile.Topic, profile.Partition, 0)
	i = in.start(t.TempDir(), "--set", "detection.allowlist="+allowed, "--set", "kafka.brokers="+p.addr(), "--set", "input.brokers="+in.b.Addrs()[0])
	waitFor(t, "a restore to show how far it is", func() bool { return i.metric("prtwatch_restore_records_remaining") > 0 })
	_, amid = get(t, "http://"+i.address()+"/metrics")
	held.end()
	waitFor(t, "it to be ready", func() bool { return i.metric("prtwatch_ready") == 1 })
	before := in.made
	in.pour(math.MaxInt)
	in.done()
	waitFor(t, "it to count what it has judged and to know its lag", func() bool {
		_, after = get(t, "http://"+i.address()+"/metrics")
		return i.metric("prtwatch_signins_judged_total") == float64(in.made-before) && strings.Contains(after, "prtwatch_split_lag_messages{")
	})
	_, after = get(t, "http://"+i.address()+"/metrics")
	i.stop()
	return amid, after
}

// documented is what the page shows: the text of its blocks of exposition format.
func documented(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, block := range regexp.MustCompile("(?ms)^```prometheus\n(.*?)^```$").FindAllSubmatch(page, -1) {
		text.Write(block[1])
	}
	return text.String()
}

// headings are the HELP and TYPE lines of a text.
func headings(text string) map[string]bool {
	lines := make(map[string]bool)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "# ") {
			lines[line] = true
		}
	}
	return lines
}

// What the page says is held against instances that run: name, help and type of each metric to the letter, and the
// names of its labels. The values are examples.
func TestThePageOfMetricsShowsWhatAnInstanceExposes(t *testing.T) {
	in := newInstallation(t, brokertest.Fake(t))
	amid, after := exposed(t, in)
	there := make(families)
	have := make(map[string]bool)
	for _, text := range []string{onlyWhen(t), amid, after} {
		for name, f := range parseFamilies(t, "what is exposed", text) {
			if there[name] == nil || len(labels(f)) >= len(labels(there[name])) {
				there[name] = f
			}
		}
		maps.Copy(have, headings(text))
	}
	text := documented(t)
	shown := parseFamilies(t, metricsPage, text)
	for _, name := range slices.Sorted(maps.Keys(there)) {
		switch {
		case shown[name] == nil && strings.HasPrefix(name, "prtwatch_"):
			t.Errorf("%s does not show:\n%s", metricsPage, sample(there[name]))
		case shown[name] != nil && !slices.Equal(labels(shown[name]), labels(there[name])):
			t.Errorf("%s: %s has labels %q, not %q:\n%s", metricsPage, name, labels(there[name]), labels(shown[name]), sample(there[name]))
		}
	}
	for name := range shown {
		if there[name] == nil {
			t.Errorf("%s shows %s, which no instance exposes", metricsPage, name)
		}
	}
	for line := range headings(text) {
		if name := strings.Fields(line)[2]; !have[line] && there[name] != nil {
			t.Errorf("%s says\n%sand an instance exposes\n%s", metricsPage, line, sample(there[name]))
		}
	}
	for _, name := range []string{"go_", "process_"} { // of which it need not show all
		if !slices.ContainsFunc(slices.Collect(maps.Keys(shown)), func(n string) bool { return strings.HasPrefix(n, name) }) {
			t.Errorf("%s shows no %s*", metricsPage, name)
		}
	}
	for what, text := range map[string]string{"amid a restore": amid, "after it": after} {
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", what, p.Metric, p.Text)
		}
	}
	wantNobody(t, in, amid, after)
}

// wantNobody checks that no label tells of a user, a device, a sign-in, an address or a network that went through.
func wantNobody(t *testing.T, in *installation, texts ...string) {
	t.Helper()
	secret := make(map[string]bool)
	var s detector.SignIn
	for _, r := range in.b.ReadAll(in.signs) {
		if _, control := signins.ControlOf(r.Headers); control {
			continue
		}
		if err := signins.Decode(r.Value, &s); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{s.UPN, s.UserID, s.IP, s.ASN, s.ID, s.DeviceID, s.DeviceName, s.TenantID, s.SessionID, s.CorrelationID, string(r.Key)} {
			if text != "" {
				secret[strings.ToLower(strings.Clone(text))] = true
			}
		}
	}
	if len(secret) < 1000 {
		t.Errorf("only %d things are to be kept from labels", len(secret))
	}
	for _, text := range texts {
		for name, f := range parseFamilies(t, "what is exposed", text) {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					value := strings.ToLower(l.GetValue())
					for of := range secret {
						if value == of || len(of) > 6 && strings.Contains(value, of) {
							t.Errorf("%s has %s=%q, in which %q is: of a sign-in", name, l.GetName(), l.GetValue(), of)
						}
					}
				}
			}
		}
	}
}
