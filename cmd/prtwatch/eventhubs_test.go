package main

import (
	"strings"
	"testing"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// fromEventHubs is an installation whose input is in an Event Hubs namespace.
func fromEventHubs(t *testing.T, b *brokertest.Broker) (*installation, *brokertest.Namespace) {
	t.Helper()
	n := brokertest.EventHubs(t)
	in := newInstallation(t, b)
	n.Inside.CreateTopic(in.input, inputPartitions, map[string]string{"retention.ms": "-1"})
	in.inputBroker = n.Inside
	for _, kv := range []string{
		"brokers=" + n.Addr(), "tls.enabled=true", "tls.ca_file=" + n.CAFile(),
		"sasl.mechanism=PLAIN", "sasl.user=" + brokertest.User, "sasl.password=" + n.ConnectionString(),
	} {
		in.config = append(in.config, "--set", "input."+kv)
	}
	return in, n
}

func TestEventHubsAsInputGivesTheQuerysRowsOnce(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in, n := fromEventHubs(t, b)
		in.fill(20, 16)
		dir := t.TempDir()
		n.Throttle(0)
		i := in.start(dir)
		waitFor(t, "fetches that bring nothing", func() bool { return n.Starved() > inputPartitions })
		n.Unthrottle()
		in.split(in.made / 3)
		i.stop()
		i = in.start(dir)
		in.done()
		i.stop()
		in.wantTheQuerysRows()
		if refused := n.Refused(); refused != nil || n.MostCommits() == 0 {
			t.Errorf("the namespace refused %v, and saw %d commits a second at the most", refused, n.MostCommits())
		}
		if strings.Contains(i.log.String(), n.ConnectionString()) {
			t.Error("the connection string is in the log")
		}
	})
}

func TestTopicsAreNeverMadeOnEventHubsUnasked(t *testing.T) {
	in, n := fromEventHubs(t, brokertest.Fake(t))
	for _, args := range [][]string{{"topics"}, {"topics", "--create"}} {
		if got := prtwatch("", append(args, in.config...)...); got.code != 0 {
			t.Errorf("%v: exit code %d: %s", args, got.code, got.stderr)
		}
	}
	if refused := n.Refused(); refused != nil {
		t.Errorf("the namespace refused %v", refused)
	}
	missing := append([]string{"topics", "--create", "--input"}, append(in.config, "--set", "input.topics=another")...)
	if got := prtwatch("", missing...); got.code == 0 || !strings.Contains(got.stderr, "Event Hubs: in the portal") {
		t.Errorf("making an input topic there: exit code %d: %s", got.code, got.stderr)
	}
}
