// Package cluster runs a real Apache Kafka of several brokers on loopback for the fault suite,
// and does to it what happens to clusters: brokers that are killed, stopped and frozen, and
// networks that are cut, slowed and silent. It owns the brokers' processes, their properties,
// data and ports, and the proxies between a client and the brokers. It must never
// know what a client is, nor anything of prtwatch, its topics and what runs where: it can
// break things, and what to break when is for others to say.
//
// Each client that is to have a network of its own gets a slot. The brokers have one listener
// a slot and advertise on it the ports of the slot's proxies, so that all that a client which
// starts at SlotAddrs sends and receives passes them. Brokers among each other, and clients
// at Addrs, are never behind a proxy.
//
// Start at Start; process.go has the brokers, network.go the slots and what becomes of bytes.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// Options say what cluster is wanted. Its zero value is three brokers in a folder of the
// system's for temporary files.
type Options struct {
	Brokers int          // how many; 0 means 3. Topics get as many replicas, at most 3
	Dir     string       // for data, properties and logs; made if it is missing, "" makes a temporary one
	Slots   int          // how many clients have a network of their own; 0 means none
	Set     []string     // more properties of each broker, key=value
	Keep    bool         // keep Dir when the cluster is closed, to look at it
	Log     *slog.Logger // what was started, killed and cut; nil says nothing
}

// Cluster is a running cluster. Brokers are counted from 0, and that is their node id, as
// clients see it in metadata; slots are counted from 0. Its methods may be called at once from
// several goroutines.
type Cluster struct {
	log     *slog.Logger
	dir     string
	keep    bool
	ports   *layout
	brokers []*process
	slots   []*network
}

// Start fetches Apache Kafka (deploy/kafka/kafka fetch, found from the working directory
// upwards), and returns when every broker serves and knows of all others. The context is for
// the start alone. When it fails it leaves no process behind, and the logs in Dir.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Brokers == 0 {
		o.Brokers = 3
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	libs, err := fetch(ctx)
	if err != nil {
		return nil, err
	}
	if o.Dir, err = folder(o.Dir); err != nil {
		return nil, err
	}
	c := &Cluster{log: o.Log, dir: o.Dir, keep: o.Keep}
	if err := c.start(ctx, libs, o); err != nil {
		c.keep = true
		return nil, fmt.Errorf("starting a Kafka of %d brokers in %s: %w", o.Brokers, c.dir, errors.Join(err, c.Close()))
	}
	return c, nil
}

// folder makes the folder for a cluster, and refuses one that holds another cluster's data:
// that has other ports, and is deleted at Close.
func folder(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "kafka-")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(brokerDir(dir, 0)); err == nil {
		return "", fmt.Errorf("%s holds the data of another cluster: name another folder, or delete it", dir)
	}
	return dir, os.MkdirAll(dir, 0o755)
}

func (c *Cluster) start(ctx context.Context, libs string, o Options) error {
	layout, err := choosePorts(o.Brokers, o.Slots)
	if err != nil {
		return err
	}
	c.ports = layout
	for slot := range o.Slots {
		n, err := newNetwork(slot, layout)
		if err != nil {
			return err
		}
		c.slots = append(c.slots, n)
	}
	var all errgroup.Group
	for id := range o.Brokers {
		p := newProcess(c.dir, libs, id, layout, o.Set, c.log)
		c.brokers = append(c.brokers, p)
		all.Go(func() error {
			if err := p.format(ctx); err != nil {
				return err
			}
			return p.start()
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	for _, p := range c.brokers {
		if err := p.awaitServing(ctx, o.Brokers); err != nil {
			return err
		}
	}
	c.log.Info("cluster is up", "brokers", c.Addrs(), "slots", o.Slots)
	return nil
}

// Brokers returns how many brokers there are, running or not.
func (c *Cluster) Brokers() int { return len(c.brokers) }

// Addrs returns the brokers' addresses that no fault of a network touches.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, p := range c.brokers {
		addrs = append(addrs, p.addr)
	}
	return addrs
}

// SlotAddrs returns the addresses of the brokers for a client in the slot: its proxies'.
func (c *Cluster) SlotAddrs(slot int) []string { return c.slots[slot].addrs }

// Kill ends the broker at once, as kill -9 does, and returns when the process is gone. What it
// had in memory is lost, what the kernel had is not. It fails where the broker does not run.
func (c *Cluster) Kill(broker int) error { return c.brokers[broker].kill() }

// Stop asks the broker to hand its partitions over and to end (SIGTERM), and returns when the
// process is gone. It fails where the broker does not run or is paused, and when the context
// ends first; the broker then goes on stopping.
func (c *Cluster) Stop(ctx context.Context, broker int) error { return c.brokers[broker].stop(ctx) }

// Restart starts a broker that was killed or stopped, on the data and ports that it had, and
// returns when the cluster has taken it back. Its replicas may have to catch up still: see
// AwaitInSync. It fails where the broker runs, and when the context ends first.
func (c *Cluster) Restart(ctx context.Context, broker int) error {
	p := c.brokers[broker]
	if err := p.start(); err != nil {
		return err
	}
	return p.awaitServing(ctx, 1)
}

// Pause freezes the broker (SIGSTOP): its connections stay up and nobody answers, and after its
// session (9 s) the cluster goes on without it. It fails where the broker does not run.
func (c *Cluster) Pause(broker int) error { return c.brokers[broker].pause() }

// Resume ends a Pause. A broker that was away for longer than its session learns then that
// others lead its partitions.
func (c *Cluster) Resume(broker int) error { return c.brokers[broker].resume() }

// AwaitInSync returns when every replica of every partition is in sync, so that one more
// broker can be lost without a partition that refuses writes. It fails when the context ends
// first, as it must where a broker is down.
func (c *Cluster) AwaitInSync(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...))
	if err != nil {
		return err
	}
	defer cl.Close()
	return poll(ctx, "waiting until all replicas are in sync", func(ctx context.Context) error {
		req := kmsg.NewPtrMetadataRequest() // Topics nil: all of them.
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if len(p.ISR) < len(p.Replicas) || p.Leader < 0 {
					return fmt.Errorf("partition %d of %s has %d of %d replicas in sync", p.Partition, *t.Topic, len(p.ISR), len(p.Replicas))
				}
			}
		}
		return nil
	})
}

// Close kills every broker, ends the proxies and deletes what Start made, unless Keep is set.
// It returns when no process is left. It may be called twice.
func (c *Cluster) Close() error {
	var all sync.WaitGroup
	for _, p := range c.brokers {
		all.Go(p.end)
	}
	for _, n := range c.slots {
		all.Go(n.close)
	}
	all.Wait()
	if c.ports != nil {
		c.ports.release()
	}
	if c.keep {
		return nil
	}
	var errs []error
	for _, p := range c.brokers {
		errs = append(errs, os.RemoveAll(p.dir))
	}
	// Whoever named the folder may have put other things there.
	_ = os.Remove(c.dir)
	return errors.Join(errs...)
}

// poll asks until the answer is nil. When the context ends it says what was waited for, and the
// last answer.
func poll(ctx context.Context, doing string, ask func(context.Context) error) error {
	for {
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := ask(one)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (last: %w)", doing, context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
