package pipeline

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func TestABadAllowlistKeepsTheOldOneAndSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "allow.txt")
	if err := os.WriteFile(path, []byte("192.0.2.0/24\n"), 0o600); err != nil {
		t.Fatal(err)
	}
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

// valueOf is the value of a gauge or counter.
func valueOf(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetGauge().GetValue() + out.GetCounter().GetValue()
}
