package detect_test

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
)

// deafConn sends one EndTxn, once it is armed, and never hears the answer.
type deafConn struct {
	net.Conn
	armed *atomic.Bool
	sent  chan struct{}
	deaf  atomic.Bool
	gone  chan struct{}
	close sync.Once
}

func (c *deafConn) Write(p []byte) (int, error) {
	if len(p) > 6 && binary.BigEndian.Uint16(p[4:]) == uint16(kmsg.EndTxn) && c.armed.CompareAndSwap(true, false) {
		c.deaf.Store(true)
		close(c.sent)
	}
	return c.Conn.Write(p)
}

func (c *deafConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.deaf.Load() {
		<-c.gone
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *deafConn) Close() error {
	c.close.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// The broker commits, and the stage is stopped before it hears of it: what the transaction
// taught is in the topic alone, and the checkpoint must not say otherwise.
func TestAnUnknownOutcomeAtAStopForgetsNothing(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHouse(t, b)
		dir := t.TempDir()
		var armed atomic.Bool
		sent := make(chan struct{})
		s := h.start("one", dir, func(c *detect.Config, d *detect.Deps) {
			c.Members, c.TransactionTimeout = 1, 3*time.Second
			d.Client = append(d.Client, kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &deafConn{Conn: conn, armed: &armed, sent: sent, gone: make(chan struct{})}, nil
			}))
		})
		h.produce(signIn("first", "ada@example.com", "192.0.2.1", "64500", 0))
		h.judged()
		armed.Store(true)
		h.produce(signIn("second", "ada@example.com", "198.51.100.2", "64501", 5))
		<-sent
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		h.judged() // the broker has committed it
		h.start("one", dir)
		h.produce(signIn("third", "ada@example.com", "198.51.100.2", "64501", 10))
		h.judged()
		h.wantAlerts("first", "second")
	})
}

// Who may have been swept is unknown whether he was or not, and an alert that comes of it says
// that it was judged late.
func TestALateSignInOfWhoStayedAwaySaysSo(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	p := "ada@example.com"
	h.produce(
		signIn("first", p, "192.0.2.1", "64500", 0),
		signIn("time", p+".", "192.0.2.2", "64501", 0),
	)
	h.start("one", t.TempDir())
	h.judged()
	h.tick(detector.Window + 48 + 1)
	h.judged()
	h.produce(signIn("late", p, "192.0.2.1", "64500", 300), signIn("in time", "bob@example.com", "192.0.2.3", "64502", detector.Window+48))
	h.judged()
	h.wantAlerts("first", "time", "late", "in time")
	for _, r := range h.b.ReadAll(h.topics.Alerts) {
		alert := h.alert(r)
		if want := alert.SignIn.ID == "late"; alert.Late != want {
			t.Errorf("sign-in %s: late is %v", alert.SignIn.ID, alert.Late)
		}
	}
}
