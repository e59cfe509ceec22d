package contender

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/bench/process"
)

// Noop is a client that reads the raw topic and does nothing with it: the floor.
type Noop struct {
	// Command runs ReadAll in a process of its own, given broker and topic.
	Command []string
}

// Name is noop.
func (Noop) Name() string { return "noop" }

// readAll is what ReadAll says when it has.
const readAll = "read all"

// Run implements Contender.
func (n Noop) Run(ctx context.Context, raw Raw, number int) (o Outcome, err error) {
	before, err := raw.Broker.Usage()
	if err != nil {
		return o, err
	}
	name := prefix(n, number)
	p, err := process.Start(n.Name(), logFile(raw, name), append(n.Command, raw.Broker.Addr, raw.Topic)...)
	if err != nil {
		return o, err
	}
	defer p.Kill()
	for {
		said, err := os.ReadFile(p.Log)
		if err != nil {
			return o, err
		}
		own, err := p.Usage()
		if err != nil {
			return o, err
		}
		if bytes.Contains(said, []byte(readAll)) {
			after, err := raw.Broker.Usage()
			o.Wall, o.CPU, o.Peak, o.BrokerCPU = time.Since(p.Began), own.CPU, own.Peak, after.CPU-before.CPU
			return o, errors.Join(err, p.Stop(stopLimit))
		}
		select {
		case <-ctx.Done():
			return o, fmt.Errorf("waiting until all is read: %w", context.Cause(ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ReadAll reads a topic to where it ends now, says so, and waits for SIGTERM, so that it can be seen
// what that took. It uses the client's own settings.
func ReadAll(ctx context.Context, address, topic string, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(address, ",")...), kgo.ConsumeTopics(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("asking where topic %s ends: %w", topic, err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("reading topic %s: %w", topic, err)
		}
		left -= int64(fetches.NumRecords())
	}
	fmt.Fprintln(out, readAll)
	<-ctx.Done()
	return nil
}
