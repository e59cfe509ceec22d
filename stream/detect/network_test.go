package detect_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// harm is what happens to a connection at one request.
type harm string

const (
	cut    harm = "cut"         // the request does not arrive, and the connection breaks
	unread harm = "answer lost" // the broker answers, and the connection breaks before we have read it
	mute   harm = "never heard" // the request arrives, and nothing is heard of the broker any more
	gone   harm = "half-open"   // neither arrives anything nor is anything heard
	frozen harm = "frozen"      // nothing arrives, on any connection, until thaw: then all does
)

// network does one harm: at the nth request of a kind.
type network struct {
	key  kmsg.Key
	do   harm
	left atomic.Int64
	done atomic.Bool

	thawed chan struct{}
	thaw   func()
}

func newNetwork(key kmsg.Key, do harm, nth int) *network {
	n := &network{key: key, do: do, thawed: make(chan struct{})}
	n.thaw = sync.OnceFunc(func() { close(n.thawed) })
	n.left.Store(int64(nth))
	return n
}

// under puts the network under a stage's clients.
func (n *network) under(_ *detect.Config, d *detect.Deps) {
	d.Client = append(d.Client, kgo.RequestTimeoutOverhead(time.Second),
		kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &frailConn{Conn: conn, network: n, answers: bufio.NewReader(conn)}, nil
		}))
}

// frailConn is a connection of a network. The client writes one request at a time.
type frailConn struct {
	net.Conn
	network *network
	answers *bufio.Reader
	rest    []byte // of an answer that is being read

	mu       sync.Mutex
	swallows bool   // what is written
	deaf     bool   // to every answer
	loses    uint32 // the correlation id of the answer that is lost
	losing   bool
}

func (c *frailConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.swallows {
		return len(p), nil
	}
	n := c.network
	if len(p) >= 12 && kmsg.Key(binary.BigEndian.Uint16(p[4:])) == n.key && n.left.Add(-1) == 0 {
		n.done.Store(true)
		switch n.do {
		case cut:
			return 0, errors.Join(net.ErrClosed, c.Conn.Close())
		case unread:
			c.loses, c.losing = binary.BigEndian.Uint32(p[8:]), true
		case mute:
			c.deaf = true
		case gone:
			c.deaf, c.swallows = true, true
			return len(p), nil
		}
	}
	if n.do == frozen && n.done.Load() {
		<-n.thawed
	}
	return c.Conn.Write(p)
}

func (c *frailConn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		var size [4]byte
		if _, err := io.ReadFull(c.answers, size[:]); err != nil {
			return 0, err
		}
		answer := make([]byte, 4+binary.BigEndian.Uint32(size[:]))
		copy(answer, size[:])
		if _, err := io.ReadFull(c.answers, answer[4:]); err != nil {
			return 0, err
		}
		c.mu.Lock()
		deaf, lost := c.deaf, c.losing && binary.BigEndian.Uint32(answer[4:]) == c.loses
		c.mu.Unlock()
		if lost {
			return 0, errors.Join(io.ErrUnexpectedEOF, c.Conn.Close())
		}
		if !deaf {
			c.rest = answer
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// networkCase is one harm to one kind of request.
type networkCase struct {
	protocol string
	key      kmsg.Key
	do       harm
	nth      int
	least    bool // delivery at least once
}

func (c networkCase) String() string {
	name := fmt.Sprintf("%s %s %d %s", c.protocol, c.key.Name(), c.nth, c.do)
	if c.least {
		name += " at least once"
	}
	return name
}

// networkCases returns every harm to every kind of request, the nth of its kind by chance.
func networkCases(random *rand.Rand) (cases []networkCase) {
	for _, kind := range []struct {
		key       kmsg.Key
		protocols []string
		most      int // how many of them there are for sure
		harms     []harm
	}{
		{kmsg.InitProducerID, []string{detect.Classic}, 1, []harm{cut, unread, mute, gone}},
		{kmsg.AddPartitionsToTxn, []string{detect.Classic}, 4, []harm{cut, unread, mute, gone}},
		{kmsg.Produce, []string{detect.Classic, detect.Consumer}, 4, []harm{cut, unread, mute, gone}},
		{kmsg.TxnOffsetCommit, []string{detect.Classic, detect.Consumer}, 4, []harm{cut, unread, mute, gone}},
		{kmsg.EndTxn, []string{detect.Classic, detect.Consumer}, 4, []harm{cut, unread, mute, gone}},
		{kmsg.OffsetFetch, []string{detect.Classic, detect.Consumer}, 1, []harm{cut, unread, mute, gone}},
		{kmsg.ConsumerGroupDescribe, []string{detect.Consumer}, 1, []harm{cut, unread}}, // at the start
		{kmsg.Heartbeat, []string{detect.Classic}, 4, []harm{cut, unread, mute, gone}},
		{kmsg.ConsumerGroupHeartbeat, []string{detect.Consumer}, 4, []harm{cut, unread, mute, gone}},
		{kmsg.Fetch, []string{detect.Classic}, 4, []harm{cut, unread, mute, gone}},
		{kmsg.ListOffsets, []string{detect.Classic}, 2, []harm{cut, unread, mute, gone}},
		// A broker may take the rebalance timeout, a minute, to answer: so long it is believed.
		{kmsg.JoinGroup, []string{detect.Classic}, 1, []harm{cut, unread}},
		{kmsg.SyncGroup, []string{detect.Classic}, 1, []harm{cut, unread}},
	} {
		for _, protocol := range kind.protocols {
			for _, do := range kind.harms {
				cases = append(cases, networkCase{protocol: protocol, key: kind.key, do: do, nth: 1 + random.IntN(kind.most)})
			}
		}
	}
	for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.Produce, kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.Heartbeat, kmsg.ListOffsets} {
		for _, do := range []harm{cut, unread, mute, gone} {
			nth := 1
			if key == kmsg.Produce || key == kmsg.OffsetCommit {
				nth += random.IntN(4)
			}
			cases = append(cases, networkCase{protocol: detect.Classic, key: key, do: do, nth: nth, least: true})
		}
	}
	return cases
}

// A connection that breaks at any request, be it done or not, or falls silent for ever, changes
// nothing in the alerts. PRTWATCH_TEST_NETWORK=all tries all kinds, else some by chance.
func TestAConnectionThatBreaksAtAnyRequestChangesNoAlert(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	cases := networkCases(random)
	if os.Getenv("PRTWATCH_TEST_NETWORK") != "all" {
		random.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
		cases = cases[:5]
	}
	for _, c := range cases {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) { judgeThrough(t, b, c) })
		})
	}
}

const networkHours = 6

// judgeThrough judges some hours over a network that harms one request. At least once, the embedded
// broker has no transactions.
func judgeThrough(t *testing.T, b *brokertest.Broker, c networkCase) {
	if c.least {
		withoutTransactions(b)
	}
	h, dir, net := newHouse(t, b), t.TempDir(), newNetwork(c.key, c.do, c.nth)
	s := h.start("one", dir, net.under, func(cfg *detect.Config, _ *detect.Deps) {
		cfg.Members, cfg.TransactionTimeout, cfg.GroupProtocol = 1, 2*time.Second, c.protocol
	}, func(_ *detect.Config, d *detect.Deps) { d.AtLeastOnce = c.least })
	users := []string{"ada@example.com", "bob@example.com", "cleo@example.com", "dan@example.com"}
	var want []string
	for at := range networkHours {
		if at == networkHours-1 && (c.key == kmsg.Heartbeat || c.key == kmsg.ConsumerGroupHeartbeat) {
			// They come by themselves; other requests come of what there is to judge.
			h.until(fmt.Sprintf("%s number %d", c.key.Name(), c.nth), net.done.Load)
		}
		var list []*detector.SignIn
		for i, user := range users {
			home, away := fmt.Sprintf("home-%d-%d", i, at), fmt.Sprintf("away-%d-%d", i, at)
			list = append(list, signIn(home, user, "192.0.2.1", "64500", at),
				signIn(away, user, fmt.Sprintf("203.0.113.%d", at+1), fmt.Sprint(64501+at), at))
			want = append(want, away)
			if at == 0 {
				want = append(want, home)
			}
		}
		h.produce(list...)
		h.judged()
	}
	if err := s.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	if !net.done.Load() && c.key != kmsg.AddPartitionsToTxn { // newer brokers need none
		t.Errorf("there was no %s number %d", c.key.Name(), c.nth)
	}
	if c.least {
		some := make(map[string]bool)
		for _, id := range want {
			some[id] = true
		}
		h.wantAtLeast(some)
	} else {
		h.wantAlerts(want...)
	}
	h.holds(dir, users)
}

// holds checks that Pebble has what the baseline topic has, and each user's networks.
func (h *house) holds(dir string, users []string) {
	h.t.Helper()
	store := h.open(dir)
	defer store.Close()
	ends, err := h.b.Admin().ListEndOffsets(context.Background(), h.topics.Baseline)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, user := range users {
		p := kafka.Partition([]byte(user), partitions)
		lease, err := store.Lease(h.t.Context(), p)
		if err != nil {
			h.t.Fatal(err)
		}
		cp, ok, err := lease.Checkpoint()
		if end, _ := ends.Lookup(h.topics.Baseline, p); err != nil || !ok || cp.Offset > end.Offset {
			h.t.Errorf("the checkpoint of partition %d is %+v (%v, %v), the topic ends at %d", p, cp, ok, err, end.Offset)
		}
		profile, err := lease.Profile(user)
		if err != nil {
			h.t.Fatal(err)
		}
		hour := detector.HourOf(t0)
		if ips, asns, _, _ := profile.Counts(hour, hour+networkHours); ips != 1+networkHours || asns != 1+networkHours {
			h.t.Errorf("Pebble knows %d addresses and %d networks of %s, want %d", ips, asns, user, 1+networkHours)
		}
		if err := lease.Release(); err != nil {
			h.t.Error(err)
		}
	}
}
