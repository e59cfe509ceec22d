package cluster

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// slot is a cluster of one slot and no broker: behind its one proxy is a server that sends back
// what it gets.
func slot(t *testing.T) *Cluster {
	t.Helper()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	ports, err := choosePorts(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ports.release)
	ports.behind[0][0] = echo.Addr().String()
	n, err := newNetwork(0, ports)
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{slots: []*network{n}}
	t.Cleanup(func() {
		_ = c.Close()
		_ = echo.Close()
		serving.Wait()
	})
	return c
}

// patience is beyond what anything here takes that does not hang.
const patience = 20 * time.Second

func dial(t *testing.T, c *Cluster) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", c.SlotAddrs(0)[0], patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// echoed sends text, has it back and says how long that took.
func echoed(t *testing.T, conn net.Conn, text string) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	back(t, conn, text)
	return time.Since(began)
}

func back(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatalf("waiting for %q: %v", text, err)
	}
	if string(got) != text {
		t.Fatalf("%q came back as %q", text, got)
	}
}

func TestACutNetworkResetsItsConnectionsAndTakesNoneUntilItIsHealed(t *testing.T) {
	c := slot(t)
	conn := dial(t, c)
	echoed(t, conn, "before")
	c.Cut(0)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ends with %v", err)
	}
	if another, err := net.Dial("tcp", c.SlotAddrs(0)[0]); err == nil {
		_ = another.SetDeadline(time.Now().Add(patience))
		if _, err := another.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection through a cut network: %v", err)
		}
		_ = another.Close()
	}
	c.Heal(0)
	echoed(t, dial(t, c), "after")
}

func TestAResetEndsTheConnectionsThatAreThereAndNoOther(t *testing.T) {
	c := slot(t)
	conn := dial(t, c)
	echoed(t, conn, "before")
	if n := c.Reset(0); n != 1 {
		t.Errorf("%d connections are reset, not 1", n)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ends with %v", err)
	}
	echoed(t, dial(t, c), "after")
}

func TestAHalfOpenConnectionStaysAndCarriesNothingUntilItIsHealed(t *testing.T) {
	c := slot(t)
	conn := dial(t, c)
	echoed(t, conn, "before")
	c.HalfOpen(0)
	if _, err := io.WriteString(conn, "during"); err != nil {
		t.Fatalf("it is to look alive: %v", err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes came through, %v", n, err)
	}
	another := dial(t, c) // it can be made, and is as silent
	if _, err := io.WriteString(another, "another"); err != nil {
		t.Fatal(err)
	}
	c.Heal(0)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	back(t, conn, "during")
	back(t, another, "another")
	echoed(t, conn, "after")
}

func TestASlowNetworkDelaysEachWay(t *testing.T) {
	c := slot(t)
	conn := dial(t, c)
	const latency = 150 * time.Millisecond
	c.Slow(0, latency, 50*time.Millisecond)
	if took := echoed(t, conn, "slow"); took < 2*latency {
		t.Errorf("there and back took %s", took)
	}
	c.Heal(0)
	echoed(t, conn, "after")
}

func TestAThrottledNetworkCarriesNoMoreThanItsRate(t *testing.T) {
	c := slot(t)
	conn := dial(t, c)
	const kbps = 100
	c.Throttle(0, kbps)
	text := make([]byte, 50<<10)
	if took := echoed(t, conn, string(text)); took < 500*time.Millisecond {
		t.Errorf("%d bytes at %d KB a second, there and back, took %s", len(text), kbps, took)
	}
	c.Heal(0)
	echoed(t, conn, "after")
}

func TestTheWeatherChangesWhileClientsComeAndVanish(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := slot(t)
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(n)))
			for range 60 {
				change(c, r)
				vanish(c.SlotAddrs(0)[0], r)
			}
		})
	}
	clients.Wait()
	c.Heal(0)
	echoed(t, dial(t, c), "after all that")
}

func change(c *Cluster, r *rand.Rand) {
	switch r.IntN(6) {
	case 0:
		c.Cut(0)
	case 1:
		c.HalfOpen(0)
	case 2:
		c.Slow(0, time.Millisecond, time.Millisecond)
	case 3:
		c.Throttle(0, 1+r.IntN(500))
	case 4:
		c.Reset(0)
	default:
		c.Heal(0)
	}
}

// vanish connects, sends much, reads little, and is gone.
func vanish(addr string, r *rand.Rand) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return
	}
	_ = conn.SetDeadline(time.Now().Add(time.Duration(1+r.IntN(50)) * time.Millisecond))
	_, _ = conn.Write(make([]byte, r.IntN(1<<18)))
	_, _ = io.CopyN(io.Discard, conn, int64(r.IntN(1<<16)))
	reset(conn)
}

func TestTwoClustersAtOnceTakeNoPortOfEachOther(t *testing.T) {
	taken := make(map[string]bool)
	for range 3 {
		l, err := choosePorts(3, 4)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.release)
		for _, row := range append(append([][]string{l.controller, l.direct}, l.behind...), l.proxies...) {
			for _, addr := range row {
				if taken[addr] {
					t.Errorf("%s is given twice", addr)
				}
				taken[addr] = true
			}
		}
	}
	if len(taken) != 3*3*(2+2*4) {
		t.Errorf("%d ports", len(taken))
	}
}
