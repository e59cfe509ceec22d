package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// weather is what a slot's network does at present.
type weather struct {
	cut             bool          // connections are refused
	silent          bool          // connections stay, and carry nothing
	latency, jitter time.Duration // of what goes either way
	rate            int           // bytes a second, each way of each connection; 0: no bound
}

// network is the proxies of one slot, one a broker. They are on the way of bytes only, and know
// nothing of Kafka.
//
// Toxiproxy (v2.5.0) would be the library for it, and was tried. A toxic that is removed hands
// what it holds, up to 1,024 chunks, to each client, waits up to 5 s for each chunk where a client
// has vanished, and no other connection begins meanwhile: under the clients of
// TestTheWeatherChangesWhileClientsComeAndVanish its first removal did not return within half a
// minute. What an end has not read within those 5 s is missing from the middle of a stream, which
// no network does. And it resets only connections that began with the toxic on them.
type network struct {
	addrs   []string // by broker: where clients connect
	targets []string // by broker: where the broker listens for us

	mu struct {
		sync.Mutex
		now       weather
		changed   chan struct{} // closed when now is another
		listeners []net.Listener
		lines     map[net.Conn]struct{} // both ends of each connection
		closed    bool
	}
	running sync.WaitGroup
}

func newNetwork(slot int, l *layout) (*network, error) {
	n := &network{addrs: l.proxies[slot], targets: l.behind[slot]}
	n.mu.changed = make(chan struct{})
	n.mu.lines = make(map[net.Conn]struct{})
	for broker, addr := range n.addrs {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			n.close()
			return nil, fmt.Errorf("opening the proxy of slot %d to broker %d: %w", slot, broker, err)
		}
		n.mu.listeners = append(n.mu.listeners, listener)
		n.running.Go(func() { n.accept(listener, n.targets[broker]) })
	}
	return n, nil
}

// accept takes connections. While the network is cut they are reset at once, as far as a client
// can tell refused.
func (n *network) accept(listener net.Listener, target string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		now, _ := n.look()
		if now.cut {
			reset(client)
			continue
		}
		broker, err := net.DialTimeout("tcp", target, 5*time.Second)
		if err != nil {
			reset(client)
			continue
		}
		if !n.add(client, broker) {
			reset(client, broker)
			continue
		}
		var both sync.WaitGroup
		both.Go(func() { n.pump(broker, client) })
		both.Go(func() { n.pump(client, broker) })
		n.running.Go(func() {
			both.Wait()
			n.remove(client, broker)
		})
	}
}

func (n *network) add(conns ...net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.closed || n.mu.now.cut {
		return false
	}
	for _, c := range conns {
		n.mu.lines[c] = struct{}{}
	}
	return true
}

func (n *network) remove(conns ...net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range conns {
		delete(n.mu.lines, c)
	}
}

// pump carries bytes one way until either end is closed, and then closes both.
func (n *network) pump(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		now, _ := n.look()
		most := len(buffer)
		if now.rate > 0 {
			most = min(most, max(512, now.rate/10))
		}
		got, err := from.Read(buffer[:most])
		if got > 0 {
			n.delay(got)
			if _, err := to.Write(buffer[:got]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// delay waits for as long as the weather keeps so many bytes.
func (n *network) delay(bytes int) {
	now, changed := n.look()
	for now.silent {
		<-changed
		now, changed = n.look()
	}
	var wait time.Duration
	if now.latency > 0 {
		wait += now.latency
	}
	if now.jitter > 0 {
		wait += time.Duration(rand.Int64N(int64(now.jitter)))
	}
	if now.rate > 0 {
		wait += time.Duration(bytes) * time.Second / time.Duration(now.rate)
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-changed:
		}
	}
}

func (n *network) look() (weather, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.now, n.mu.changed
}

// set changes the weather, and hangs up every connection where that is asked for.
func (n *network) set(now weather, hangUp bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.now = now
	close(n.mu.changed)
	n.mu.changed = make(chan struct{})
	if hangUp {
		reset(slices.Collect(maps.Keys(n.mu.lines))...)
	}
}

// hangUp resets every connection and leaves the weather as it is. It returns how many there were.
func (n *network) hangUp() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	reset(slices.Collect(maps.Keys(n.mu.lines))...)
	return len(n.mu.lines) / 2 // each has two ends
}

// reset closes connections with a reset instead of an end in good order. None is closed before
// all are made so: pump closes the other end of a line as soon as it sees that one is closed.
func reset(conns ...net.Conn) {
	for _, c := range conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

func (n *network) close() {
	n.mu.Lock()
	n.mu.closed = true
	listeners := n.mu.listeners
	n.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close()
	}
	n.set(weather{}, true)
	n.running.Wait()
}

// Cut closes all connections of the slot and refuses new ones until Heal.
func (c *Cluster) Cut(slot int) { c.slots[slot].set(weather{cut: true}, true) }

// Reset resets all connections of the slot, once, and returns how many there were.
func (c *Cluster) Reset(slot int) int { return c.slots[slot].hangUp() }

// Slow delays what goes either way by latency and up to jitter until Heal.
func (c *Cluster) Slow(slot int, latency, jitter time.Duration) {
	c.slots[slot].set(weather{latency: latency, jitter: jitter}, false)
}

// Throttle bounds each connection of the slot to so many kilobytes a second, each way, until
// Heal.
func (c *Cluster) Throttle(slot, kbps int) { c.slots[slot].set(weather{rate: kbps << 10}, false) }

// HalfOpen lets the connections of the slot stay open and carry nothing until Heal, when what
// was sent meanwhile arrives.
func (c *Cluster) HalfOpen(slot int) { c.slots[slot].set(weather{silent: true}, false) }

// Heal ends what Cut, Slow, Throttle and HalfOpen began.
func (c *Cluster) Heal(slot int) { c.slots[slot].set(weather{}, false) }
