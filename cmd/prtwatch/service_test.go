package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

func TestHTTPSaysWhetherItIsReadyAndForWhatItWaits(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "prtwatch_made_for_a_test"}))
	waiting := []string{"partition 3 is restored to 17 of 90", "partition 5 is not begun"}
	s, err := serveHTTP("127.0.0.1:0", registry, func() (bool, []string) { return len(waiting) == 0, waiting }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + s.Addr()
	if code, body := get(t, url+"/readyz"); code != http.StatusServiceUnavailable || body != "not ready\n"+strings.Join(waiting, "\n")+"\n" {
		t.Errorf("%d %q", code, body)
	}
	waiting = nil
	if code, body := get(t, url+"/readyz"); code != http.StatusOK || body != "ready\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, _ := get(t, url+"/livez"); code != http.StatusOK {
		t.Error(code)
	}
	if code, body := get(t, url+"/metrics"); code != http.StatusOK || !strings.Contains(body, "prtwatch_made_for_a_test 0") {
		t.Errorf("%d %q", code, body)
	}
	if _, err := serveHTTP(s.Addr(), registry, nil, slog.New(slog.DiscardHandler)); err == nil ||
		!strings.HasPrefix(err.Error(), "http.listen: "+s.Addr()+" is in use by another process: ") {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// valueOf is the value of a gauge or counter.
func valueOf(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetGauge().GetValue() + out.GetCounter().GetValue()
}

func TestABadAllowlistKeepsTheOldOneAndSaysSo(t *testing.T) {
	path := file(t, "allow.txt", "192.0.2.0/24\n")
	var said bytes.Buffer
	a, err := openAllowlist([]string{path}, slog.New(slog.NewTextHandler(&said, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	inForce := func() string {
		return fmt.Sprint(a.Get().Contains(netip.MustParseAddr("192.0.2.1")), a.Get().Contains(netip.MustParseAddr("203.0.113.1")),
			valueOf(t, a.upToDate), valueOf(t, a.ranges), valueOf(t, a.reloads.WithLabelValues("loaded")), valueOf(t, a.reloads.WithLabelValues("kept_old")))
	}
	later := time.Now()
	change := func(text string) {
		later = later.Add(time.Second) // as clocks of file systems are coarse
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, later, later); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what, want string) {
		t.Helper()
		a.look()
		a.look() // the second time nothing has changed
		if got := inForce(); got != want {
			t.Errorf("%s: %s, not %s", what, got, want)
		}
	}
	expect("at the start", "true false 1 1 0 0")
	change("192.0.2.0/24\n203.0.113.0/24\n")
	expect("another range", "true true 1 2 1 0")
	change("192.0.2.0/24\n203.0.113.300\n")
	expect("a wrong line", "true true 0 2 1 1")
	if !strings.Contains(said.String(), path+":2: ") {
		t.Errorf("it does not name the line: %s", &said)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("no file", "true true 0 2 1 2")
	change("203.0.113.0/24\n")
	expect("right again", "false true 1 1 2 2")
}

func TestLogsAreTextForPeopleAndJSONOtherwise(t *testing.T) {
	var auto, text, json bytes.Buffer
	newLogger(settings.Log{Level: "info", Format: "auto"}, &auto).Info("x")
	newLogger(settings.Log{Level: "warn", Format: "text"}, &text).Warn("y")
	newLogger(settings.Log{Level: "warn", Format: "json"}, &json).Info("z")
	if !strings.HasPrefix(auto.String(), "{") || !strings.HasPrefix(text.String(), "time=") || json.Len() > 0 {
		t.Errorf("%s%s%s", &auto, &text, &json)
	}
}
