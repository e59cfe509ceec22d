package detect_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
)

// cable is a network that can be cut for good, as a process that is killed is from its brokers.
type cable struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (c *cable) under(_ *detect.Config, d *detect.Deps) {
	d.Client = append(d.Client, kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err == nil && c.cut {
			err = errors.Join(errors.New("cut"), conn.Close())
		}
		if err != nil {
			return nil, err
		}
		c.conns = append(c.conns, conn)
		return conn, nil
	}))
}

func (c *cable) sever() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

func speaking(protocol string) stageOption {
	return func(c *detect.Config, _ *detect.Deps) { c.GroupProtocol = protocol }
}

var protocols = []string{detect.Classic, detect.Consumer}

// The session of who was killed lasts on: for a minute under the classic protocol, as this test
// has it, for 45 s under the other. Who comes back under its name waits for none of it.
func TestAProcessThatWasKilledHasItsPartitionsAgainAtOnce(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h, net := newHouse(t, b), new(cable)
				long := func(c *detect.Config, _ *detect.Deps) {
					c.SessionTimeout, c.TransactionTimeout = time.Minute, 2*time.Second
				}
				h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
				one := h.start("one", t.TempDir(), net.under, speaking(protocol), long)
				h.judged()
				h.until("the stage to be ready", func() bool { ready, _ := one.Ready(); return ready })
				net.sever()
				h.produce(signIn("known", ada, "192.0.2.1", "64500", 1), signIn("thief", ada, "203.0.113.9", "64511", 1))
				began := time.Now()
				again := h.start("one", t.TempDir(), speaking(protocol), long)
				h.judged()
				if took := time.Since(began); took > 30*time.Second {
					t.Errorf("the partitions were dark for %s", took)
				}
				h.wantAlerts("first", "thief")
				if err := again.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A static member's client says nothing when it closes, or that it will be back.
func TestWhoStopsLeavesItsPartitionsToOthersAtOnce(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHouse(t, b)
				long := func(c *detect.Config, _ *detect.Deps) { c.SessionTimeout = time.Minute }
				h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
				one := h.start("one", t.TempDir(), speaking(protocol), long)
				h.judged()
				h.until("the stage to be ready", func() bool { ready, _ := one.Ready(); return ready })
				began := time.Now()
				if err := one.stop(); err != nil {
					t.Fatal(err)
				}
				h.produce(signIn("thief", ada, "203.0.113.9", "64511", 1))
				h.start("two", t.TempDir(), speaking(protocol), long)
				h.judged()
				if took := time.Since(began); took > 30*time.Second {
					t.Errorf("the partitions were dark for %s", took)
				}
				h.wantAlerts("first", "thief")
			})
		})
	}
}

// The later of two wins, and the earlier says why it ends.
func TestOfTwoUnderOneNameTheLaterGoesOn(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHouse(t, b)
				h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
				one := h.start("one", t.TempDir(), speaking(protocol))
				h.judged()
				h.until("the stage to be ready", func() bool { ready, _ := one.Ready(); return ready })
				twin := h.start("one", t.TempDir(), speaking(protocol))
				one.expect(`another process runs as instance "one"`)
				h.produce(signIn("known", ada, "192.0.2.1", "64500", 1), signIn("thief", ada, "203.0.113.9", "64511", 1))
				h.judged()
				h.wantAlerts("first", "thief")
				if err := twin.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// The earlier of two is in the group again, when it was forgotten, before the later has joined.
func TestTheLaterWinsThoughTheEarlierComesBackFirst(t *testing.T) {
	b := brokertest.Fake(t)
	h := newHouse(t, b)
	holder := func() string {
		for _, m := range b.Embedded().Cluster.GroupInfo(h.group).Members {
			if m.InstanceID != nil && *m.InstanceID == "one-0" {
				return m.MemberID
			}
		}
		return ""
	}
	single := func(c *detect.Config, _ *detect.Deps) { c.Members = 1 }
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
	one := h.start("one", t.TempDir(), speaking(detect.Consumer), single)
	h.judged()
	h.until("the stage to be ready", func() bool { ready, _ := one.Ready(); return ready })
	original := holder()
	var back atomic.Bool
	twin := h.start("one", t.TempDir(), speaking(detect.Consumer), single, func(_ *detect.Config, d *detect.Deps) {
		d.Client = append(d.Client, kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			for !back.Load() && ctx.Err() == nil { // of a dial before the group has forgotten the earlier, nothing is held up
				now := holder()
				if now == original {
					break
				}
				back.Store(now != "")
				time.Sleep(time.Millisecond)
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}))
	})
	one.expect(`another process runs as instance "one"`)
	if !back.Load() {
		t.Error("the earlier was never back before the later had joined")
	}
	h.produce(signIn("known", ada, "192.0.2.1", "64500", 1), signIn("thief", ada, "203.0.113.9", "64511", 1))
	h.judged()
	h.wantAlerts("first", "thief")
	if err := twin.stop(); err != nil {
		t.Error(err)
	}
}

// Who is refused its name asks who has it: nobody that it knows has been replaced.
func TestWhoIsRefusedItsNameEndsOnlyWhereAnotherHasIt(t *testing.T) {
	const stranger = "stranger"
	b := brokertest.Fake(t)
	h, cluster := newHouse(t, b), b.Embedded().Cluster
	one := h.start("one", t.TempDir(), speaking(detect.Consumer), func(c *detect.Config, _ *detect.Deps) { c.Members = 1 })
	h.until("the stage to be ready", func() bool { ready, _ := one.Ready(); return ready })
	refused := make(chan struct{}, 100)
	cluster.ControlKey(int16(kmsg.ConsumerGroupHeartbeat), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
		switch r := request.(*kmsg.ConsumerGroupHeartbeatRequest); {
		case r.MemberID == stranger, r.MemberEpoch < 0:
			return nil, nil, false
		case r.MemberEpoch > 0:
			response.ErrorCode = kerr.FencedMemberEpoch.Code
			return response, nil, true
		}
		select {
		case refused <- struct{}{}:
		default:
		}
		response.ErrorCode = kerr.UnreleasedInstanceID.Code
		return response, nil, true
	})
	for range 5 { // more often than the client asks before it says so
		<-refused
	}
	join := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	join.Group, join.MemberID, join.InstanceID = h.group, stranger, kmsg.StringPtr("one-0")
	join.RebalanceTimeoutMillis, join.SubscribedTopicNames = 60_000, []string{h.topics.Signins}
	join.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	h.until("the name to be free, and taken", func() bool {
		answer, err := join.RequestWith(t.Context(), b.Client())
		if err != nil {
			t.Fatal(err)
		}
		err = kerr.ErrorForCode(answer.ErrorCode)
		if err != nil && !errors.Is(err, kerr.UnreleasedInstanceID) {
			t.Fatal(err)
		}
		return err == nil
	})
	one.expect(`another process runs as instance "one"`)
}

// The group takes a member in, and the answer is lost. The client asks again, and is refused the name
// that it has itself, or fenced by itself.
func TestAJoinWhoseAnswerIsLostIsNoTwin(t *testing.T) {
	for _, c := range []networkCase{
		{detect.Consumer, kmsg.ConsumerGroupHeartbeat, unread, 1, false},
		{detect.Classic, kmsg.JoinGroup, unread, 1, false},
		{detect.Consumer, kmsg.ConsumerGroupDescribe, cut, 1, false}, // who asks for its name is none either
	} {
		t.Run(c.protocol+" "+c.key.Name(), func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) { judgeThrough(t, b, c) })
		})
	}
}

// A member gives its session up, and its goodbye is lost: its name is in use by itself.
func TestAGoodbyeThatWasLostIsSaidAgain(t *testing.T) {
	b := brokertest.Fake(t)
	h, cluster := newHouse(t, b), b.Embedded().Cluster
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
	one := h.start("one", t.TempDir(), speaking(detect.Consumer), func(c *detect.Config, _ *detect.Deps) { c.Members, c.TransactionTimeout = 1, 2*time.Second })
	h.judged()
	var goodbyes atomic.Int64
	cluster.ControlKey(int16(kmsg.ConsumerGroupHeartbeat), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if request.(*kmsg.ConsumerGroupHeartbeatRequest).MemberEpoch != -1 || goodbyes.Add(1) > 1 {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
		response.ErrorCode = kerr.GroupAuthorizationFailed.Code
		return response, nil, true
	})
	cluster.ControlKey(int16(kmsg.EndTxn), func(request kmsg.Request) (kmsg.Response, error, bool) {
		response := request.ResponseKind().(*kmsg.EndTxnResponse)
		response.ErrorCode = kerr.InvalidProducerEpoch.Code
		return response, nil, true
	})
	began := time.Now()
	h.produce(signIn("thief", ada, "203.0.113.9", "64511", 1))
	h.judged()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it waited %s for its own session to end", took)
	}
	if goodbyes.Load() < 2 {
		t.Errorf("it said goodbye %d times", goodbyes.Load())
	}
	h.wantAlerts("first", "thief")
	if err := one.stop(); err != nil {
		t.Error(err)
	}
}

// The group takes a member in and the client does not hear of it: it joins under another id, and is refused the
// name that its first one has.
func TestAnIdThatTheClientGaveUpIsNoTwin(t *testing.T) {
	b := brokertest.Fake(t)
	h, cluster := newHouse(t, b), b.Embedded().Cluster
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
	var fenced, stale, refused atomic.Bool
	cluster.ControlKey(int16(kmsg.ConsumerGroupHeartbeat), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
		switch epoch := request.(*kmsg.ConsumerGroupHeartbeatRequest).MemberEpoch; {
		case epoch > 0 && fenced.CompareAndSwap(false, true):
			response.ErrorCode = kerr.FencedMemberEpoch.Code
		case epoch == 0 && fenced.Load() && stale.CompareAndSwap(false, true):
			response.ErrorCode = kerr.StaleMemberEpoch.Code
		default:
			refused.CompareAndSwap(false, epoch == 0 && stale.Load())
			return nil, nil, false
		}
		return response, nil, true
	})
	one := h.start("one", t.TempDir(), speaking(detect.Consumer), func(c *detect.Config, _ *detect.Deps) { c.Members = 1 })
	h.until("the client to join under another id", refused.Load)
	h.produce(signIn("thief", ada, "203.0.113.9", "64511", 1))
	h.judged()
	h.wantAlerts("first", "thief")
	if err := one.stop(); err != nil {
		t.Error(err)
	}
}

// The same while the member waits for its transaction to end: of three ids that follow one another meanwhile, the
// group knows the second.
func TestAnIdThatTheMemberNeverSawIsNoTwin(t *testing.T) {
	b := brokertest.Fake(t)
	h, cluster := newHouse(t, b), b.Embedded().Cluster
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
	var ending, byHand atomic.Bool
	var joins atomic.Int64
	third := make(chan struct{})
	cluster.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		ending.Store(true)
		cluster.SleepControl(func() {
			select {
			case <-third:
			case <-t.Context().Done():
			}
		})
		return nil, nil, false
	})
	cluster.ControlKey(int16(kmsg.ConsumerGroupHeartbeat), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		beat := *request.(*kmsg.ConsumerGroupHeartbeatRequest)
		if !ending.Load() || byHand.Load() || beat.MemberEpoch < 0 {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
		if beat.MemberEpoch > 0 {
			response.ErrorCode = kerr.FencedMemberEpoch.Code
			return response, nil, joins.Load() == 0
		}
		response.ErrorCode = kerr.StaleMemberEpoch.Code
		switch joins.Add(1) {
		case 1:
			beat.MemberEpoch = -1 // the group forgets the first
		case 2: // and takes the second in
		case 3:
			close(third)
			return nil, nil, false
		default:
			return nil, nil, false
		}
		cluster.SleepControl(func() {
			byHand.Store(true)
			defer byHand.Store(false)
			if _, err := beat.RequestWith(t.Context(), b.Client()); err != nil {
				t.Error(err)
			}
		})
		return response, nil, true
	})
	one := h.start("one", t.TempDir(), speaking(detect.Consumer), func(c *detect.Config, _ *detect.Deps) { c.Members = 1 })
	h.until("the third to ask", func() bool {
		select {
		case <-third:
			return true
		default:
			return false
		}
	})
	h.produce(signIn("thief", ada, "203.0.113.9", "64511", 1))
	h.judged()
	h.wantAlerts("first", "thief")
	if err := one.stop(); err != nil {
		t.Error(err)
	}
}

// The broker answers a JoinGroup when the whole group has joined. Who stops while it waits for
// that is not in the group any more, or the rest would wait for it.
func TestWhoStopsWhileItJoinsLeavesNothingInTheGroup(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	one := h.start("one", t.TempDir(), speaking(detect.Classic))
	h.until("the stage to be ready", func() bool { ready, _ := one.Ready(); return ready })
	h.b.Deafen()
	cluster := h.b.Embedded().Cluster
	others := func() (names []string) {
		for _, m := range cluster.GroupInfo(h.group).Members {
			if m.InstanceID != nil && strings.HasPrefix(*m.InstanceID, "two-") {
				names = append(names, *m.InstanceID)
			}
		}
		return names
	}
	two := h.start("two", t.TempDir(), speaking(detect.Classic))
	h.until("the other to wait for the group", func() bool { return len(others()) == 2 })
	if err := two.stop(); err != nil {
		t.Error(err)
	}
	if names := others(); len(names) > 0 {
		t.Errorf("still in the group: %s", names)
	}
}
