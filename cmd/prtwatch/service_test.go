package main

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

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

func TestLogsAreTextForPeopleAndJSONOtherwise(t *testing.T) {
	var auto, text, json bytes.Buffer
	newLogger(settings.Log{Level: "info", Format: "auto"}, &auto).Info("x")
	newLogger(settings.Log{Level: "warn", Format: "text"}, &text).Warn("y")
	newLogger(settings.Log{Level: "warn", Format: "json"}, &json).Info("z")
	if !strings.HasPrefix(auto.String(), "{") || !strings.HasPrefix(text.String(), "time=") || json.Len() > 0 {
		t.Errorf("%s%s%s", &auto, &text, &json)
	}
}
