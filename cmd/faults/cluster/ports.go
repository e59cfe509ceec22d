package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// layout is who listens where on 127.0.0.1.
type layout struct {
	claim      net.Listener // on the first port of the block that all others are of
	controller []string     // by broker
	direct     []string     // by broker
	behind     [][]string   // by slot and broker: where a broker listens for a slot's proxy
	proxies    [][]string   // by slot and broker: where that proxy listens, and what the broker advertises
}

// Ports are taken below those that the system hands to outgoing connections (from 32768): a
// broker that is down must find its ports free when it comes back. Those that Kafkas of
// developers and tests have by habit are below too. And they are taken of a block that no other
// cluster of this package takes ports of meanwhile, for the same reason.
const (
	firstPort, lastPort = 20000, 32000
	block               = 100
)

// choosePorts claims a block and finds free ports in it, for as long as the layout is not
// released.
func choosePorts(brokers, slots int) (*layout, error) {
	rows := 2 + 2*slots
	if needed := brokers * rows; needed >= block {
		return nil, fmt.Errorf("%d brokers and %d slots need %d ports, more than %d", brokers, slots, needed, block-1)
	}
	for _, n := range rand.Perm((lastPort - firstPort) / block) {
		claim, err := net.Listen("tcp", loopback(firstPort+n*block))
		if err != nil {
			continue
		}
		free := freePorts(firstPort+n*block+1, brokers*rows)
		if len(free) < brokers*rows {
			_ = claim.Close()
			continue
		}
		l := &layout{claim: claim}
		row := func() (addrs []string) {
			addrs, free = free[:brokers:brokers], free[brokers:]
			return addrs
		}
		l.controller, l.direct = row(), row()
		for range slots {
			l.behind, l.proxies = append(l.behind, row()), append(l.proxies, row())
		}
		return l, nil
	}
	return nil, fmt.Errorf("no %d ports from %d to %d are free", brokers*rows, firstPort, lastPort)
}

// freePorts returns the addresses of some free ports, fewer where the block has not so many.
func freePorts(first, wanted int) (addrs []string) {
	for port := first; port < first+block-1 && len(addrs) < wanted; port++ {
		if l, err := net.Listen("tcp", loopback(port)); err == nil {
			_ = l.Close()
			addrs = append(addrs, loopback(port))
		}
	}
	return addrs
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// release gives the block back.
func (l *layout) release() { _ = l.claim.Close() }
