package brokertest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// Namespace imitates the Kafka endpoint of an Event Hubs namespace, as far as Microsoft tells
// what it does (azure-docs, articles/event-hubs/apache-kafka-*.md) and bugs of clients have shown
// it: TLS, SASL PLAIN with a connection string, one address, old versions of the requests, no topic ids, leader epochs of -1, no
// transactions, no topics made or altered, no compression, requests of a bounded size, commits
// of a bounded rate, throttling by fetches that bring nothing, idle connections that are closed.
//
// It is a gate in front of an embedded broker. What a client does that a namespace does not
// take is refused as that refuses it, and counted: see Refused.
type Namespace struct {
	// Inside is the namespace as its owner and an export see it: without the gate.
	Inside *Broker

	tb       testing.TB
	gate     net.Listener
	tls      *tls.Config
	password string
	caFile   string

	idle    atomic.Int64 // a time.Duration
	ration  atomic.Int64 // so many more fetches bring something
	starved atomic.Int64

	mu      sync.Mutex
	conns   map[net.Conn]bool // true once it may be used: the client has logged in
	commits map[string][]time.Time
	most    int
	refused map[string]int
}

// What an Event Hubs namespace bounds: apache-kafka-configurations.md, apache-kafka-troubleshooting-guide.md.
const (
	maxRequest       = 1_046_528
	commitsPerSecond = 4
	idleAfter        = 240 * time.Second
	// User is who logs in to a namespace; the password is the connection string.
	User = "$ConnectionString"
)

// EventHubs returns a namespace that lives as long as the test.
func EventHubs(tb testing.TB) *Namespace {
	tb.Helper()
	n := &Namespace{
		tb: tb, conns: make(map[net.Conn]bool), commits: make(map[string][]time.Time), refused: make(map[string]int),
		password: fmt.Sprintf("Endpoint=sb://example.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey=%x=;EntityPath=hub", rand.Uint64()),
	}
	n.idle.Store(int64(idleAfter))
	n.Unthrottle()
	var serving sync.WaitGroup
	tb.Cleanup(serving.Wait) // when the broker behind has hung up too
	n.Inside = Fake(tb, kfake.MaxVersions(namespaceVersions()))
	n.tls, n.caFile = certify(tb)
	gate, err := tls.Listen("tcp", "127.0.0.1:0", n.tls)
	if err != nil {
		tb.Fatalf("listening as an Event Hubs namespace: %v", err)
	}
	n.gate = gate
	serving.Go(func() { n.accept(&serving) })
	tb.Cleanup(func() {
		_ = gate.Close()
		n.hangUp()
	})
	return n
}

// namespaceVersions are those of a Kafka of today, without what a namespace is known not to
// have: topic ids, transactions, the newer groups.
func namespaceVersions() *kversion.Versions {
	v := kversion.Stable()
	for key, highest := range map[kmsg.Key]int16{
		kmsg.Fetch: 12, kmsg.Produce: 9, kmsg.Metadata: 9, kmsg.OffsetFetch: 8, kmsg.OffsetCommit: 8, kmsg.ApiVersions: 3,
		kmsg.AddPartitionsToTxn: -1, kmsg.AddOffsetsToTxn: -1, kmsg.EndTxn: -1, kmsg.TxnOffsetCommit: -1,
		kmsg.ConsumerGroupHeartbeat: -1, kmsg.ConsumerGroupDescribe: -1, kmsg.DescribeTopicPartitions: -1,
		kmsg.GetTelemetrySubscriptions: -1, kmsg.PushTelemetry: -1,
		kmsg.DescribeCluster: -1,
	} {
		v.SetMaxKeyVersion(int16(key), highest)
	}
	return v
}

// Addr returns host:port of the endpoint.
func (n *Namespace) Addr() string { return n.gate.Addr().String() }

// CAFile returns the file with the certificate that signed the endpoint's.
func (n *Namespace) CAFile() string { return n.caFile }

// ConnectionString returns the password of User.
func (n *Namespace) ConnectionString() string { return n.password }

// Options returns those of a client that is logged in.
func (n *Namespace) Options() []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(n.Addr()),
		kgo.DialTLSConfig(&tls.Config{RootCAs: n.tls.RootCAs, MinVersion: tls.VersionTLS12}),
		kgo.SASL(plain.Auth{User: User, Pass: n.password}.AsMechanism()),
	}
}

// CloseIdleAfter sets for how long a connection may be idle.
func (n *Namespace) CloseIdleAfter(d time.Duration) { n.idle.Store(int64(d)) }

// Throttle begins a phase in which fetches bring nothing, and no error either, once as many more as
// are given here have brought something.
func (n *Namespace) Throttle(after int) { n.ration.Store(int64(after)) }

// Unthrottle ends it.
func (n *Namespace) Unthrottle() { n.ration.Store(math.MaxInt64) }

// Starved is how many fetches brought nothing though there was something.
func (n *Namespace) Starved() int { return int(n.starved.Load()) }

// MostCommits is the highest number of commits that came within a second for one partition of
// one group; more than four are refused.
func (n *Namespace) MostCommits() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.most
}

// Refused says what clients did that a namespace does not take, and how often; nil is well.
func (n *Namespace) Refused() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.refused) == 0 {
		return nil
	}
	refused := make(map[string]int)
	for what, times := range n.refused {
		refused[what] = times
	}
	return refused
}

func (n *Namespace) refuse(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refused[what]++
}

// answer returns the namespace's own answer to a request, nil where the broker behind may
// answer it, and an error where the connection is closed.
func (n *Namespace) answer(conn net.Conn, request kmsg.Request) (kmsg.Response, error) {
	switch r := request.(type) {
	case *kmsg.ApiVersionsRequest:
		if r.Version > 3 {
			return nil, errReset // clients know, and ask again for less
		}
		return nil, nil
	case *kmsg.SASLHandshakeRequest, *kmsg.SASLAuthenticateRequest:
		return n.login(conn, request)
	}
	n.mu.Lock()
	in := n.conns[conn]
	n.mu.Unlock()
	if !in {
		n.refuse("a request before the login")
		return nil, errors.New("not logged in")
	}
	switch r := request.(type) {
	case *kmsg.ProduceRequest:
		return n.produce(r), nil
	case *kmsg.OffsetCommitRequest:
		return n.commit(r, time.Now()), nil
	case *kmsg.CreateTopicsRequest:
		n.refuse("making a topic")
		resp := r.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, topic := range r.Topics {
			t := kmsg.NewCreateTopicsResponseTopic()
			t.Topic, t.ErrorCode = topic.Topic, kerr.InvalidRequest.Code
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil
	case *kmsg.CreatePartitionsRequest, *kmsg.DeleteTopicsRequest, *kmsg.AlterConfigsRequest, *kmsg.IncrementalAlterConfigsRequest:
		n.refuse("altering a topic")
		return nil, errors.New("topics are the portal's")
	}
	return nil, nil
}

// login takes PLAIN with the connection string.
func (n *Namespace) login(conn net.Conn, request kmsg.Request) (kmsg.Response, error) {
	switch r := request.(type) {
	case *kmsg.SASLHandshakeRequest:
		resp := r.ResponseKind().(*kmsg.SASLHandshakeResponse)
		resp.SupportedMechanisms = []string{"PLAIN", "OAUTHBEARER"}
		if r.Mechanism != "PLAIN" {
			resp.ErrorCode = kerr.UnsupportedSaslMechanism.Code
		}
		return resp, nil
	case *kmsg.SASLAuthenticateRequest:
		resp := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		if string(r.SASLAuthBytes) != "\x00"+User+"\x00"+n.password {
			resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
			return resp, nil
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.conns[conn] = true
		return resp, nil
	}
	return nil, nil
}

// Where a batch of records has its leader's epoch and the compression, which is the three
// lowest bits of its attributes (Kafka's record format, version 2).
const (
	batchEpoch      = 12
	batchAttributes = 22
)

// produce refuses compressed batches.
func (n *Namespace) produce(r *kmsg.ProduceRequest) kmsg.Response {
	compressed := false
	for _, topic := range r.Topics {
		for _, p := range topic.Partitions {
			compressed = compressed || len(p.Records) > batchAttributes && p.Records[batchAttributes]&7 != 0
		}
	}
	if !compressed {
		return nil
	}
	n.refuse("a compressed batch")
	resp := r.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range r.Topics {
		t := kmsg.NewProduceResponseTopic()
		t.Topic = topic.Topic
		for _, partition := range topic.Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition, p.ErrorCode = partition.Partition, kerr.UnsupportedCompressionType.Code
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// commit refuses what comes too often for one of its partitions.
func (n *Namespace) commit(r *kmsg.OffsetCommitRequest, now time.Time) kmsg.Response {
	n.mu.Lock()
	defer n.mu.Unlock()
	many := false
	for _, topic := range r.Topics {
		for _, p := range topic.Partitions {
			of := fmt.Sprint(r.Group, " ", topic.Topic, " ", p.Partition)
			n.commits[of] = slices.DeleteFunc(n.commits[of], func(at time.Time) bool { return now.Sub(at) >= time.Second })
			n.commits[of] = append(n.commits[of], now)
			n.most = max(n.most, len(n.commits[of]))
			many = many || len(n.commits[of]) > commitsPerSecond
		}
	}
	if !many {
		return nil
	}
	n.refused["a commit too many"]++
	resp := r.ResponseKind().(*kmsg.OffsetCommitResponse)
	for _, topic := range r.Topics {
		t := kmsg.NewOffsetCommitResponseTopic()
		t.Topic = topic.Topic
		for _, partition := range topic.Partitions {
			p := kmsg.NewOffsetCommitResponseTopicPartition()
			p.Partition, p.ErrorCode = partition.Partition, kerr.ThrottlingQuotaExceeded.Code
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// hostOf splits host:port.
func hostOf(addr string) (host string, port int32) {
	host, text, _ := strings.Cut(addr, ":")
	_, _ = fmt.Sscan(text, &port)
	return host, port
}
