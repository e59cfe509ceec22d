package detect_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/detect"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// deliveries are both ways to write, for a test that neither may fail.
var deliveries = []struct {
	name   string
	option stageOption
}{{"exactly once", nothing}, {"at least once", atLeastOnce}}

func nothing(*detect.Config, *detect.Deps) {}

func atLeastOnce(_ *detect.Config, d *detect.Deps) { d.AtLeastOnce = true }

// withoutTransactions has the embedded broker refuse all that a transaction needs.
func withoutTransactions(b *brokertest.Broker) {
	if b.Real() {
		return
	}
	b.Embedded().Cluster.Control(func(request kmsg.Request) (kmsg.Response, error, bool) {
		b.Embedded().Cluster.KeepControl()
		refused := kerr.UnsupportedVersion.Code
		switch r := request.(type) {
		case *kmsg.InitProducerIDRequest:
			if r.TransactionalID == nil {
				return nil, nil, false
			}
			response := r.ResponseKind().(*kmsg.InitProducerIDResponse)
			response.ErrorCode = refused
			return response, nil, true
		case *kmsg.AddPartitionsToTxnRequest, *kmsg.TxnOffsetCommitRequest, *kmsg.EndTxnRequest:
			return nil, errors.New("no transactions here"), true
		}
		return nil, nil, false
	})
}

func TestAtLeastOnceNeedsNoTransactions(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		withoutTransactions(b)
		h := newHouse(t, b)
		h.produce(
			signIn("first", "ada@example.com", "192.0.2.1", "64500", 0),
			signIn("same", "ada@example.com", "192.0.2.1", "64500", 1),
			signIn("thief", "ada@example.com", "203.0.113.9", "64511", 2),
		)
		one := h.start("one", t.TempDir(), atLeastOnce)
		h.judged()
		if err := one.stop(); err != nil {
			t.Fatal(err)
		}
		for _, r := range h.b.ReadAll(h.topics.Baseline) {
			if state.Carried(r.Value) == 0 {
				t.Errorf("the baseline record at %d/%d carries no offset", r.Partition, r.Offset)
			}
		}
		h.produce(
			signIn("known", "ada@example.com", "192.0.2.1", "64500", 20),
			signIn("thief2", "ada@example.com", "203.0.113.50", "64510", 20),
		)
		h.start("another", t.TempDir(), atLeastOnce)
		h.judged()
		h.wantAlerts("first", "thief", "thief2")
	})
}

func TestAtLeastOnceNeedsNoProducerIDs(t *testing.T) {
	b := brokertest.Fake(t)
	h := newHouse(t, b)
	h.produce(
		signIn("first", ada, "192.0.2.1", "64500", 0),
		signIn("thief", ada, "203.0.113.9", "64511", 2),
	)
	b.RefuseProducerIDs(kerr.ClusterAuthorizationFailed)
	h.start("one", t.TempDir(), atLeastOnce)
	h.judged()
	h.wantAlerts("first", "thief")
}

func TestExactlyOnceSaysThatTransactionsAreRefused(t *testing.T) {
	b := brokertest.Fake(t)
	withoutTransactions(b)
	h := newHouse(t, b)
	h.produce(signIn("first", "ada@example.com", "192.0.2.1", "64500", 0))
	h.start("one", t.TempDir()).expect("delivery: at-least-once")
}

// Delivery may be changed, there and back.
func TestEitherDeliveryGoesOnFromTheOther(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHouse(t, b)
		dir, user := t.TempDir(), "ada@example.com"
		for i, opts := range [][]stageOption{nil, {atLeastOnce}, nil, {atLeastOnce}} {
			h.produce(
				signIn(fmt.Sprint("new ", i), user, fmt.Sprintf("203.0.113.%d", i), fmt.Sprint(64500+i), 10*i),
				signIn(fmt.Sprint("old ", i), user, "203.0.113.0", "64500", 10*i+1),
			)
			s := h.start("one", dir, opts...)
			h.judged()
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			if i == 2 {
				dir = t.TempDir()
			}
		}
		h.wantAlerts("new 0", "new 1", "new 2", "new 3")
		for i, r := range h.b.ReadAll(h.topics.Baseline) {
			t.Log(i, r.Offset, state.Carried(r.Value))
		}
	})
}

// tenant makes sign-ins of some users, and says which of them alert.
type tenant struct {
	random *rand.Rand
	known  map[string]bool
	want   map[string]bool
	n      int
}

func newTenant(seed uint64) *tenant {
	return &tenant{random: rand.New(rand.NewPCG(seed, 1)), known: map[string]bool{}, want: map[string]bool{}}
}

func (s *tenant) hour(at, count int) (list []*detector.SignIn) {
	fresh := make(map[string]bool)
	for range count {
		user := fmt.Sprintf("user%d@example.com", s.random.IntN(40))
		asn := fmt.Sprint(64496 + s.random.IntN(8))
		ip := fmt.Sprintf("192.0.2.%d", s.n%256)
		id := fmt.Sprintf("sign-in-%d", s.n)
		s.n++
		list = append(list, signIn(id, user, ip, asn, at))
		if !s.known[user+asn] && !s.known[user+ip] {
			s.want[id] = true
		}
		fresh[user+asn], fresh[user+ip] = true, true
	}
	maps.Copy(s.known, fresh)
	return list
}

// wantAtLeast checks that of each alert there is one, and of no other any.
func (h *house) wantAtLeast(want map[string]bool) (repeated int) {
	h.t.Helper()
	got := h.alerts()
	for id := range want {
		if got[id] == 0 {
			h.t.Errorf("no alert for sign-in %s", id)
		}
		repeated += max(got[id]-1, 0)
		delete(got, id)
	}
	for id, n := range got {
		h.t.Errorf("%d alerts for sign-in %s, want none", n, id)
	}
	return repeated
}

func TestAtLeastOnceAlertsAreTheSameWhoeverJudges(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		withoutTransactions(b)
		h := newHouse(t, b)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		s := newTenant(seed)
		dirs := []string{t.TempDir(), t.TempDir()}
		one := h.start("one", dirs[0], atLeastOnce)
		for at := range 12 {
			h.produce(s.hour(at, 200)...)
			switch at {
			case 2:
				h.start("two", dirs[1], atLeastOnce)
			case 5:
				if err := one.stop(); err != nil {
					t.Fatal(err)
				}
			case 8:
				one = h.start("one", dirs[0], atLeastOnce)
			}
		}
		h.judged()
		if n := h.wantAtLeast(s.want); n > 0 {
			t.Errorf("%d alerts came again though nothing crashed", n)
		}
	})
}

// An instance freezes with a profile on its way, for longer than its session. When that arrives, its
// successor has written profiles that know more. The instance keeps nothing then, and does not take
// itself to know them when it is given the partition back before anybody has mended it.
func TestAtLeastOnceAZombieDoesNotClaimToKnowWhatItsSuccessorWrote(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		withoutTransactions(b)
		h, user := newHouse(t, b), "ada@example.com"
		slow := func(cfg *detect.Config, d *detect.Deps) {
			// Of one member: who is frozen as it joins holds the other up for as long as a transaction may take.
			cfg.GroupProtocol, cfg.TransactionTimeout, cfg.Members = detect.Classic, time.Minute, 1
			d.LookEvery = time.Hour
		}
		net := newNetwork(kmsg.Produce, frozen, 0)
		one := h.start("one", t.TempDir(), atLeastOnce, slow, net.under)
		t.Cleanup(net.thaw)
		h.produce(signIn("first", user, "192.0.2.1", "64500", 0))
		h.judged()
		net.left.Store(1) // the next that it writes: a profile and no alert
		h.produce(signIn("known", user, "192.0.2.1", "64500", 1))
		h.until("the instance to freeze", net.done.Load)
		kept := make(chan error, 1)
		go func() { kept <- one.wantKept(user, 1, 1) }() // when it lets go of the partition

		two := h.start("two", t.TempDir(), atLeastOnce, slow)
		h.produce(signIn("thief", user, "203.0.113.9", "64511", 2))
		h.judged()
		net.thaw()
		h.until("the zombie's profile to arrive", func() bool {
			var newest, last int64
			for _, r := range h.b.ReadAll(h.topics.Baseline) {
				last = state.Carried(r.Value)
				newest = max(newest, last)
			}
			return last < newest
		})
		if err := <-kept; err != nil {
			t.Error(err)
		}
		if err := two.stop(); err != nil {
			t.Fatal(err)
		}
		h.produce(signIn("again", user, "203.0.113.9", "64511", 4))
		h.judged()
		h.wantAlerts("first", "thief")
		if err := one.stop(); err != nil { // what it mended is counted by then
			t.Error(err)
		}
		if n, _ := one.count("prtwatch_baseline_mended_total"); n != 1 {
			t.Errorf("%v profiles were mended, want 1", n)
		}
	})
}

// wantKept waits until the stage has given a user's partition back, and says how the state differs
// from a profile that carries an offset, under a checkpoint.
func (s *stage) wantKept(user string, carried, checkpoint int64) error {
	lease, err := s.store.Lease(s.t.Context(), kafka.Partition([]byte(user), partitions))
	if err != nil {
		return err
	}
	profile, err := lease.Encoded(user)
	cp, _, cpErr := lease.Checkpoint()
	if state.Carried(profile) != carried || cp.Offset != checkpoint {
		err = errors.Join(err, fmt.Errorf("the state has a profile that carries %d under checkpoint %d, want %d under %d",
			state.Carried(profile), cp.Offset, carried, checkpoint))
	}
	return errors.Join(err, cpErr, lease.Release())
}

// What is judged again after a crash finds whom it found the first time: what profiles say that they have
// taken in is passed over, though they have forgotten hours since, and nobody is swept by a time that the
// group does not know yet.
func TestAtLeastOnceWhatAProfileHasTakenInIsNotJudgedAgain(t *testing.T) {
	for _, test := range []struct {
		name string
		then func(h *house)
	}{
		{"it has forgotten hours", func(h *house) {
			h.produce(signIn("later", ada, "203.0.113.1", "64501", 500))
			h.until("the alert", func() bool { return h.alerts()["later"] == 1 })
		}},
		{"its time is up", func(h *house) { h.tick(detector.Window + 48 + 12) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h, dir := newHouse(t, brokertest.Fake(t)), t.TempDir()
			one := h.start("one", dir, atLeastOnce, alone)
			h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
			h.judged()
			refusing := h.refuseOffsets()
			h.produce(signIn("known", ada, "192.0.2.1", "64500", 2))
			h.until("the profile", func() bool { return len(h.b.ReadAll(h.topics.Baseline)) == 2 })
			h.until("its work to be done", func() bool { return one.works() == 2 })
			test.then(h)
			h.until("what followed to be done", func() bool { return one.works() > 2 })
			if err := one.stop(); err != nil {
				t.Log(err)
			}
			refusing.Store(false)
			h.start("one", dir, atLeastOnce, alone)
			h.judged()
			if got := h.alerts(); got["known"] > 0 {
				t.Errorf("an alert was made up: %v", got)
			}
		})
	}
}

// works returns how often a stage has written what it had in hand.
func (s *stage) works() float64 {
	ended, _ := s.count("prtwatch_transactions_total")
	return ended
}

// refuseOffsets has the embedded broker refuse what the group commits outside of transactions, as amid a
// rebalance, while the flag is set.
func (h *house) refuseOffsets() *atomic.Bool {
	var refusing atomic.Bool
	refusing.Store(true)
	cluster := h.b.Embedded().Cluster
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		commit := request.(*kmsg.OffsetCommitRequest)
		if commit.Group != h.group || !refusing.Load() {
			return nil, nil, false
		}
		response := commit.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, topic := range commit.Topics {
			answer := kmsg.NewOffsetCommitResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				part := kmsg.NewOffsetCommitResponseTopicPartition()
				part.Partition, part.ErrorCode = p.Partition, kerr.RebalanceInProgress.Code
				answer.Partitions = append(answer.Partitions, part)
			}
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, true
	})
	return &refusing
}

// The group forgets a member amid a join, of which the client says nothing: it joins anew, and has its
// partitions still. Others may have had them, so what it has judged is not committed under its new id.
func TestAtLeastOnceNothingIsCommittedUnderAnotherMemberID(t *testing.T) {
	t.Parallel()
	h := newHouse(t, brokertest.Fake(t))
	var client groupClient
	h.start("one", t.TempDir(), atLeastOnce, alone, func(_ *detect.Config, d *detect.Deps) {
		d.Client = append(d.Client, kgo.WithHooks(&client))
	})
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
	h.judged()
	refusing := h.refuseOffsets()
	h.produce(signIn("second", ada, "203.0.113.1", "64501", 2))
	h.until("the profile", func() bool { return len(h.b.ReadAll(h.topics.Baseline)) == 2 })
	cluster := h.b.Embedded().Cluster
	var forgotten atomic.Bool
	cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		if forgotten.CompareAndSwap(false, true) {
			cluster.SleepControl(func() { h.evict("one-0") })
		}
		return nil, nil, false
	})
	session := client.Load()
	given, _ := session.GroupMetadata()
	session.ForceRebalance()
	h.until("the client to have another member id", func() bool {
		id, _ := session.GroupMetadata()
		return id != "" && id != given || client.Load() != session
	})
	refusing.Store(false)
	h.judged()
	if client.Load() == session {
		t.Error("offsets were committed under another member id than that under which the partitions were judged")
	}
	h.wantAlerts("first", "second")
}

// polled hears of the records that a client hands to the member.
type polled chan *kgo.Record

// OnFetchRecordUnbuffered hears of every record that a client lets go of.
func (p polled) OnFetchRecordUnbuffered(r *kgo.Record, polled bool) {
	if polled && len(r.Value) > 0 {
		p <- r
	}
}

// Who hears that a partition is another's while he has records of it in hand writes nothing of them any
// more: neither alerts nor, where those were on their way, profiles.
func TestAtLeastOnceWhatIsAnothersAlreadyIsNotWritten(t *testing.T) {
	t.Run("alerts", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, brokertest.Fake(t))
		inHand := make(polled, 10)
		one := h.start("one", t.TempDir(), atLeastOnce, alone, func(cfg *detect.Config, d *detect.Deps) {
			cfg.Transaction, cfg.TransactionTimeout = time.Minute, time.Minute // a rebalance ends it, and a stop
			d.Client = append(d.Client, kgo.WithHooks(inHand))
		})
		h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
		<-inHand
		h.evict("one-0")
		<-inHand // once more
		if err := one.stop(); err != nil {
			t.Fatal(err)
		}
		h.judged()
		h.wantAlerts("first")
	})
	t.Run("profiles", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, brokertest.Fake(t))
		one := h.start("one", t.TempDir(), atLeastOnce, alone, func(cfg *detect.Config, _ *detect.Deps) { cfg.TransactionTimeout = time.Minute })
		h.until("one to judge all", func() bool { running, _ := one.Partitions(); return running == partitions })
		held, release := h.holdProduce()
		h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
		<-held
		joining := make(chan struct{})
		cluster := h.b.Embedded().Cluster
		var again atomic.Bool
		cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
			if again.CompareAndSwap(false, true) {
				close(joining)
				cluster.SleepControl(func() { <-t.Context().Done() })
			}
			return nil, nil, false
		})
		h.evict("one-0")
		<-joining
		h.start("two", t.TempDir(), atLeastOnce, alone)
		h.judged()
		release()
		h.until("one to have written what it had in hand", func() bool { return one.works() > 0 })
		if n := len(h.b.ReadAll(h.topics.Baseline)); n != 1 {
			t.Errorf("%d profiles were written, want its successor's alone", n)
		}
	})
}

// A zombie's profile arrives at an owner who has nothing to write himself.
func TestAtLeastOnceAnOwnerLooksForWhatOthersWrote(t *testing.T) {
	t.Parallel()
	h := newHouse(t, brokertest.Fake(t))
	one := h.start("one", t.TempDir(), atLeastOnce, func(_ *detect.Config, d *detect.Deps) { d.LookEvery = 10 * time.Millisecond })
	for hour := range 2 {
		h.produce(signIn(fmt.Sprint("from ", hour), ada, fmt.Sprint("192.0.2.", hour), fmt.Sprint(64500+hour), hour))
		h.judged()
	}
	written := h.b.ReadAll(h.topics.Baseline)
	h.b.Produce(h.again(written[0]))
	h.until("the profile to be mended", func() bool { mended, _ := one.count("prtwatch_baseline_mended_total"); return mended == 1 })
	now := h.b.ReadAll(h.topics.Baseline)
	if got, want := state.Carried(now[len(now)-1].Value), state.Carried(written[1].Value); got != want {
		t.Errorf("the last profile carries %d, want %d", got, want)
	}
}

// An alert, or a profile, that the broker refuses ends the instance, whose next start judges the sign-in
// again. Profiles must not have taken it in by then.
func TestEitherWayWhatABrokerRefusesIsJudgedAgain(t *testing.T) {
	for _, delivery := range deliveries {
		for _, topic := range []string{"alerts", "baseline"} {
			t.Run(delivery.name+"/"+topic, func(t *testing.T) {
				h, dir := newHouse(t, brokertest.Fake(t)), t.TempDir()
				one := h.start("one", dir, delivery.option)
				h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
				h.judged()
				name := map[string]string{"alerts": h.topics.Alerts, "baseline": h.topics.Baseline}[topic]
				refuses := h.b.Embedded().Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: name, Err: kerr.MessageTooLarge, Count: -1})
				h.produce(signIn("thief", ada, "203.0.113.9", "64511", 3))
				one.expect("MESSAGE_TOO_LARGE")
				refuses.Remove()
				h.start("one", dir, delivery.option)
				h.judged()
				for _, id := range []string{"first", "thief"} {
					if n := h.alerts()[id]; n == 0 || n > 1 && (topic == "alerts" || delivery.name == "exactly once") {
						t.Errorf("%d alerts for sign-in %s", n, id)
					}
				}
			})
		}
	}
}

// What no later commit makes up for ends the stage with what to do, or is said where nobody knows that.
func TestOffsetsThatAreRefusedForGoodAreNoSecret(t *testing.T) {
	for _, test := range []struct {
		name   string
		option stageOption
		key    kmsg.Key
		err    *kerr.Error
		want   string
	}{
		{"a mark that is too long, exactly once", nothing, kmsg.TxnOffsetCommit, kerr.OffsetMetadataTooLarge, "set offset.metadata.max.bytes of the brokers to 4096"},
		{"a mark that is too long, at least once", atLeastOnce, kmsg.OffsetCommit, kerr.OffsetMetadataTooLarge, "set offset.metadata.max.bytes of the brokers to 4096"},
		{"marks that are too many, exactly once", nothing, kmsg.TxnOffsetCommit, kerr.InvalidCommitOffsetSize, "set max.message.bytes of topic __consumer_offsets"},
		{"marks that are too many, at least once", atLeastOnce, kmsg.OffsetCommit, kerr.InvalidCommitOffsetSize, "set max.message.bytes of topic __consumer_offsets"},
		{"a right that was taken back, exactly once", nothing, kmsg.TxnOffsetCommit, kerr.GroupAuthorizationFailed, "grant the right to this user"},
		{"a right that was taken back, at least once", atLeastOnce, kmsg.OffsetCommit, kerr.GroupAuthorizationFailed, "grant the right to this user"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, brokertest.Fake(t))
			h.b.Embedded().Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{test.key}, Err: test.err, Count: -1})
			h.produce(inEach("user", 0)...)
			h.start("one", t.TempDir(), test.option, alone).expect(test.want)
		})
	}
	for _, err := range []*kerr.Error{kerr.UnknownServerError, kerr.RebalanceInProgress} {
		t.Run(err.Message, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, brokertest.Fake(t))
			refuses := h.b.Embedded().Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: h.group, Err: err, Count: -1})
			h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
			said := sentences{message: "committing offsets is refused; what is judged is judged again after a restart"}
			one := h.start("one", t.TempDir(), atLeastOnce, func(_ *detect.Config, d *detect.Deps) { d.Log = slog.New(&said) })
			h.until("some commits to be refused", func() bool { n, _ := one.count("prtwatch_detect_commit_errors_total"); return n > 2 })
			said.mu.Lock()
			defer said.mu.Unlock()
			if want := err == kerr.UnknownServerError; (len(said.said) == 1) != want {
				t.Errorf("it was said %d times", len(said.said))
			}
			refuses.Remove()
		})
	}
}

// A member has partitions taken from it while the broker holds what it wrote of them. Who gets them waits until it
// has committed that, and judges nothing of it once more.
func TestAtLeastOnceWhatIsInHandIsCommittedBeforeAnotherHasIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t, brokertest.Fake(t))
	patient := func(c *detect.Config, d *detect.Deps) {
		alone(c, d)
		c.Transaction, c.TransactionTimeout = time.Second, time.Minute // of all partitions
		detect.SetHandOver(d, time.Minute)
	}
	one := h.start("one", t.TempDir(), atLeastOnce, patient)
	h.until("one to judge all partitions", func() bool { running, _ := one.Partitions(); return running == partitions })
	held, release := h.holdProduce()
	var want []string
	list := inEach("user", 0)
	h.produce(list...)
	for _, s := range list {
		want = append(want, s.ID)
	}
	<-held
	two := h.start("two", t.TempDir(), atLeastOnce, patient)
	h.until("the group to have shared them out anew", func() bool {
		groups, err := h.b.Admin().DescribeGroups(t.Context(), h.group)
		return err == nil && groups[h.group].State == "Stable" && len(groups[h.group].Members) == 2
	})
	time.Sleep(time.Second) // in which one hears of it, and two has what one does not keep
	release()
	h.until("two to judge half of them", func() bool { running, _ := two.Partitions(); return running == partitions/2 })
	h.judged()
	h.wantAlerts(want...)
}
