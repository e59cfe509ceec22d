// Package corpus makes the sign-ins that are measured with: what a made tenant does in 16 days, in
// the raw topic as Azure writes it, and what the scheduled query makes of it. It owns the messages,
// how much they look like real ones (likeness.go), and which alerts are right. It must not know who
// reads them.
//
// Start at Make.
package corpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
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
	Users    int
	Seed     uint64
	SignIns  int
	Messages int
	Bytes    int64 // of the messages, before compression
	Likeness []Likeness

	// Rows are the ids of the sign-ins that the query returns, each once.
	Rows map[string]bool

	made *tenant.Tenant // at the end of the history
}

// Sink takes messages: a Topic, or a file.
type Sink interface {
	// Write takes a message whose newest sign-in is of that time. It may keep message, not change it.
	Write(message []byte, newest time.Time) error
	// Close returns when everything is written.
	Close(ctx context.Context) error
}

// Options say what to make.
type Options struct {
	Users   int
	Seed    uint64
	Samples string // a file of real records, a line each
}

// Make makes the sign-ins of the tenant, writes them and closes the sink.
func Make(ctx context.Context, o Options, to Sink) (*Corpus, error) {
	c := &Corpus{Users: o.Users, Seed: o.Seed}
	end := start.AddDate(0, 0, Days)
	made, err := tenant.New(tenant.Options{Users: o.Users, Days: Days, Rate: presentRate, Seed: o.Seed, Start: start})
	if err != nil {
		return nil, err
	}
	query, err := oracle.New(oracle.Options{OpenFarEdge: true})
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
		err := pack(history(made, end), func(message []byte, newest time.Time) error {
			c.Messages++
			c.Bytes += int64(len(message))
			if err := to.Write(message, newest); err != nil {
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
		return to.Close(ctx)
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
	c.Likeness, c.made = likeness.result(), made
	return c, nil
}

// history is the sign-ins before the end.
func history(made *tenant.Tenant, end time.Time) iter.Seq[tenant.SignIn] {
	return func(yield func(tenant.SignIn) bool) {
		for {
			if s, more := made.Next(); !more || !s.Time.Before(end) || !yield(s) {
				return
			}
		}
	}
}

// pack makes messages of sign-ins.
func pack(signIns iter.Seq[tenant.SignIn], write func([]byte, time.Time) error, each func(tenant.SignIn)) error {
	var packer tenant.Packer
	var newest time.Time
	for s := range signIns {
		if message := packer.Add(s.Record); message != nil {
			if err := write(message, newest); err != nil {
				return err
			}
		}
		each(s)
		newest = s.Time
	}
	if message := packer.Flush(); message != nil {
		return write(message, newest)
	}
	return nil
}

// presentRate is at how many sign-ins a second the tenant goes on after its history.
const presentRate = 10_000

// WritePresent writes what the tenant does after its history, as if there were many copies of it:
// each sign-in is one of the copy that pick returns, whose users are those that Copy names. Each
// call goes on where the one before ended.
func (c *Corpus) WritePresent(ctx context.Context, brokers, topic string, count int, pick func(n int) int) error {
	to, err := Open(brokers, topic)
	if err != nil {
		return err
	}
	n := 0
	signIns := func(yield func(tenant.SignIn) bool) {
		for ; n < count && ctx.Err() == nil; n++ {
			s, _ := c.made.Next()
			s.Record = rename(s.Record, pick(n))
			if !yield(s) {
				return
			}
		}
	}
	err = pack(signIns, to.Write, func(tenant.SignIn) {})
	return errors.Join(err, ctx.Err(), to.Close(ctx))
}

// upnField is what the UPN stands behind in a record.
var upnField = []byte(`"userPrincipalName":"`)

// rename makes a record one of a copy of its user.
func rename(record []byte, copyNumber int) []byte {
	return bytes.Replace(record, upnField, append(bytes.Clone(upnField), Copy(copyNumber, "")...), 1)
}

// Copy is the UPN of a user in one of the copies of the tenant.
func Copy(number int, upn string) string { return fmt.Sprintf("c%d.%s", number, upn) }

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
