package split

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// patience is how long a condition may take to come true before the test gives up.
const patience = 30 * time.Second

// hub is one test's input and internal topics on a broker.
type hub struct {
	testing.TB
	b      *brokertest.Broker
	raw    string
	topics kafka.Topics
	cfg    Config
	start  Start

	maxAhead time.Duration
	instance string // of what is started next
	accept   bool   // a loss

	input    []kgo.Opt          // of the clients of the input; nil: of those of b
	internal *brokertest.Broker // where the internal topics are
}

func newHub(t testing.TB, b *brokertest.Broker, inputs int32) *hub {
	t.Helper()
	h := &hub{TB: t, b: b, raw: b.Name("raw"), cfg: DefaultConfig(), internal: b, topics: kafka.Topics{
		Signins: b.Name("signins"), DeadLetter: b.Name("dead-letter"), Partitions: 4,
	}}
	h.cfg.Group = b.Name("split")
	b.CreateTopic(h.raw, inputs, map[string]string{"retention.ms": "-1"}) // its records are as old as they say
	b.CreateTopic(h.topics.Signins, h.topics.Partitions, nil)
	b.CreateTopic(h.topics.DeadLetter, 1, nil)
	return h
}

// message is an export's message of sign-ins, each an id of the form user/number.
func message(ids ...string) []byte {
	return messageOf(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), ids...)
}

// messageOf is a message of sign-ins of one time.
func messageOf(at time.Time, ids ...string) []byte {
	var records []string
	for _, id := range ids {
		user, _, _ := strings.Cut(id, "/")
		records = append(records, fmt.Sprintf(`{"time":%q,"category":"NonInteractiveUserSignInLogs","properties":{"id":%q,"userPrincipalName":%q}}`, at.Format(time.RFC3339), id, user))
	}
	return []byte(`{"records":[` + strings.Join(records, ",") + `]}`)
}

// record is an input record of a partition, stamped some seconds after the epoch of the tests.
func (h *hub) record(partition int32, second int, value []byte) *kgo.Record {
	return &kgo.Record{Topic: h.raw, Partition: partition, Timestamp: epoch.Add(time.Duration(second) * time.Second), Value: value}
}

// running is a Splitter that runs.
type running struct {
	*Splitter
	stop context.CancelFunc
	done chan error
}

// run starts a Splitter, which the test's end stops if nothing else does.
func (h *hub) run() *running {
	h.Helper()
	return h.runAt(50*time.Millisecond, 0)
}

// runAt starts one that commits at a pace.
func (h *hub) runAt(commitEvery, commitPace time.Duration) *running {
	h.Helper()
	input, internal := h.input, []kgo.Opt{kgo.SeedBrokers(h.internal.Addrs()...), kgo.MetadataMinAge(10 * time.Millisecond)}
	if input == nil {
		input = internal
	}
	ctx, stop := context.WithCancel(context.Background())
	s := New(h.cfg, Deps{
		Input: input, Internal: internal, InputTopics: []string{h.raw}, Start: h.start, Topics: h.topics,
		UserKey: func(s *detector.SignIn) string { return strings.ToLower(s.UPN) },
		Hour:    func(s *detector.SignIn) int32 { return detector.HourOf(s.Generated) }, MaxAhead: h.maxAhead, CommitPace: commitPace, Instance: h.instance, AcceptLoss: h.accept,
		Log:     slog.New(slog.DiscardHandler),
		Metrics: NewMetrics(prometheus.NewRegistry()),
	})
	s.commitEvery, s.endsEvery, s.tickEvery = commitEvery, 50*time.Millisecond, 100*time.Millisecond
	r := &running{Splitter: s, stop: stop, done: make(chan error, 1)}
	go func() { r.done <- s.Run(ctx) }()
	h.Cleanup(func() { stop(); <-r.done })
	return r
}

// halt stops a Splitter and returns what Run did.
func (h *hub) halt(r *running) error {
	h.Helper()
	r.stop()
	return h.ended(r)
}

func (h *hub) ended(r *running) error {
	h.Helper()
	select {
	case err := <-r.done:
		close(r.done)
		return err
	case <-time.After(patience):
		h.Fatal("Run does not return")
		return nil
	}
}

// eventually waits for a condition.
func (h *hub) eventually(what string, ok func() bool) {
	h.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatal("not after ", patience, ": ", what)
		}
	}
}

// drained waits until the group has committed the end of every input partition.
func (h *hub) drained() {
	h.Helper()
	h.eventually("all of the input is committed", func() bool {
		ends, err := h.b.Admin().ListCommittedOffsets(context.Background(), h.raw)
		if err != nil {
			return false
		}
		committed, err := h.b.Admin().FetchOffsets(context.Background(), h.cfg.Group)
		if err != nil {
			return false
		}
		for p, end := range ends[h.raw] {
			if c, ok := committed.Lookup(h.raw, p); !ok || c.At != end.Offset {
				return false
			}
		}
		return true
	})
}

// count returns what a counter has counted.
func count(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		panic(err)
	}
	return m.GetCounter().GetValue()
}

// waits is how often the merge waited in vain.
func (r *running) waits() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.merge.waits
}

func (r *running) active() bool { return len(r.everything()) > 0 }

// output is what is in the sign-ins topic: the ids of each user in their order, and the
// ticks.
func (h *hub) output() (ids map[string][]string, ticks []signins.Tick) {
	h.Helper()
	ids = make(map[string][]string)
	for _, r := range h.internal.ReadAll(h.topics.Signins) {
		if kind, ok := signins.ControlOf(r.Headers); ok {
			tick, err := signins.DecodeTick(r.Value)
			if kind != signins.KindTick || err != nil {
				h.Errorf("control record %s: %v", kind, err)
			}
			ticks = append(ticks, tick)
			continue
		}
		var s detector.SignIn
		if err := signins.Decode(r.Value, &s); err != nil {
			h.Fatal(err)
		}
		if r.Key == nil || string(r.Key) != s.UPN || r.Partition != kafka.Partition(r.Key, h.topics.Partitions) {
			h.Errorf("%s has key %q on partition %d", s.ID, r.Key, r.Partition)
		}
		ids[s.UPN] = append(ids[s.UPN], strings.Clone(s.ID))
	}
	return ids, ticks
}

// numbers is ids of one user with the numbers of [from, to).
func numbers(user string, from, to int) (ids []string) {
	for i := from; i < to; i++ {
		ids = append(ids, fmt.Sprintf("%s/%d", user, i))
	}
	return ids
}

var users = []string{"", "ada@example.com", "bob@example.com", "cleo@example.com", "dan@example.com"}

// uneven fills partitions with n messages in the order of time, each with a sign-in of
// every user: partition 0 gets one in a hundred.
func (h *hub) uneven(partitions int32, from, n int) {
	h.Helper()
	var records []*kgo.Record
	for i := from; i < from+n; i++ {
		var ids []string
		for _, u := range users {
			ids = append(ids, fmt.Sprintf("%s/%d", u, i))
		}
		p := int32(0)
		if i%100 != 0 {
			p = 1 + int32(i)%(partitions-1)
		}
		records = append(records, h.record(p, i, message(ids...)))
	}
	h.b.Produce(records...)
}

func TestEverySignInOfUnevenPartitionsArrivesOnceAndInOrder(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 4)
		h.uneven(4, 0, 3000)
		r := h.run()
		h.drained()
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		ids, _ := h.output()
		for _, u := range users {
			if want := numbers(u, 0, 3000); !slices.Equal(ids[u], want) {
				t.Errorf("%q has %d sign-ins, want %d in order", u, len(ids[u]), len(want))
			}
		}
		if waits := r.waits(); waits != 0 {
			t.Errorf("waited %d times in vain", waits)
		}
	})
}

func TestARestartLosesAndDoublesNothing(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 3)
		h.uneven(3, 0, 2000)
		first := h.run()
		h.eventually("something was split", func() bool { return count(first.deps.Metrics.messages) > 100 })
		if err := h.halt(first); err != nil {
			t.Fatal(err)
		}
		h.uneven(3, 2000, 500)
		second := h.run()
		h.drained()
		if err := h.halt(second); err != nil {
			t.Fatal(err)
		}
		ids, _ := h.output()
		for _, u := range users {
			if want := numbers(u, 0, 2500); !slices.Equal(ids[u], want) {
				t.Errorf("%q has %d sign-ins, want %d in order", u, len(ids[u]), len(want))
			}
		}
	})
}

func TestASecondMemberStandsByAndTakesOver(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 3)
		h.uneven(3, 0, 5000)
		first := h.run()
		h.eventually("the first is active", first.active)
		second := h.run()
		h.eventually("the second has joined", func() bool { ok, _ := second.Ready(); return ok })
		if second.active() || !first.active() {
			t.Error("the second does not stand by")
		}
		if err := h.halt(first); err != nil {
			t.Fatal(err)
		}
		h.eventually("the second is active", second.active)
		third := h.run()
		h.eventually("the third has joined", func() bool { ok, _ := third.Ready(); return ok })
		h.drained()
		if third.active() || !second.active() {
			t.Error("a new member took over")
		}
		ids, _ := h.output()
		for _, u := range users {
			if want := numbers(u, 0, 5000); !slices.Equal(ids[u], want) {
				t.Errorf("%q has %d sign-ins, want %d in order", u, len(ids[u]), len(want))
			}
		}
	})
}

// The group takes a join of ours that came twice for two members of one name, and fences the one that
// we then are: here a client that is gone at once.
func TestWhoIsFencedByNobodyThatStaysJoinsAnew(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 3)
		h.instance = "one"
		h.uneven(3, 0, 1000)
		r := h.run()
		h.eventually("it is active", r.active)
		joined := make(chan struct{})
		once := sync.OnceFunc(func() { close(joined) })
		other, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.ConsumerGroup(h.cfg.Group), kgo.InstanceID("one"), kgo.ConsumeTopics(h.raw),
			kgo.Balancers(leaderTakesAll{}), kgo.DisableAutoCommit(), kgo.SessionTimeout(sessionTimeout),
			kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { once() }))
		if err != nil {
			t.Fatal(err)
		}
		<-joined
		other.Close()
		h.eventually("it was fenced, and is active again", func() bool {
			r.mu.Lock()
			fenced := r.mu.fencings != kafka.Fencings{}
			r.mu.Unlock()
			return fenced && r.active()
		})
		h.uneven(3, 1000, 500)
		h.drained()
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		ids, _ := h.output()
		for _, u := range users {
			slices.SortFunc(ids[u], func(a, b string) int { return number(a) - number(b) })
			if got, want := slices.Compact(ids[u]), numbers(u, 0, 1500); !slices.Equal(got, want) {
				t.Errorf("%q has %d sign-ins, want %d", u, len(got), len(want))
			}
		}
	})
}

func TestOfTwoOfOneNameOneEnds(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 3)
		h.instance = "one"
		first := h.run()
		h.eventually("the first is active", first.active)
		second := h.run()
		var err error
		rest := second
		select {
		case err = <-first.done:
			close(first.done)
		case err = <-second.done:
			close(second.done)
			rest = first
		case <-time.After(patience):
			t.Fatal("both go on")
		}
		if err == nil || !strings.Contains(err.Error(), `another process runs as instance "one"`) {
			t.Errorf("it ended with %v", err)
		}
		h.uneven(3, 0, 100)
		h.drained()
		if err := h.halt(rest); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatCannotBeReadIsKeptWithWhereItCameFrom(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 1)
		mixed := `{"records":[
			{"time":"2026-11-23T10:00:00Z","category":"NonInteractiveUserSignInLogs","properties":{"userPrincipalName":"ada@example.com"}},
			{"category":"AuditLogs","properties":{}},
			{"time":"2026-11-23T10:00:00Z","category":"NonInteractiveUserSignInLogs","properties":{"id":"ada@example.com/1","userPrincipalName":"ada@example.com"}}]}`
		h.b.Produce(h.record(0, 0, []byte("not json")), h.record(0, 1, []byte(mixed)), h.record(0, 2, nil))
		r := h.run()
		h.drained()
		var got []string
		for _, letter := range h.internal.ReadAll(h.topics.DeadLetter) {
			headers := make(map[string]string)
			for _, header := range letter.Headers {
				headers[header.Key] = string(header.Value)
			}
			if headers["topic"] != h.raw || headers["partition"] != "0" || headers["reason"] == "" {
				t.Errorf("headers %v", headers)
			}
			got = append(got, fmt.Sprintf("offset %s record %s: %.8s", headers["offset"], headers["record"], letter.Value))
		}
		want := []string{"offset 0 record : not json", `offset 1 record 0: {"time":`, "offset 2 record : "}
		if !slices.Equal(got, want) {
			t.Errorf("dead letters\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if ids, _ := h.output(); !slices.Equal(ids["ada@example.com"], numbers("ada@example.com", 1, 2)) {
			t.Errorf("a bad record took its neighbour with it: %v", ids)
		}
		if n := count(r.deps.Metrics.skipped); n != 1 {
			t.Errorf("%v records counted as skipped, want 1", n)
		}
	})
}

func TestAbortedMessagesAndMarkersDoNotHoldUpTheMerge(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 2)
		h.cfg.MergeWait = time.Minute // one vain wait, and the test gives up
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		tx := b.Client(kgo.TransactionalID(b.Name("tx")), kgo.MetadataMinAge(10*time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		second := 0
		for i := range 20 {
			if err := tx.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			end, user := kgo.TryCommit, "ada@example.com"
			if i%2 == 1 {
				end, user = kgo.TryAbort, "aborted@example.com"
			}
			for p := range int32(2) {
				id := fmt.Sprintf("%s/%d", user, i+int(p))
				second++
				if err := tx.ProduceSync(ctx, h.record(p, second, message(id))).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			if err := tx.EndTransaction(ctx, end); err != nil {
				t.Fatal(err)
			}
		}
		r := h.run()
		h.drained()
		ids, _ := h.output()
		if want := numbers("ada@example.com", 0, 20); !slices.Equal(ids["ada@example.com"], want) || len(ids) != 1 {
			t.Errorf("split %v, want 20 sign-ins of ada@example.com in order", ids)
		}
		if waits := r.waits(); waits != 0 {
			t.Errorf("waited %d times in vain", waits)
		}
	})
}

func TestTheTickIsTheWallClockOnceAllIsRead(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 2)
		began := time.Now().Add(-time.Second)
		h.uneven(2, 0, 10)
		r := h.run()
		h.drained()
		h.eventually("some ticks", func() bool { return count(r.deps.Metrics.ticks) >= 2 })
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		_, ticks := h.output()
		if n := len(ticks); n < int(2*h.topics.Partitions) || n%int(h.topics.Partitions) != 0 {
			t.Errorf("%d ticks, want as many on each of %d partitions", n, h.topics.Partitions)
		}
		if last := ticks[len(ticks)-1].Time; last.Before(began) || last.After(time.Now().Add(time.Second)) {
			t.Errorf("the last tick is %v, want the wall clock", last)
		}
	})
}

func TestDeletedMessagesThatWereNotReadEndTheStage(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 2)
		h.uneven(2, 0, 10)
		r := h.run()
		h.drained()
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		h.uneven(2, 10, 20)
		cut := make(kadm.Offsets)
		cut.AddOffset(h.raw, 1, 15, -1)
		if _, err := b.Admin().DeleteRecords(context.Background(), cut); err != nil {
			t.Fatal(err)
		}
		err := h.ended(h.run())
		if err == nil || !strings.Contains(err.Error(), "6 messages are lost") || !strings.Contains(err.Error(), "--reset-offsets") {
			t.Errorf("Run returned %v, want how many are lost and the remedy", err)
		}
	})
}

func TestInputStartDecidesWhereNothingIsCommitted(t *testing.T) {
	for start, want := range map[string][]string{
		"earliest":             numbers("ada@example.com", 0, 4),
		"latest":               numbers("ada@example.com", 3, 4),
		"2026-11-09T00:00:02Z": numbers("ada@example.com", 2, 4),
	} {
		t.Run(start, func(t *testing.T) {
			b := brokertest.Fake(t)
			h := newHub(t, b, 1)
			var err error
			if h.start, err = ParseStart(start); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				b.Produce(h.record(0, i, message(numbers("ada@example.com", i, i+1)...)))
			}
			r := h.run()
			h.eventually("active", r.active)
			b.Produce(h.record(0, 3, message("ada@example.com/3")))
			h.drained()
			if ids, _ := h.output(); !slices.Equal(ids["ada@example.com"], want) {
				t.Errorf("split %v, want %v", ids["ada@example.com"], want)
			}
		})
	}
}

func TestARecordThatCannotBeProducedEndsTheStage(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	h.topics.Partitions = 400 // the topic has four
	h.b.Produce(h.record(0, 0, message("ada@example.com/1")))
	err := h.ended(h.run())
	if err == nil || !strings.Contains(err.Error(), h.topics.Signins) {
		t.Errorf("Run returned %v, want which topic could not be written", err)
	}
	committed, err := h.b.Admin().FetchOffsets(context.Background(), h.cfg.Group)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if c, ok := committed.Lookup(h.raw, 0); ok && c.At > 0 {
		t.Errorf("offset %d is committed of a message that was not produced", c.At)
	}
}

// committed is the group's offset of an input partition.
func (h *hub) committed(partition int32) int64 {
	h.Helper()
	offsets, err := h.b.Admin().FetchOffsets(context.Background(), h.cfg.Group)
	if err != nil {
		h.Fatal(err)
	}
	c, ok := offsets.Lookup(h.raw, partition)
	if !ok {
		return -1
	}
	return c.At
}

// landed waits until nothing is in the air.
func (h *hub) landed(r *running) {
	h.Helper()
	h.eventually("all is acknowledged", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.mu.flights.queue) == 0
	})
}

func TestAcknowledgementsAfterALossDoNotSetTheGroupBack(t *testing.T) {
	b := brokertest.Fake(t)
	h := newHub(t, b, 1)
	cluster := b.Embedded().Cluster
	held := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: h.topics.Signins, Err: kerr.NotLeaderForPartition, Count: -1})
	first := h.run()
	h.eventually("the first is active", first.active)
	for i := range 20 {
		b.Produce(h.record(0, i, message("ada@example.com/1")))
	}
	h.eventually("all is in the air", func() bool { return count(first.deps.Metrics.messages) == 20 })
	lanes := first.everything()

	h.topics.Signins = b.Name("signins-of-the-second")
	b.CreateTopic(h.topics.Signins, h.topics.Partitions, nil)
	second := h.run()
	h.eventually("the second has joined", func() bool { ok, _ := second.Ready(); return ok })
	first.mu.Lock()
	member := lanes[0].member
	first.mu.Unlock()
	h.expel(member)
	h.eventually("the second is active", second.active)
	b.Produce(h.record(0, 20, message("ada@example.com/1")))
	h.drained()
	h.eventually("the first has noticed and joined again", func() bool { ok, _ := first.Ready(); return ok && !first.active() })

	held.Remove()
	h.landed(first)
	first.commit(lanes)
	if at := h.committed(0); at != 21 {
		t.Errorf("the group stands at offset %d, want 21", at)
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	if marked := lanes[0].marked; marked != 0 {
		t.Errorf("a lost partition is marked at %d", marked)
	}
}

// expel throws a member out of the group.
func (h *hub) expel(member string) {
	h.Helper()
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.MemberID = h.cfg.Group, member
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID = member
	leave.Members = append(leave.Members, m)
	if _, err := leave.RequestWith(context.Background(), h.b.Client()); err != nil {
		h.Fatal(err)
	}
}

func TestNothingIsCommittedUnderAnotherMembership(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 1)
		r := h.run()
		h.eventually("active", r.active)
		h.drained() // the offset that reading starts at
		lanes := r.everything()
		r.mu.Lock()
		lanes[0].member = "who we were before"
		r.mu.Unlock()
		b.Produce(h.record(0, 0, message("ada@example.com/1")))
		h.eventually("the message is marked", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return lanes[0].marked == 1
		})
		r.commit(lanes)
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		if at := h.committed(0); at != 0 {
			t.Errorf("the group stands at offset %d, want 0", at)
		}
	})
}

func TestAPartitionThatIsAddedIsReadFromItsBeginning(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	h.start, _ = ParseStart("latest")
	h.b.Produce(h.record(0, 0, message("ada@example.com/0")))
	r := h.run()
	h.eventually("active", r.active)
	if _, err := h.b.Admin().UpdatePartitions(context.Background(), 2, h.raw); err != nil {
		t.Fatal(err)
	}
	late := h.b.Client(kgo.RecordPartitioner(kgo.ManualPartitioner())) // one that knows the new partition
	if err := late.ProduceSync(context.Background(), h.record(1, 1, message("ada@example.com/1"))).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r.group.ForceMetadataRefresh() // else it takes metadataAge
	h.drained()
	if ids, _ := h.output(); !slices.Equal(ids["ada@example.com"], numbers("ada@example.com", 1, 2)) {
		t.Errorf("split %v, want what came after the start", ids)
	}
}

func TestTheStageOutlivesABrokerThatIsAway(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	cluster := h.b.Embedded().Cluster
	away := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Group: h.cfg.Group, TopLevel: true, Err: kerr.CoordinatorNotAvailable, Count: -1})
	r := h.run()
	h.b.Produce(h.record(0, 0, message("ada@example.com/0")))
	if ok, why := r.Ready(); ok || !strings.Contains(why, h.cfg.Group) {
		t.Errorf("ready without the group: %v, %q", ok, why)
	}
	away.Remove()
	h.drained()
}

// A partition whose leader is away is waited for as any other that has more to come, and no
// longer; when it is back, it is read from where it would have been.
func TestAPartitionWithoutLeaderDoesNotKeepTheOthersFromBeingRead(t *testing.T) {
	for _, committed := range []bool{false, true} {
		t.Run(fmt.Sprintf("committed=%v", committed), func(t *testing.T) {
			h := newHub(t, brokertest.Fake(t), 3)
			h.cfg.MergeWait = patience
			from, at := 0, int64(-1)
			if committed {
				h.uneven(3, 0, 300)
				r := h.run()
				h.drained()
				if err := h.halt(r); err != nil {
					t.Fatal(err)
				}
				from, at = 300, h.committed(1)
			}
			h.uneven(3, from, 300)
			away := h.b.Embedded().Cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch}, Topic: h.raw, Partitions: []int32{1}, Err: kerr.LeaderNotAvailable, Count: -1,
			})
			r := h.run()
			h.eventually("the merge waits for the partition", func() bool { return r.waitsFor(1, at) && r.readToTheEnd(1) })
			r.waitNoLongerThan(100 * time.Millisecond)
			// Three of 300 are in partition 0 and 147 in partition 1.
			h.eventually("the partitions that are there are split", func() bool { return count(r.deps.Metrics.messages) == 153 })
			if waits := r.waits(); waits != 1 {
				t.Errorf("waited %d times in vain, want once for the partition that is away", waits)
			}
			away.Remove()
			h.drained()
			ids, _ := h.output()
			for _, u := range users {
				got := slices.Sorted(slices.Values(ids[u]))
				if want := slices.Sorted(slices.Values(numbers(u, 0, from+300))); !slices.Equal(got, want) {
					t.Errorf("%q has %d sign-ins, want %d", u, len(got), len(want))
				}
			}
		})
	}
}

// BenchmarkSplit reads 20,000 sign-ins of real size, in messages of 20, from 8 partitions.
// On kfake its CPU is that of the broker too; compare on a real one.
func BenchmarkSplit(b *testing.B) {
	const messages, each = 1000, 20
	h := newHub(b, brokertest.Start(b), 8)
	padding := strings.Repeat(`{"displayName":"a policy","result":"notApplied","conditionsSatisfied":0},`, 60)
	size := 0
	for i := range messages {
		ids := make([]string, each)
		for j := range ids {
			ids[j] = fmt.Sprintf("user%d@example.com/%d", (i*each+j)%997, i*each+j)
		}
		value := []byte(strings.ReplaceAll(string(message(ids...)), `"properties":{`, `"properties":{"appliedConditionalAccessPolicies":[`+strings.TrimSuffix(padding, ",")+`],`))
		size += len(value)
		h.b.Produce(h.record(int32(i%8), i, value))
	}
	b.SetBytes(int64(size))
	for n := 0; b.Loop(); n++ {
		h.cfg.Group = h.b.Name(fmt.Sprint("split", n))
		r := h.run()
		h.eventually("all is split", func() bool { return count(r.deps.Metrics.messages) == messages })
		h.landed(r)
		if err := h.halt(r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(messages*each*b.N)/b.Elapsed().Seconds(), "sign-ins/s")
}

// BenchmarkCatchUp reads 300,000 sign-ins of 16 days in messages of 20, at the pace of commits
// of a Kafka, and without a bound on how far it runs ahead.
func BenchmarkCatchUp(b *testing.B) {
	const messages, each = 15_000, 20
	h := newHub(b, brokertest.Start(b), 8)
	for from := 0; from < messages; from += 1000 {
		for i := from; i < from+1000; i++ {
			var ids []string
			for j := range each {
				ids = append(ids, fmt.Sprintf("user%d@example.com/%d", (i*each+j)%997, i*each+j))
			}
			at := epoch.Add(time.Duration(i) * 16 * 24 * time.Hour / messages)
			h.b.Produce(&kgo.Record{Topic: h.raw, Partition: int32(i % 8), Timestamp: at, Value: messageOf(at, ids...)})
		}
	}
	for _, h.maxAhead = range []time.Duration{24 * time.Hour, 1000 * time.Hour} {
		b.Run(h.maxAhead.String(), func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				h.cfg.Group = h.b.Name(fmt.Sprint(h.maxAhead, n))
				r := h.runAt(commitEvery, kafka.DefaultCluster().CommitPace())
				h.drained()
				if err := h.halt(r); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(messages*each*b.N)/b.Elapsed().Seconds(), "sign-ins/s")
		})
	}
}
