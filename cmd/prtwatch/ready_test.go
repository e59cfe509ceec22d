package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestReadyExitsAsRunSaysThatItIs(t *testing.T) {
	waiting := []string{"partition 3 is restored to 17 of 90", "partition 5 is not begun"}
	s, err := serveHTTP("127.0.0.1:0", prometheus.NewRegistry(), func() (bool, []string) { return len(waiting) == 0, waiting }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(s.Addr(), ":")
	for _, listen := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, ":" + port} {
		if got := prtwatch("", "ready", "--set", "http.listen="+listen); got.code != exitFailed ||
			got.stderr != "prtwatch: 503 Service Unavailable: not ready; "+strings.Join(waiting, "; ")+"\n" {
			t.Errorf("%s: %+v", listen, got)
		}
	}
	waiting = nil
	if got := prtwatch("", "ready", "--set", "http.listen=0.0.0.0:"+port); got.code != exitDone || got.stdout != "ready\n" || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := prtwatch("", "ready", "--set", "http.listen=127.0.0.1:"+port); got.code != exitFailed || !strings.Contains(got.stderr, "/readyz") {
		t.Errorf("nobody listens: %+v", got)
	}
}
