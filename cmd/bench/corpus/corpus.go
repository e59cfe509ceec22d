// Package corpus makes the sign-ins that are measured with: what a made tenant does in 16 days, in
// the raw topic as Azure writes it, and what the scheduled query makes of it. It owns the messages,
// how much they look like real ones (likeness.go), and which alerts are right. It must not know who
// reads them.
//
// Start at Make.
package corpus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/prtwatch/prtwatch/internal/oracle"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// Days is how long the history is: the window of the rule, and two days that are judged against all of it.
const Days = 16

// Partitions is how many the raw topic has, as an Event Hubs hub often has.
const Partitions = 8

// start is when the history begins, a Monday: the same sign-ins whenever they are made.
var start = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)

// Corpus is what was made.
type Corpus struct {
	Topic    string
	Users    int
	Seed     uint64
	SignIns  int
	Messages int
	Bytes    int64 // of the messages, before compression
	Likeness []Likeness

	// Rows are the ids of the sign-ins that the query returns, each once.
	Rows map[string]bool
}

// Writer takes messages. newest is the time of a message's newest sign-in, at which it is written.
type Writer func(message []byte, newest time.Time) error

// Options say what to make.
type Options struct {
	Topic   string // exists
	Users   int
	Seed    uint64
	Samples string // a file of real records, a line each
}

// Make makes the sign-ins of the tenant and writes them.
func Make(ctx context.Context, o Options, brokers string) (*Corpus, error) {
	c := &Corpus{Topic: o.Topic, Users: o.Users, Seed: o.Seed}
	made, err := tenant.New(tenant.Options{Users: o.Users, Days: Days, Seed: o.Seed, Start: start})
	if err != nil {
		return nil, err
	}
	query, err := oracle.New(oracle.Options{OpenFarEdge: true})
	if err != nil {
		return nil, err
	}
	topic, err := Open(brokers, o.Topic)
	if err != nil {
		return nil, err
	}
	likeness, err := newMeter(o.Samples)
	if err != nil {
		return nil, err
	}
	// The query's own reading takes longer than making and writing: it has a core to itself.
	messages := make(chan []byte, 64)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		defer close(messages)
		err := pack(made, func(message []byte, newest time.Time) error {
			c.Messages++
			c.Bytes += int64(len(message))
			if err := topic.Write(message, newest); err != nil {
				return err
			}
			select {
			case messages <- message:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}, func(s tenant.SignIn) {
			c.SignIns++
			likeness.add(s.Record)
		})
		if err != nil {
			return err
		}
		return topic.Close(ctx)
	})
	work.Go(func() error {
		for message := range messages {
			if err := query.AddMessage(message); err != nil {
				return fmt.Errorf("judging the corpus by the query: %w", err)
			}
		}
		return nil
	})
	if err := work.Wait(); err != nil {
		return nil, fmt.Errorf("making the corpus: %w", err)
	}
	c.Rows = make(map[string]bool)
	for _, row := range query.Rows() {
		c.Rows[row.ID] = true
	}
	c.Likeness = likeness.result()
	return c, nil
}

// pack makes messages of all of the tenant's history.
func pack(made *tenant.Tenant, write Writer, each func(tenant.SignIn)) error {
	var packer tenant.Packer
	var newest time.Time
	for {
		s, more := made.Next()
		message := []byte(nil)
		if more {
			each(s)
			message = packer.Add(s.Record)
		} else {
			message = packer.Flush()
		}
		if message != nil {
			if err := write(message, newest); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		newest = s.Time
	}
}

// Topic is written to as Azure does: no keys, one message after the other to all partitions in turn.
type Topic struct {
	name   string
	client *kgo.Client

	mu     sync.Mutex
	failed error
}

// Open returns a writer to a topic that exists.
func Open(brokers, name string) (*Topic, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.MaxBufferedBytes(32<<20), kgo.DefaultProduceTopic(name))
	if err != nil {
		return nil, err
	}
	return &Topic{name: name, client: client}, nil
}

// Write hands a message over; what becomes of it a later Write or Close says.
func (t *Topic) Write(message []byte, at time.Time) error {
	t.client.Produce(context.Background(), &kgo.Record{Value: message, Timestamp: at}, func(_ *kgo.Record, err error) {
		if err != nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.failed = fmt.Errorf("writing to topic %s: %w", t.name, err)
		}
	})
	return t.err()
}

func (t *Topic) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// Close returns when everything is acknowledged.
func (t *Topic) Close(ctx context.Context) error {
	defer t.client.Close()
	if err := t.client.Flush(ctx); err != nil {
		return fmt.Errorf("writing to topic %s: %w", t.name, err)
	}
	return t.err()
}
