package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// A name that is wrong in a rule or on the dashboard shows nothing, and says nothing. Some metrics are there
// only while a partition is restored, or once a connection has failed: so both are brought about.
func TestEachMetricThatIsWatchedIsOneThatAnInstanceShows(t *testing.T) {
	t.Parallel()
	wanted := watched(t)
	in := newInstallation(t, brokertest.Fake(t))
	in.fill(5, 16)
	i := in.start(t.TempDir())
	in.done()
	i.stop()
	profile := in.b.ReadAll(in.b.Name("baseline"))[0]
	p := newProxy(t, in.b)
	held := p.holdFetches(profile.Topic, profile.Partition, 0)
	i = in.start(t.TempDir(), "--set", "kafka.brokers="+p.addr(), "--set", "input.brokers="+in.b.Addrs()[0])
	url := "http://" + i.address() + "/metrics"
	shown := map[string]bool{}
	show := func() {
		_, text := get(t, url)
		for line := range strings.Lines(text) {
			if end := strings.IndexAny(line, " {"); end > 0 {
				shown[line[:end]] = true
				shown[strings.TrimSuffix(line[:end], "_count")] = true // a histogram, as runbooks name it
			}
		}
	}
	waitFor(t, "a restore to be shown", func() bool { show(); return shown["prtwatch_restore_records_remaining"] })
	held.end()
	waitFor(t, "the lag of the input to be shown", func() bool { show(); return shown["prtwatch_split_lag_messages"] })
	waitFor(t, "the lag of the sign-ins to be shown", func() bool { show(); return shown["prtwatch_detect_lag_records"] })
	p.close()
	waitFor(t, "a failed connection to be shown", func() bool { show(); return shown["prtwatch_kafka_connect_errors_total"] })
	i.kill()
	for name, where := range wanted {
		if !shown[name] {
			t.Errorf("%s asks for %s, which no instance has", where, name)
		}
	}
}

// watched are the metrics that rules, dashboard and runbooks ask for, and where.
func watched(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, file := range append(files, "../../deploy/prometheus/prtwatch.rules.yml", "../../deploy/grafana/dashboards/prtwatch.json") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`(?:job:)?\bprtwatch_\w+`).FindAllString(string(text), -1) {
			names[name] = file
		}
	}
	maps.DeleteFunc(names, func(name, _ string) bool { return strings.HasPrefix(name, "job:") }) // recorded by the rules
	if len(names) < 50 {
		t.Fatalf("only %d metrics", len(names))
	}
	return names
}
