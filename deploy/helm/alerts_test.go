package helm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// patience is how long anything may take here: the machine may be busy.
const patience = 90 * time.Second

// TestAStrangerGetsAlertsFromTheManifests does what README.md says, with the rendered manifests and the real binary: the Job makes the topics,
// two pods start, sign-ins come, alerts are there; a pod that is scaled away has left its group when it is gone, and the
// other has its partitions; an allowlist that changes is in force without a restart. The embedded broker wants a password.
func TestAStrangerGetsAlertsFromTheManifests(t *testing.T) {
	if _, err := helm(t, "version"); err != nil {
		t.Fatal(err)
	}
	t.Run("kfake", func(t *testing.T) {
		login := kgo.SASL(plain.Auth{User: "prtwatch", Pass: "a secret"}.AsMechanism())
		b := brokertest.Fake(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "prtwatch", "a secret"))
		strangerGetsAlerts(t, b, "sasl: {mechanism: PLAIN, user: prtwatch}", login)
	})
	b := brokertest.Start(t)
	if !b.Real() {
		return
	}
	t.Run("kafka", func(t *testing.T) { strangerGetsAlerts(t, b, "sasl: {}") })
}

func strangerGetsAlerts(t *testing.T, b *brokertest.Broker, sasl string, login ...kgo.Opt) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	group, topic := b.Name("detect"), b.Name("alerts")
	common := values(t, fmt.Sprintf(`
config:
  kafka: {brokers: [%q], %s}
  input: {topics: [%q]}
  topics: {signins: %q, baseline: %q, alerts: %q, dead_letter: %q, partitions: 8, replication: 1}
  split: {group: %q}
  detect: {group: %q}
secrets: {kafka: {password: {existingSecret: %q}}}
allowlist: {files: {offices.txt: "192.0.2.0/24"}}
topicsJob: {enabled: true, input: true}
`, b.Addrs()[0], sasl, b.Name("raw"), b.Name("signins"), b.Name("baseline"), topic, b.Name("dead"), b.Name("split"), group, secretFor(login)))
	client := b.Client(append(login, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	admin := kadm.NewClient(b.Client(login...))

	// Both are on this machine, so that each is rendered with a port of its own.
	var pods []*pod
	for i := range 2 {
		all := render(t, common, values(t, fmt.Sprintf("metrics: {port: %d}", freePort(t))))
		have := objectsOf(all)
		have.secrets["kafka-login"] = map[string]string{"password": "a secret\n"}
		if i == 0 {
			job := newPod(t, "prtwatch-topics", podOf(t, all, "Job"), have)
			if out, err := job.run(); err != nil || !strings.Contains(out, "created "+topic) {
				t.Fatalf("the Job: %v: %s", err, out)
			}
			generate(t, job, "--users", "40", "--days", "16", "--seed", "7")
			test := newPod(t, "prtwatch-test", podOf(t, all, "Pod"), have)
			if out, err := test.run(); err != nil {
				t.Errorf("helm test: %v: %s", err, out)
			}
		}
		pods = append(pods, newPod(t, fmt.Sprintf("prtwatch-%d", i), podOf(t, all, "StatefulSet"), have))
	}
	for _, p := range pods {
		p.start()
	}
	for _, p := range pods {
		c := p.spec.Containers[0]
		p.become("started", c.StartupProbe, c.StartupProbe.FailureThreshold)
		p.become("live", c.LivenessProbe, 1)
		p.become("ready", c.ReadinessProbe, int(patience.Seconds())/c.ReadinessProbe.PeriodSeconds)
	}
	alert(ctx, t, client)

	before := members(ctx, t, admin, group)
	if len(before[pods[0].name]) == 0 || len(before[pods[1].name]) == 0 {
		t.Errorf("the group knows the pods not by their names, or one has no partition: %v", before)
	}
	took := pods[1].stop()
	t.Logf("%s ended within %s", pods[1].name, took)
	after := members(ctx, t, admin, group) // at once: nobody waits for a session to end
	if len(after[pods[1].name]) > 0 {
		t.Errorf("%s is gone, and its group does not know: %v", pods[1].name, after)
	}
	for deadline := time.Now().Add(patience); len(after[pods[0].name]) < 8; after = members(ctx, t, admin, group) {
		if time.Now().After(deadline) {
			t.Fatalf("%s has not all partitions: %v", pods[0].name, after)
		}
	}
	ready := pods[0].spec.Containers[0].ReadinessProbe
	pods[0].become("ready alone", ready, int(patience.Seconds())/ready.PeriodSeconds)
	generate(t, pods[0], "--users", "40", "--days", "1", "--seed", "8")
	alert(ctx, t, client)

	pods[0].write("/etc/prtwatch/allowlist", map[string]string{"offices.txt": "192.0.2.0/24\n198.51.100.0/24\n"}, 0o644)
	await(t, "the new allowlist", func() bool {
		return strings.Join(pods[0].metrics("prtwatch_allowlist_ranges "), "") == "prtwatch_allowlist_ranges 2"
	})
	pods[0].stop()
}

func secretFor(login []kgo.Opt) string {
	if login == nil {
		return ""
	}
	return "kafka-login"
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// generate writes a made tenant's sign-ins into the input topic, with the configuration of a pod.
func generate(t *testing.T, p *pod, args ...string) {
	t.Helper()
	if out, err := p.run(append([]string{"gen", "--config=/etc/prtwatch/config/prtwatch.yaml"}, args...)...); err != nil {
		t.Fatalf("gen: %v: %s", err, out)
	}
}

// alert waits for one that was not read before, and drops all that came with it.
func alert(ctx context.Context, t *testing.T, client *kgo.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for ctx.Err() == nil {
		for record := range client.PollFetches(ctx).RecordsAll() {
			var alert struct{ Schema, Reason string }
			if err := json.Unmarshal(record.Value, &alert); err != nil || alert.Schema != "prtwatch.alert/1" {
				t.Fatalf("%s is no alert: %v", record.Value, err)
			}
			return
		}
	}
	t.Fatal("no alert came")
}

// members returns the partitions of each pod in the group, by its name.
func members(ctx context.Context, t *testing.T, admin *kadm.Client, group string) map[string][]int32 {
	t.Helper()
	described, err := admin.DescribeGroups(ctx, group)
	if err == nil {
		err = described.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	partitions := map[string][]int32{}
	for _, m := range described[group].Members {
		if m.InstanceID == nil {
			t.Errorf("member %s has no name of its own", m.MemberID)
			continue
		}
		name := *m.InstanceID // POD-MEMBER
		name = name[:strings.LastIndex(name, "-")]
		assigned, ok := m.Assigned.AsConsumer()
		if !ok {
			continue
		}
		for _, topic := range assigned.Topics {
			partitions[name] = append(partitions[name], topic.Partitions...)
		}
	}
	return partitions
}

// await asks until it is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}
