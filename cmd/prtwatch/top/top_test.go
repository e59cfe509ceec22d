package top

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/prtwatch/prtwatch/detector"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// exposed is /metrics of an instance that started at noon and has judged and alerted so much.
func exposed(judged, alerts int) string {
	return fmt.Sprintf(`
prtwatch_build_info{version="1.2.3",commit="abc",go_version="go1.26"} 1
process_start_time_seconds %d
prtwatch_signins_late_total 0
prtwatch_signins_judged_total{outcome="known_address"} %d
prtwatch_signins_judged_total{outcome="alerted"} %d
prtwatch_alerts_total{reason="new_network"} %d
prtwatch_split_active 1
prtwatch_split_lag_messages{topic="in",partition="0"} 3
prtwatch_split_lag_messages{topic="in",partition="1"} 4
prtwatch_split_lag_age_seconds 2.5
prtwatch_detect_lag_age_seconds 61
prtwatch_detect_lag_records{partition="0"} 12345
prtwatch_detect_partitions{state="assigned"} 0
prtwatch_detect_partitions{state="restoring"} 2
prtwatch_detect_partitions{state="restored"} 0
prtwatch_detect_partitions{state="running"} 14
prtwatch_restore_records_done{partition="4"} 25
prtwatch_restore_records_remaining{partition="4"} 75
prtwatch_dead_letters_total{stage="split"} 4
prtwatch_dead_letters_total{stage="detect"} 1
prtwatch_transaction_aborts_total{cause="rebalance"} 8
prtwatch_transaction_aborts_total{cause="broker"} 2
prtwatch_detect_fetch_errors_total 1
prtwatch_state_cache_hits_total %d
prtwatch_state_cache_misses_total 10
prtwatch_state_disk_bytes 1572864
# TYPE prtwatch_alert_age_seconds histogram
prtwatch_alert_age_seconds_bucket{le="0.1"} %d
prtwatch_alert_age_seconds_bucket{le="0.2"} %d
prtwatch_alert_age_seconds_bucket{le="+Inf"} %d
prtwatch_alert_age_seconds_sum 1
prtwatch_alert_age_seconds_count %d
`, noon.Unix(), judged-alerts, alerts, alerts, judged, alerts/2, alerts, alerts, alerts)
}

func parsed(t *testing.T, text string, at time.Time) *reading {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r := readingOf(families)
	r.at, r.ready = at, true
	return r
}

// shown is a row by the titles of its columns.
func shown(r row) map[string]string {
	cells := make(map[string]string)
	for i, name := range columns {
		cells[strings.TrimPrefix(name, "<")] = r.cells[i]
	}
	return cells
}

func wants(t *testing.T, r row, want map[string]string) {
	t.Helper()
	have := shown(r)
	for name, text := range want {
		if have[name] != text {
			t.Errorf("%s is %q, want %q", name, have[name], text)
		}
	}
}

func TestARowIsMadeOfTwoReadings(t *testing.T) {
	in := newInstance("http://prtwatch-0:9187")
	at := noon.Add(time.Hour)
	in.note(parsed(t, exposed(1000, 10), at), nil, at)
	wants(t, in.row(at), map[string]string{
		"INSTANCE": "prtwatch-0:9187", "READY": "yes", "UP": "1h00m", "SIGN-INS/S": "-", "ALERTS/MIN": "-", "AGE P50": "-", "P99": "-",
		"LAG SPLIT": "7", "LAG DETECT": "12,345", "LAG AGE": "1m01s", "DEAD": "5", "ERRORS": "3", "PARTITIONS": "14 running, 2 restoring",
		"RESTORE": "25% of 100", "CACHE": "-", "DISK": "1.5MiB", "VERSION": "1.2.3",
	})
	at = at.Add(2 * time.Second)
	in.note(parsed(t, exposed(1500, 20), at), nil, at)
	wants(t, in.row(at), map[string]string{"SIGN-INS/S": "250", "ALERTS/MIN": "300", "AGE P50": "100ms", "P99": "198ms", "CACHE": "100%"})
	at = at.Add(2 * time.Second)
	in.note(parsed(t, exposed(1510, 20), at), nil, at)
	wants(t, in.row(at), map[string]string{"SIGN-INS/S": "5.0", "ALERTS/MIN": "150", "AGE P50": "100ms"})
	at = at.Add(2 * time.Minute)
	in.note(parsed(t, exposed(1510, 20), at), nil, at)
	wants(t, in.row(at), map[string]string{"SIGN-INS/S": "0", "ALERTS/MIN": "0", "AGE P50": "-", "P99": "-"})
	if n := len(in.readings); n != 2 {
		t.Errorf("%d readings are kept, of which one is enough to compare with", n)
	}
}

func TestARestartBeginsAnew(t *testing.T) {
	in := newInstance("http://prtwatch-0:9187")
	at := noon.Add(time.Hour)
	in.note(parsed(t, exposed(1000, 10), at), nil, at)
	at = at.Add(2 * time.Second)
	in.note(parsed(t, exposed(10, 0), at), nil, at)
	wants(t, in.row(at), map[string]string{"SIGN-INS/S": "-", "ALERTS/MIN": "-"})
	at = at.Add(2 * time.Second)
	in.note(parsed(t, exposed(20, 0), at), nil, at)
	wants(t, in.row(at), map[string]string{"SIGN-INS/S": "5.0", "ALERTS/MIN": "0"})
}

func TestASilentInstanceKeepsItsFiguresMarked(t *testing.T) {
	in, never := newInstance("http://prtwatch-0:9187"), newInstance("http://prtwatch-1:9187")
	at := noon.Add(time.Hour)
	in.note(parsed(t, exposed(1000, 10), at), nil, at)
	at = at.Add(2 * time.Second)
	gone := at
	for range 3 {
		in.note(nil, errors.New("connection refused"), at)
		never.note(nil, errors.New("no such host"), at)
		at = at.Add(2 * time.Second)
	}
	r := in.row(at)
	wants(t, r, map[string]string{"READY": "silent", "LAG SPLIT": "7*", "SIGN-INS/S": "-", "VERSION": "1.2.3*"})
	if want := "prtwatch-0:9187 does not answer since " + gone.Format(time.TimeOnly) + ": connection refused; its figures are of 13:00:00"; r.note != want {
		t.Errorf("it is said that %s", r.note)
	}
	f := frame{now: at, every: time.Second, rows: []row{r, never.row(at)}}
	if sum := f.sum(); sum != "13:00:08  0 of 2 ready  - sign-ins/s  - alerts/min  lag - split, - detect" {
		t.Errorf("the sum counts what may not be so any more: %s", sum)
	}
}

// An instance that does not split, one that stands by, and a version with fewer figures.
func TestWhatIsAbsentIsADash(t *testing.T) {
	in := newInstance("http://prtwatch-0:9187")
	in.note(parsed(t, "prtwatch_build_info{version=\"1\"} 1\nprtwatch_split_active 0\nprtwatch_state_partitions_leased 3\nprtwatch_split_unreadable_total{reason=\"empty\"} 2\n", noon), nil, noon)
	wants(t, in.row(noon), map[string]string{"UP": "-", "LAG SPLIT": "standby", "LAG DETECT": "-", "LAG AGE": "-", "PARTITIONS": "3", "RESTORE": "-", "DISK": "-", "DEAD": "2", "ERRORS": "-"})
}

func TestQuantilesAreThoseOfPrometheus(t *testing.T) {
	buckets := []bucket{{1, 10}, {2, 30}, {4, 40}, {math.Inf(1), 50}}
	for _, test := range []struct{ q, want float64 }{{.2, 1}, {.1, .5}, {.5, 1.75}, {.7, 3}} {
		if got := quantileOf(test.q, buckets); math.Abs(got.value-test.want) > 1e-9 || got.above {
			t.Errorf("%v: %+v, want %v", test.q, got, test.want)
		}
	}
	if got := quantileOf(.99, buckets).String(); got != ">4.0s" {
		t.Errorf("beyond the last bound: %s", got)
	}
	if got := quantileOf(.5, []bucket{{1, 0}, {math.Inf(1), 0}}).String(); got != "-" {
		t.Errorf("of nothing: %s", got)
	}
}

// hostile is an alert whose texts would take a terminal over.
func hostile() alert {
	bad := "\x1b]0;owned\x07\x1b[2J\u202e漢字\r\n\u009b31m" + strings.Repeat("é", 40)
	a := &detector.Alert{Severity: "high", Reason: detector.Reason(bad), User: detector.AlertUser{UPN: bad}, UserAgent: bad, Late: true}
	a.Source.IP, a.Source.Country, a.Resource.Name, a.App.Name = bad, bad, bad, bad
	return alertOf(a, noon)
}

func TestAFrameFitsAnyTerminalAndCarriesNoEscapes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	in, silent := newInstance("http://"+strings.Repeat("long", 20)+":9187"), newInstance("http://192.0.2.1:9187")
	in.note(parsed(t, strings.Replace(exposed(5, 1), "1.2.3", "\x1b[31m", 1), noon), nil, noon)
	in.latest().ready, in.latest().waiting = false, "restoring"
	silent.note(nil, errors.New("refused"), noon)
	for range 500 {
		width, height := 1+random.IntN(200), 1+random.IntN(60)
		f := frame{now: noon, every: time.Second, withAlerts: random.IntN(4) > 0}
		for range random.IntN(6) {
			f.rows = append(f.rows, in.row(noon), silent.row(noon))
		}
		for range random.IntN(30) {
			f.alerts = append(f.alerts, hostile())
		}
		if random.IntN(2) == 0 {
			f.noAlerts = "no answer"
		}
		lines := f.lines(width, height)
		if len(lines) != height {
			t.Fatalf("%d lines where there are %d", len(lines), height)
		}
		for _, l := range append(lines, f.lines(0, 0)...) {
			if strings.ContainsFunc(l.text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("a line has something that does not print: %q", l.text)
			}
		}
		for _, l := range lines {
			if w := textWidth(l.text); w > width {
				t.Fatalf("a line is %d wide where there is room for %d: %q", w, width, l.text)
			}
		}
	}
}

func TestWideTextIsCutToTheColumn(t *testing.T) {
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{{"漢字漢字", 5, "漢字…"}, {"漢字漢字", 4, "漢…"}, {"漢字漢字", 8, "漢字漢字"}, {"abcdef", 5, "abcd…"}, {"abcdef", 0, "abcdef"}} {
		if got := cut(test.text, test.width); got != test.want {
			t.Errorf("%s in %d columns is %s, want %s", test.text, test.width, got, test.want)
		}
	}
}

func TestWhereAnInstanceAnswers(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:9187": "http://127.0.0.1:9187", ":9187": "http://127.0.0.1:9187", "[::]:9187": "http://127.0.0.1:9187", "0.0.0.0:9187": "http://127.0.0.1:9187",
		"https://x.example.com/prtwatch/metrics": "https://x.example.com/prtwatch", "http://[2001:db8::1]:9187/": "http://[2001:db8::1]:9187",
	} {
		if got, err := ParseURL(text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "ftp://x", "127.0.0.1:0", "http://", "::::"} {
		if got, err := ParseURL(text); err == nil {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func TestAnAnswerThatIsNotAnInstancesIsSaid(t *testing.T) {
	metrics, ready := exposed(1, 0), "not ready\ndetect: restoring\nsplit: joining\n"
	code := http.StatusServiceUnavailable
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			_, _ = w.Write([]byte(metrics))
			return
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(ready))
	}))
	defer server.Close()
	r, err := read(t.Context(), server.URL)
	if err != nil || r.ready || r.waiting != "detect: restoring; split: joining" || r.judged != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	for text, want := range map[string]string{"go_goroutines 3\n": "/metrics is not prtwatch's", "<html>": "/metrics is none: "} {
		metrics = text
		if _, err := read(t.Context(), server.URL); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := read(t.Context(), server.URL+"/elsewhere"); err == nil || err.Error() != "/metrics answers 503" {
		t.Error(err)
	}
	server.Close()
	if _, err := read(t.Context(), server.URL); err == nil || err.Error() != "connection refused" {
		t.Error(err)
	}
}
