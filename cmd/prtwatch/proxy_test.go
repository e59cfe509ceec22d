package main

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// proxy is a broker as one sees it who connects through it: the same one, but for requests that
// are held on their way. It names itself where the broker would name itself.
type proxy struct {
	t        *testing.T
	broker   string
	listener net.Listener
	port     int32
	topics   map[string][16]byte // ids by name, of those that are held
	conns    sync.WaitGroup

	mu struct {
		sync.Mutex
		hold *hold
		open []net.Conn
	}
}

// hold keeps requests of a kind from the broker until it is over.
type hold struct {
	holds   func(kmsg.Request) bool
	held    chan struct{} // closed when the first one is held
	over    chan struct{}
	dropped atomic.Bool // what is held never arrives
	hold    func()
	end     func() // lets what is held go on its way
}

// drop ends the hold, and the connections of what is held.
func (h *hold) drop() {
	h.dropped.Store(true)
	h.end()
}

func newProxy(t *testing.T, b *brokertest.Broker) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, broker: b.Door(), listener: listener, port: int32(listener.Addr().(*net.TCPAddr).Port), topics: map[string][16]byte{}}
	topics, err := b.Admin().ListTopics(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for name, topic := range topics {
		p.topics[name] = topic.ID
	}
	p.conns.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		if p.mu.hold != nil {
			p.mu.hold.end()
		}
		p.mu.Unlock()
		p.close()
		p.conns.Wait()
	})
	return p
}

// close closes all connections and takes none from then on.
func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.mu.open {
		_ = c.Close()
	}
}

// addr is where to connect.
func (p *proxy) addr() string { return p.listener.Addr().String() }

// holdAfter holds the requests of a kind once so many have gone.
func (p *proxy) holdAfter(gone int, key kmsg.Key) *hold {
	left := atomic.Int64{}
	left.Store(int64(gone))
	return p.hold(func(r kmsg.Request) bool { return kmsg.Key(r.Key()) == key && left.Add(-1) < 0 })
}

// holdAll holds every request.
func (p *proxy) holdAll() *hold {
	return p.hold(func(kmsg.Request) bool { return true })
}

// hold holds requests from now on.
func (p *proxy) hold(holds func(kmsg.Request) bool) *hold {
	h := &hold{holds: holds, held: make(chan struct{}), over: make(chan struct{})}
	h.hold = sync.OnceFunc(func() { close(h.held) })
	h.end = sync.OnceFunc(func() { close(h.over) })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.hold = h
	return h
}

// holdFetches holds the fetches of a partition from an offset on.
func (p *proxy) holdFetches(topic string, partition int32, from int64) *hold {
	return p.holdReads(topic, func(f kmsg.FetchRequestTopicPartition) bool { return f.Partition == partition && f.FetchOffset >= from })
}

// holdTopic holds the fetches of a topic.
func (p *proxy) holdTopic(topic string) *hold {
	return p.holdReads(topic, func(kmsg.FetchRequestTopicPartition) bool { return true })
}

func (p *proxy) holdReads(topic string, holds func(kmsg.FetchRequestTopicPartition) bool) *hold {
	return p.hold(func(r kmsg.Request) bool {
		fetch, ok := r.(*kmsg.FetchRequest)
		return ok && slices.ContainsFunc(fetch.Topics, func(t kmsg.FetchRequestTopic) bool {
			return (t.Topic == topic || t.TopicID == p.topics[topic]) && slices.ContainsFunc(t.Partitions, holds)
		})
	})
}

// holdProduces holds what is written to a topic once so many records have gone there.
func (p *proxy) holdProduces(topic string, after int) *hold {
	var gone atomic.Int64
	return p.hold(func(r kmsg.Request) bool {
		produce, ok := r.(*kmsg.ProduceRequest)
		if !ok {
			return false
		}
		for _, t := range produce.Topics {
			if t.Topic != topic && t.TopicID != p.topics[topic] {
				continue
			}
			for _, batch := range t.Partitions {
				gone.Add(int64(binary.BigEndian.Uint32(batch.Records[57:]))) // how many it has
			}
			return gone.Load() > int64(after)
		}
		return false
	})
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		broker, err := net.DialTimeout("tcp", p.broker, 10*time.Second)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.mu.open = append(p.mu.open, client, broker)
		p.mu.Unlock()
		l := &line{proxy: p, client: client, broker: broker, asked: make(chan kmsg.Request, 1000)}
		p.conns.Go(l.requests)
		p.conns.Go(l.responses)
	}
}

// line is one connection through a proxy. A broker answers in the order of the requests.
type line struct {
	*proxy
	client, broker net.Conn
	asked          chan kmsg.Request // without their bodies
}

func (l *line) requests() {
	defer l.broker.Close()
	defer close(l.asked)
	for {
		frame, err := readFrame(l.client)
		if err != nil {
			return
		}
		request := kmsg.RequestForKey(int16(binary.BigEndian.Uint16(frame[4:])))
		request.SetVersion(int16(binary.BigEndian.Uint16(frame[6:])))
		if !l.await(request, frame) {
			return
		}
		if produce, ok := request.(*kmsg.ProduceRequest); ok && produce.Acks == 0 {
			l.t.Error("a produce that wants no answer: what is answered cannot be told")
		}
		l.asked <- request
		if _, err := l.broker.Write(frame); err != nil {
			return
		}
	}
}

// await holds a request for as long as it is to be held, and reports whether it may go on.
func (l *line) await(request kmsg.Request, frame []byte) bool {
	switch request.(type) {
	case *kmsg.FetchRequest, *kmsg.ProduceRequest:
		if err := readBody(request, frame); err != nil {
			l.t.Errorf("reading a request of kind %d: %v", request.Key(), err)
			return false
		}
	}
	l.mu.Lock()
	h := l.mu.hold
	l.mu.Unlock()
	if h == nil || !h.holds(request) {
		return true
	}
	select {
	case <-h.over:
		return true
	default:
	}
	h.hold()
	<-h.over
	return !h.dropped.Load()
}

func readBody(request kmsg.Request, frame []byte) error {
	body := frame[12:] // size, key, version, correlation id
	if n := int16(binary.BigEndian.Uint16(body)); n > 0 {
		body = body[n:]
	}
	body = body[2:]
	if request.IsFlexible() {
		body = body[1:] // no tags
	}
	return request.ReadFrom(body)
}

func (l *line) responses() {
	defer l.client.Close()
	for {
		frame, err := readFrame(l.broker)
		if err != nil {
			return
		}
		request, ok := <-l.asked
		if !ok {
			return
		}
		if _, err := l.client.Write(l.rename(request, frame)); err != nil {
			return
		}
	}
}

// rename puts the proxy's address in the place of the broker's.
func (l *line) rename(request kmsg.Request, frame []byte) []byte {
	switch request.(type) {
	case *kmsg.MetadataRequest, *kmsg.FindCoordinatorRequest:
	default:
		return frame
	}
	response := request.ResponseKind()
	at := 8 // size, correlation id
	if response.IsFlexible() {
		at++ // no tags
	}
	if err := response.ReadFrom(frame[at:]); err != nil {
		l.t.Errorf("reading an answer of kind %d: %v", request.Key(), err)
		return frame
	}
	host := "127.0.0.1"
	switch r := response.(type) {
	case *kmsg.MetadataResponse:
		for i := range r.Brokers {
			r.Brokers[i].Host, r.Brokers[i].Port = host, l.port
		}
	case *kmsg.FindCoordinatorResponse:
		r.Host, r.Port = host, l.port
		for i := range r.Coordinators {
			r.Coordinators[i].Host, r.Coordinators[i].Port = host, l.port
		}
	}
	frame = response.AppendTo(frame[:at:at])
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

func readFrame(r io.Reader) ([]byte, error) {
	frame := make([]byte, 4)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	frame = append(frame, make([]byte, binary.BigEndian.Uint32(frame))...)
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// waits until a request is held.
func (h *hold) wait(t *testing.T) {
	t.Helper()
	select {
	case <-h.held:
	case <-time.After(5 * time.Minute):
		t.Fatal("waited 5 minutes for a request to be held")
	}
}
