package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

func TestTopShowsInstancesAndTheLastAlerts(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		one := in.start(t.TempDir())
		one.says("splitting")
		two := in.start(t.TempDir())
		in.settled(2)
		b.Produce(&kgo.Record{Topic: in.input, Value: []byte(intune("1", "ada@example.com", 0))})
		running := func(i *instance) float64 { return i.metric(`prtwatch_detect_partitions{state="running"}`) }
		waitFor(t, "all to be restored", func() bool { return running(one)+running(two) == 6 })
		waitFor(t, "the alert", func() bool { return one.metric("prtwatch_alerts_total")+two.metric("prtwatch_alerts_total") == 1 })
		var looks []string
		if b.Guarded() {
			_, looks = in.account("looks", rightsOf(rights(t), "alerts")[:1]) // no group
		}
		top := func(args ...string) ended {
			return prtwatch("", slices.Concat([]string{"top", "--interval", "100ms"}, in.config, looks, args)...)
		}
		urls := []string{"--url", one.address(), "--url", "http://" + two.address() + "/metrics"}

		got := top(urls...)
		lines := strings.Split(got.stdout, "\n")
		if got.code != exitDone || got.stderr != "" || !strings.Contains(lines[0], "  2 of 2 ready  ") || strings.ContainsRune(got.stdout, '\x1b') {
			t.Errorf("%+v", got)
		}
		// The table, by its first column, and the alert by its user.
		rows := map[string][]string{}
		for _, line := range lines {
			if fields := strings.Fields(line); len(fields) > 1 {
				rows[fields[0]] = fields
				rows[fields[1]] = fields
			}
		}
		for _, i := range []*instance{one, two} {
			if row := rows[i.address()]; len(row) < 10 || row[1] != "yes" {
				t.Errorf("the row of %s is %q", i.address(), row)
			}
		}
		if row := strings.Join(rows["ada@example.com"], " "); !strings.Contains(row, "203.0.113.7 AS64500 Microsoft Intune no_baseline high") {
			t.Errorf("the alert is shown as %q", row)
		}

		address := two.address()
		two.stop()
		waitFor(t, "the other to have taken all over", func() bool { return running(one) == 6 })
		got = top(append(urls, "--no-alerts")...)
		if got.code != exitDone || !strings.Contains(got.stdout, "  1 of 2 ready  ") || !strings.Contains(got.stdout, address+" does not answer since ") || strings.Contains(got.stdout, "ALERT ") {
			t.Errorf("%+v", got)
		}
		one.stop()
		got = top(urls...)
		if got.code != exitFailed || got.stderr != "prtwatch: no instance answers\n" || !strings.Contains(got.stdout, "  0 of 2 ready  ") || !strings.Contains(got.stdout, "ada@example.com") {
			t.Errorf("%+v", got)
		}
	})
}

func TestTopSaysWhyThereAreNoAlerts(t *testing.T) {
	for _, test := range []struct{ set, want string }{
		{"kafka.brokers=127.0.0.1:1", "LAST ALERTS: kafka.brokers: 127.0.0.1:1: no answer within 1s: "},
		{"kafka.brokers=" + brokertest.Fake(t).Addrs()[0], "LAST ALERTS: topic prtwatch.alerts is not there\n"},
	} {
		got := prtwatch("", "top", "--interval", "100ms", "--url", "127.0.0.1:1", "--set", "start_timeout=1s", "--set", test.set)
		if got.code != exitFailed || !strings.Contains(got.stdout, test.want) {
			t.Errorf("%s: %+v", test.set, got)
		}
	}
}
