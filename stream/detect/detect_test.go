package detect_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/detect"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

const partitions = 4

// protocolEnv names the environment variable that holds the group protocol of every stage
// whose test does not choose one: classic, the default, or consumer.
const protocolEnv = "PRTWATCH_TEST_GROUP_PROTOCOL"

// classicOnly skips a test that speaks to the group as members of the classic protocol do.
func classicOnly(t *testing.T) {
	t.Helper()
	if p := os.Getenv(protocolEnv); p != "" && p != detect.Classic {
		t.Skipf("%s=%s", protocolEnv, p)
	}
}

// house is prtwatch's own topics on one broker, and the stages that a test runs on them.
type house struct {
	t      *testing.T
	b      *brokertest.Broker
	topics kafka.Topics
	group  string
	schema *jsonschema.Schema // of the alert
}

func newHouse(t *testing.T, b *brokertest.Broker) *house {
	h := &house{t: t, b: b, group: b.Name("detect"), topics: kafka.Topics{
		Signins: b.Name("signins"), Baseline: b.Name("baseline"), Alerts: b.Name("alerts"), DeadLetter: b.Name("dead-letter"),
		Partitions: partitions, Replication: 1,
	}}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(detector.AlertSchema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(detector.AlertSchemaID, document); err != nil {
		t.Fatal(err)
	}
	h.schema = compiler.MustCompile(detector.AlertSchemaID)
	b.CreateTopic(h.topics.Signins, partitions, nil)
	b.CreateTopic(h.topics.Baseline, partitions, map[string]string{"cleanup.policy": "compact"})
	b.CreateTopic(h.topics.Alerts, partitions, nil)
	b.CreateTopic(h.topics.DeadLetter, 1, nil)
	return h
}

// stage is a running detecting stage, as a process would run it.
type stage struct {
	*detect.Stage
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error
	store  *state.Store
	counts *prometheus.Registry
}

type stageOption func(*detect.Config, *detect.Deps)

// start runs a stage with its state in dir.
func (h *house) start(instance, dir string, opts ...stageOption) *stage {
	h.t.Helper()
	cfg := detect.DefaultConfig()
	cfg.Group, cfg.Members = h.group, 2
	cfg.SessionTimeout = 6 * time.Second
	cfg.GroupProtocol = cmp.Or(os.Getenv(protocolEnv), cfg.GroupProtocol)
	stateConfig := state.DefaultConfig()
	stateConfig.Dir = dir
	log := slog.New(slog.NewTextHandler(h.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("instance", instance)
	store, err := state.Open(stateConfig, detector.Window, log)
	if err != nil {
		h.t.Fatal(err)
	}
	judge, err := detector.New(detector.DefaultConfig())
	if err != nil {
		h.t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	deps := detect.Deps{
		Client: []kgo.Opt{kgo.SeedBrokers(h.b.Addrs()...)}, Topics: h.topics, Store: store, Detector: judge,
		Allowlist: func() *detector.Allowlist { return nil }, Instance: instance, Log: log,
		Metrics: detect.NewMetrics(registry),
	}
	for _, opt := range opts {
		opt(&cfg, &deps)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &stage{Stage: detect.New(cfg, deps), t: h.t, cancel: cancel, ended: make(chan error, 1), store: store, counts: registry}
	go func() {
		err := s.Run(ctx)
		log.Info("the stage ended", "error", err)
		s.ended <- err
	}()
	h.t.Cleanup(func() { s.stop() })
	return s
}

// stop ends the stage as a signal would, and returns what it said.
func (s *stage) stop() error {
	s.cancel()
	return s.wait()
}

func (s *stage) wait() error {
	s.t.Helper()
	select {
	case err, first := <-s.ended:
		if first {
			close(s.ended)
			if closeErr := s.store.Close(); closeErr != nil {
				s.t.Errorf("closing the state: %v", closeErr)
			}
		}
		return err
	case <-time.After(60 * time.Second):
		s.t.Fatal("the stage did not end within 60 s")
		return nil
	}
}

// count returns the sum of a counter or gauge over its labels, and how many of them there are.
func (s *stage) count(name string) (sum float64, labels int) {
	s.t.Helper()
	families, err := s.counts.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				labels++
			}
		}
	}
	return sum, labels
}

// until polls a condition that other goroutines bring about.
func (h *house) until(what string, done func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited 60 s for: %s", what)
		}
	}
}

// judged waits until the group has committed the end of every partition of the sign-ins.
func (h *house) judged() {
	h.t.Helper()
	h.until("everything to be judged", func() bool { return h.allJudged() })
}

// allJudged reports whether the group has committed the end of every partition but some.
func (h *house) allJudged(but ...int32) bool {
	ends, err := h.b.Admin().ListEndOffsets(context.Background(), h.topics.Signins)
	if err != nil {
		return false
	}
	committed, err := h.b.Admin().FetchOffsets(context.Background(), h.group)
	if err != nil {
		return false
	}
	all := true
	ends.Each(func(o kadm.ListedOffset) {
		at, ok := committed.Lookup(h.topics.Signins, o.Partition)
		all = all && (o.Offset == 0 || ok && at.At >= o.Offset || slices.Contains(but, o.Partition))
	})
	return all
}

var t0 = time.Date(2026, 3, 1, 0, 30, 0, 0, time.UTC)

// signIn is a sign-in that alerts unless its address or network is known.
func signIn(id, user, ip, asn string, hours int) *detector.SignIn {
	return &detector.SignIn{
		ID: id, UPN: user, TenantID: "11111111-1111-1111-1111-111111111111", IP: ip, ASN: asn, ResultType: "0",
		ResourceName: "Microsoft Intune", Generated: t0.Add(time.Duration(hours) * time.Hour), Arrived: t0.Add(time.Duration(hours) * time.Hour),
	}
}

// produce appends sign-ins to the partitions of their users.
func (h *house) produce(list ...*detector.SignIn) {
	h.t.Helper()
	h.produceFrom(signins.Origin{}, list...)
}

// produceFrom is produce of a splitter that found them in one message, from a place on.
func (h *house) produceFrom(o signins.Origin, list ...*detector.SignIn) {
	h.t.Helper()
	var records []*kgo.Record
	for _, s := range list {
		key := []byte(s.UPN)
		records = append(records, &kgo.Record{
			Topic: h.topics.Signins, Partition: kafka.Partition(key, partitions), Key: key, Value: signins.Append(nil, s, o),
		})
		if o != (signins.Origin{}) {
			o.After, o.Follows = o.Place, true
			o.Place.Index++
		}
	}
	h.b.Produce(records...)
}

// alerts returns the sign-in ids of the committed alerts, with how often each came.
func (h *house) alerts() map[string]int {
	h.t.Helper()
	ids := make(map[string]int)
	for _, r := range h.b.ReadAll(h.topics.Alerts) {
		ids[h.alert(r).SignIn.ID]++
	}
	return ids
}

// alert reads an alert's record and holds it against the schema.
func (h *house) alert(r *kgo.Record) detector.Alert {
	h.t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Value))
	if err == nil {
		err = h.schema.Validate(value)
	}
	var alert detector.Alert
	if err == nil {
		err = json.Unmarshal(r.Value, &alert)
	}
	if err != nil {
		h.t.Fatalf("alert at offset %d: %v", r.Offset, err)
	}
	return alert
}

// tick has event time pass in every partition.
func (h *house) tick(hours int) {
	h.t.Helper()
	var ticks []*kgo.Record
	for p := range int32(partitions) {
		r := signins.Tick{Time: t0.Add(time.Duration(hours) * time.Hour)}.Record()
		r.Topic, r.Partition = h.topics.Signins, p
		ticks = append(ticks, r)
	}
	h.b.Produce(ticks...)
}

func (h *house) wantAlerts(want ...string) {
	h.t.Helper()
	got := h.alerts()
	for _, id := range want {
		if got[id] != 1 {
			h.t.Errorf("%d alerts for sign-in %s, want 1", got[id], id)
		}
		delete(got, id)
	}
	for id, n := range got {
		h.t.Errorf("%d alerts for sign-in %s, want none", n, id)
	}
}

func TestWhatWasLearnedOutlivesTheStateFolder(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHouse(t, b)
		h.produce(
			signIn("first", "ada@example.com", "192.0.2.1", "64500", 0),    // nobody is known yet
			signIn("same", "ada@example.com", "192.0.2.1", "64500", 1),     // known
			signIn("thief", "ada@example.com", "203.0.113.9", "64511", 2),  // new
			signIn("again", "ada@example.com", "203.0.113.9", "64511", 2),  // within the hour: new still
			signIn("nobody", "", "198.51.100.1", "64501", 2),               // the empty user is a user
			signIn("network", "ada@example.com", "192.0.2.77", "64500", 3), // new address, known network
		)
		first := h.start("one", t.TempDir())
		h.judged()
		if err := first.stop(); err != nil {
			t.Fatalf("stopping: %v", err)
		}
		h.wantAlerts("first", "thief", "again", "nobody")

		h.produce(
			signIn("known", "ada@example.com", "192.0.2.1", "64500", 20),
			signIn("nobody2", "", "198.51.100.1", "64501", 20),
			signIn("thief2", "ada@example.com", "203.0.113.50", "64510", 20),
			signIn("thief", "ada@example.com", "203.0.113.99", "64509", 21), // the same sign-in, delivered again
		)
		h.start("another", t.TempDir()) // nothing but the baseline topic to know them by
		h.judged()
		h.wantAlerts("first", "thief", "again", "nobody", "thief2")
	})
}

// A tenant's day through instances that come and go: the alerts are those of one instance
// that stays.
func TestAlertsAreTheSameWhoeverJudges(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHouse(t, b)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 1))
		var want []string
		known := make(map[string]bool)
		n := 0
		hour := func(at int) (list []*detector.SignIn) {
			fresh := make(map[string]bool)
			for range 200 {
				user := fmt.Sprintf("user%d@example.com", random.IntN(40))
				asn := fmt.Sprint(64496 + random.IntN(8))
				id := fmt.Sprintf("sign-in-%d", n)
				n++
				list = append(list, signIn(id, user, fmt.Sprintf("192.0.2.%d", n%256), asn, at))
				if !known[user+asn] && !known[user+list[len(list)-1].IP] {
					want = append(want, id)
				}
				fresh[user+asn], fresh[user+list[len(list)-1].IP] = true, true
			}
			for k := range fresh {
				known[k] = true
			}
			return list
		}
		dirs := []string{t.TempDir(), t.TempDir()}
		one := h.start("one", dirs[0])
		for at := range 12 {
			h.produce(hour(at)...)
			switch at {
			case 2:
				h.start("two", dirs[1])
			case 5:
				if err := one.stop(); err != nil {
					t.Fatal(err)
				}
			case 8:
				one = h.start("one", dirs[0])
			}
		}
		h.judged()
		h.wantAlerts(want...)
	})
}

func TestAnAbortedTransactionLeavesNothingBehind(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	var refused atomic.Int32
	h.refuseCommits(func(int32, int64) bool { return refused.Add(1) <= 3 })
	h.produce(signIn("first", "ada@example.com", "192.0.2.1", "64500", 0), signIn("second", "bob@example.com", "192.0.2.2", "64501", 0))
	h.start("one", t.TempDir())
	h.judged()
	if n := refused.Load(); n <= 3 {
		t.Errorf("only %d commits were refused", n)
	}
	h.wantAlerts("first", "second")
}

// A first transaction that was aborted, by a kill or a rebalance, leaves records in the baseline
// topic and no offset in the group. That is no reason to refuse.
func TestAnAbortedFirstTransactionIsNoSignOfLostOffsets(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHouse(t, b)
		client := b.Client(kgo.TransactionalID(b.Name("killed")), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for p := range int32(partitions) {
			if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: h.topics.Baseline, Partition: p, Key: []byte("ada@example.com"), Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := client.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
		h.produce(signIn("first", "ada@example.com", "192.0.2.1", "64500", 0))
		h.start("one", t.TempDir())
		h.judged()
		h.wantAlerts("first")
	})
}

func TestBadRecordsDoNotStopAPartition(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHouse(t, b)
		good := signIn("good", "ada@example.com", "192.0.2.1", "64500", 0)
		p := kafka.Partition([]byte(good.UPN), partitions)
		h.b.Produce(
			&kgo.Record{Topic: h.topics.Signins, Partition: p, Key: []byte(good.UPN), Value: []byte("no sign-in")},
			&kgo.Record{Topic: h.topics.Signins, Partition: p, Key: []byte(good.UPN)},
		)
		h.produce(good)
		h.start("one", t.TempDir())
		h.judged()
		h.wantAlerts("good")
		if letters := h.b.ReadAll(h.topics.DeadLetter); len(letters) != 2 || string(letters[0].Value) != "no sign-in" {
			t.Errorf("%d dead letters, want the two bad records", len(letters))
		}
	})
}

func TestWhatCannotGoOnEndsWithItsCause(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(h *house, one *stage)
		want  string
	}{
		{"a record of a newer version", func(h *house, _ *stage) { h.newer() }, "upgrade"},
		{"a baseline topic that was made again", func(h *house, one *stage) {
			one.stop()
			h.recreate(h.topics.Baseline, map[string]string{"cleanup.policy": "compact"})
			h.start("one", h.t.TempDir()).expect("made again")
		}, ""},
		{"offsets that are gone", func(h *house, one *stage) {
			one.stop()
			h.until("the group to be deleted", func() bool {
				deleted, err := h.b.Admin().DeleteGroups(context.Background(), h.group)
				return err == nil && deleted.Error() == nil
			})
			h.start("one", h.t.TempDir()).expect("committed no offset")
		}, ""},
		{"sign-ins that were deleted unjudged", func(h *house, one *stage) {
			one.stop()
			h.produce(signIn("lost", "ada@example.com", "192.0.2.1", "64500", 0))
			ends, err := h.b.Admin().ListEndOffsets(context.Background(), h.topics.Signins)
			if err != nil {
				h.t.Fatal(err)
			}
			if _, err := h.b.Admin().DeleteRecords(context.Background(), ends.Offsets()); err != nil {
				h.t.Fatal(err)
			}
			h.start("one", h.t.TempDir()).expect("were deleted before they were judged")
		}, ""},
		{"a twin of the same name", func(h *house, one *stage) {
			h.start("one", h.t.TempDir())
		}, "another process runs as instance"},
	} {
		t.Run(test.name, func(t *testing.T) {
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHouse(t, b)
				h.produce(signIn("first", "ada@example.com", "192.0.2.1", "64500", 0))
				one := h.start("one", t.TempDir())
				h.judged()
				h.until("the stage to be ready", func() bool { ready, _ := one.Ready(); return ready })
				test.spoil(h, one)
				if test.want != "" {
					one.expect(test.want)
				}
			})
		})
	}
}

// newer appends a record of a newer version.
func (h *house) newer() {
	h.t.Helper()
	value := signins.Append(nil, signIn("new", "ada@example.com", "192.0.2.1", "64500", 0), signins.Origin{})
	value[0]++ // the version
	h.b.Produce(&kgo.Record{Topic: h.topics.Signins, Key: []byte("ada@example.com"), Value: value})
}

// expect waits until the stage ends by itself and checks what it says.
func (s *stage) expect(want string) {
	s.t.Helper()
	err := s.wait()
	if err == nil || !strings.Contains(err.Error(), want) {
		s.t.Errorf("the stage ended with %q, want something about %q", fmt.Sprint(err), want)
	}
	if strings.Contains(fmt.Sprint(err), "\n") {
		s.t.Errorf("the stage ended with more than one line:\n%v", err)
	}
}

func (h *house) recreate(topic string, settings map[string]string) {
	h.t.Helper()
	if _, err := h.b.Admin().DeleteTopics(context.Background(), topic); err != nil {
		h.t.Fatal(err)
	}
	h.until("the topic to be gone", func() bool {
		topics, err := h.b.Admin().ListTopics(context.Background(), topic)
		return err == nil && !topics.Has(topic)
	})
	h.b.CreateTopic(topic, partitions, settings)
}

// Ticks alone move the time of a partition: who stayed away for the window and the lateness is
// deleted, in Pebble and by a tombstone in the topic, and an instance that starts anew knows
// the time from the committed offsets.
func TestTicksSweepWhoStayedAway(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHouse(t, b)
		h.produce(
			signIn("first", "ada@example.com", "192.0.2.1", "64500", 0),
			signIn("other", "bob@example.com", "192.0.2.2", "64501", 0),
		)
		one := h.start("one", t.TempDir())
		h.judged()
		left := func() map[string]bool {
			users := make(map[string]bool)
			for _, r := range h.b.ReadAll(h.topics.Baseline) {
				users[string(r.Key)] = r.Value != nil
			}
			return users
		}
		h.tick(detector.Window + 48)
		h.judged()
		if users := left(); !users["ada@example.com"] || !users["bob@example.com"] {
			t.Errorf("swept within the window and the lateness: %v", users)
		}
		// bob comes back, so he stays.
		h.produce(signIn("back", "bob@example.com", "192.0.2.2", "64501", detector.Window+48))
		h.judged()
		if err := one.stop(); err != nil {
			t.Fatal(err)
		}
		two := h.start("two", t.TempDir())
		h.tick(detector.Window + 48 + 12)
		h.judged()
		if users := left(); users["ada@example.com"] || !users["bob@example.com"] {
			t.Errorf("after the sweep: %v, want bob alone", users)
		}
		h.produce(signIn("anew", "ada@example.com", "192.0.2.1", "64500", detector.Window+48+13))
		h.judged()
		if err := two.stop(); err != nil {
			t.Fatal(err)
		}
		h.wantAlerts("first", "other", "back", "anew")
	})
}
