package split

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
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
	also   []string // input topics beside raw
	topics kafka.Topics
	cfg    Config
	start  Start

	fill     time.Duration // for how long batches fill; 0: as long as they do
	looks    time.Duration // apart, at where the input ends and whether it is there
	instance string        // of what is started next
	identity string        // by which it keys users
	accept   bool          // a loss
	atLeast  bool          // delivery is at least once

	log      *slog.Logger       // nil: nothing is kept
	input    []kgo.Opt          // of the clients of the input; nil: of those of b
	internal *brokertest.Broker // where the internal topics are
}

func newHub(t testing.TB, b *brokertest.Broker, inputs int32) *hub {
	t.Helper()
	h := &hub{TB: t, b: b, raw: b.Name("raw"), cfg: DefaultConfig(), looks: 50 * time.Millisecond, internal: b, topics: kafka.Topics{
		Signins: b.Name("signins"), DeadLetter: b.Name("dead-letter"), Partitions: 4,
	}}
	h.cfg.Group = b.Name("split")
	h.cfg.MergeWait = time.Hour                                           // where a partition is waited for in vain, the test gives up
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
		Input: input, Internal: internal, InputTopics: h.inputs(), Start: h.start, Topics: h.topics,
		UserKey: func(s *detector.SignIn) string { return h.identity + strings.ToLower(s.UPN) }, Identity: h.identity,
		CommitPace: commitPace, Instance: h.instance, AcceptLoss: h.accept, AtLeastOnce: h.atLeast,
		Log:     cmp.Or(h.log, slog.New(slog.DiscardHandler)),
		Metrics: NewMetrics(prometheus.NewRegistry()),
	})
	s.commitEvery, s.endsEvery, s.tickEvery = commitEvery, h.looks, 100*time.Millisecond
	if h.fill > 0 {
		s.fillFor = h.fill
	}
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

func (h *hub) inputs() []string { return append([]string{h.raw}, h.also...) }

// drained waits until the group has committed the end of every input partition: the high watermark, for markers may come
// after the answer to who ended a transaction.
func (h *hub) drained() {
	h.Helper()
	h.eventually("all of the input is committed", func() bool {
		ends, err := h.b.Admin().ListEndOffsets(context.Background(), h.inputs()...)
		if err != nil {
			return false
		}
		committed, err := h.b.Admin().FetchOffsets(context.Background(), h.cfg.Group)
		if err != nil {
			return false
		}
		all := true
		ends.Each(func(end kadm.ListedOffset) {
			c, ok := committed.Lookup(end.Topic, end.Partition)
			all = all && ok && c.At == end.Offset
		})
		return all
	})
}

// settled waits until all of the input is committed, and all that an offset says.
func (h *hub) settled(r *running) {
	h.Helper()
	h.drained()
	h.eventually("nothing is left to commit", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.marksOf(r.mu.merge.lanes)) == 0
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

// committed is the group's offset of an input partition.
func (h *hub) committed(partition int32) int64 {
	h.Helper()
	offsets, err := h.b.Admin().FetchOffsets(context.Background(), h.cfg.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // which it is until somebody joins
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
