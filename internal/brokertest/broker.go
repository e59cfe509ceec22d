// Package brokertest gives tests a Kafka: the embedded one, and the real one that
// PRTWATCH_TEST_BROKERS names. It owns topic names that do not collide on a shared broker, and
// the few helpers with which a test fills a topic and reads it back. It must know nothing of
// sign-ins, alerts or prtwatch's topics.
//
// Start at Each.
package brokertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/broker"
)

// Env names the environment variable that holds the brokers (host:port, comma-separated,
// plaintext) of a real Kafka to run the broker suite against.
const Env = "PRTWATCH_TEST_BROKERS"

// patience bounds every call of a helper here: what takes longer has hung.
const patience = 60 * time.Second

// Broker is a Kafka as one test sees it. Its helpers end the test when something goes wrong
// and must be called from the test's goroutine.
type Broker struct {
	tb       testing.TB
	addrs    []string
	prefix   string
	embedded *broker.Embedded // nil: a real one
	door     string           // host:port where users have to say who they are; empty: nowhere
	login    []kgo.Opt        // of our own clients
	client   *kgo.Client
	admin    *kadm.Client
}

// Each runs the test on an embedded broker (subtest kfake) and, where Env is set, on the
// real one (subtest kafka) too.
func Each(t *testing.T, test func(t *testing.T, b *Broker)) {
	t.Helper()
	t.Run("kfake", func(t *testing.T) { test(t, Fake(t)) })
	if addrs := realAddrs(); addrs != nil {
		t.Run("kafka", func(t *testing.T) { test(t, connectReal(t, addrs)) })
	}
}

// Start returns the real broker that Env names, else an embedded one.
func Start(tb testing.TB) *Broker {
	tb.Helper()
	if addrs := realAddrs(); addrs != nil {
		return connectReal(tb, addrs)
	}
	return Fake(tb)
}

// Fake returns an embedded broker, whatever Env says: for tests of what only a fake can be
// made to do.
func Fake(tb testing.TB, opts ...kfake.Opt) *Broker {
	tb.Helper()
	return fake(tb, nil, opts...)
}

func fake(tb testing.TB, login []kgo.Opt, opts ...kfake.Opt) *Broker {
	tb.Helper()
	e, err := broker.StartEmbedded(opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(e.Close)
	return connect(tb, e.Addrs(), e, login...)
}

func realAddrs() []string {
	if v := strings.TrimSpace(os.Getenv(Env)); v != "" {
		return strings.Split(v, ",")
	}
	return nil
}

// connect makes the test's view of the broker, and takes its topics and groups away when
// the test ends.
func connect(tb testing.TB, addrs []string, e *broker.Embedded, login ...kgo.Opt) *Broker {
	tb.Helper()
	b := &Broker{tb: tb, addrs: addrs, embedded: e, login: login, prefix: fmt.Sprintf("test-%08x", rand.Uint32())}
	// MetadataMinAge: a topic that was created a moment ago is produced to at once.
	b.client = b.Client(kgo.MetadataMinAge(10*time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	b.admin = kadm.NewClient(b.client)
	if e == nil {
		tb.Cleanup(b.sweep)
	}
	return b
}

// sweep deletes what the test left on a shared broker. Groups whose members are still
// there stay: the broker refuses, and a later run does not meet their names.
func (b *Broker) sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if topics, err := b.admin.ListTopics(ctx); err == nil {
		if mine := withPrefix(topics.Names(), b.prefix); len(mine) > 0 {
			_, _ = b.admin.DeleteTopics(ctx, mine...)
		}
	}
	if groups, err := b.admin.ListGroups(ctx); err == nil {
		if mine := withPrefix(groups.Groups(), b.prefix); len(mine) > 0 {
			_, _ = b.admin.DeleteGroups(ctx, mine...)
		}
	}
}

func withPrefix(names []string, prefix string) []string {
	var mine []string
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			mine = append(mine, name)
		}
	}
	return mine
}

// Addrs returns host:port of the brokers.
func (b *Broker) Addrs() []string { return b.addrs }

// Real reports whether this is a Kafka of its own process, shared with other tests.
func (b *Broker) Real() bool { return b.embedded == nil }

// Embedded returns the fake, nil where the broker is real.
func (b *Broker) Embedded() *broker.Embedded { return b.embedded }

// Name returns a name (of a topic, a group, a transactional id) that belongs to this test
// alone, ending in name.
func (b *Broker) Name(name string) string { return b.prefix + "." + name }

// Client returns a client of this broker that lives as long as the test.
func (b *Broker) Client(opts ...kgo.Opt) *kgo.Client {
	b.tb.Helper()
	cl, err := kgo.NewClient(slices.Concat([]kgo.Opt{kgo.SeedBrokers(b.addrs...)}, b.login, opts)...)
	if err != nil {
		b.tb.Fatalf("making a client of the test broker: %v", err)
	}
	b.tb.Cleanup(cl.Close)
	return cl
}

// Admin returns an admin client of this broker.
func (b *Broker) Admin() *kadm.Client { return b.admin }

// Deafen keeps from members of classic groups, from all if none is named, what their heartbeats would
// tell them: they do not hear of a rebalance, nor that they were thrown out. The broker is embedded.
func (b *Broker) Deafen(members ...string) {
	cluster := b.embedded.Cluster
	cluster.ControlKey(int16(kmsg.Heartbeat), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		r := request.(*kmsg.HeartbeatRequest)
		return r.ResponseKind(), nil, len(members) == 0 || slices.Contains(members, r.MemberID)
	})
}

// RefuseProducerIDs has no producer get an id any more, be it for transactions or for idempotence. The
// broker is embedded; what Produce was called for before goes on.
func (b *Broker) RefuseProducerIDs(refusal *kerr.Error) {
	cluster := b.embedded.Cluster
	cluster.ControlKey(int16(kmsg.InitProducerID), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.InitProducerIDResponse)
		response.ErrorCode = refusal.Code
		return response, nil, true
	})
}

// eventually waits until the broker answers that something is so.
func (b *Broker) eventually(what string, so func(context.Context) bool) {
	b.tb.Helper()
	ctx, cancel := b.context()
	defer cancel()
	for !so(ctx) {
		if ctx.Err() != nil {
			b.tb.Fatalf("waited %s for %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (b *Broker) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
