// Package corpus makes the sign-ins that are measured with: what a made tenant does in 16 days, in
// the raw topic as Azure writes it, and what the scheduled query makes of it. It owns the messages,
// how much they look like real ones (likeness.go), and which alerts are right. It must not know who
// reads them.
//
// Start at Make.
package corpus

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"slices"
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

	networks int
	made     *tenant.Tenant // at the end of the history
	query    *oracle.Query  // over the history; nil where Options.Judge is not given
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
	Samples string // a file of real records, a line each, for Likeness; there is none without

	Days int     // of the history; 0 is the usual number
	Rate float64 // sign-ins a second of the present; 0 is 10,000
	// Networks is how many addresses each user comes from, one as often as another, twenty in an
	// ASN; 0 leaves them to the tenant. A thief's are left to it, and in the present those of some
	// sign-ins of each: else nothing would alert.
	Networks int
	Judge    bool // WritePresent judges the first copy by the query too: keeps the history in memory
}

// Make makes the sign-ins of the tenant, writes them and closes the sink.
func Make(ctx context.Context, o Options, to Sink) (*Corpus, error) {
	c := &Corpus{Users: o.Users, Seed: o.Seed, networks: o.Networks}
	o.Days, o.Rate = cmp.Or(o.Days, Days), cmp.Or(o.Rate, presentRate)
	end := start.AddDate(0, 0, o.Days)
	made, err := tenant.New(tenant.Options{Users: o.Users, Days: o.Days, Rate: o.Rate, Seed: o.Seed, Start: start})
	if err != nil {
		return nil, err
	}
	query, err := oracle.New(oracle.Options{OpenFarEdge: true})
	if err != nil {
		return nil, err
	}
	var likeness *meter
	if o.Samples != "" {
		if likeness, err = newMeter(o.Samples); err != nil {
			return nil, err
		}
	}
	// The query's own reading takes longer than making and writing: it has a core to itself.
	messages := make(chan []byte, 64)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		defer close(messages)
		err := pack(c.history(made, end), func(message []byte, newest time.Time) error {
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
			if likeness != nil {
				likeness.add(s.Record)
			}
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
	c.Rows = rows(query)
	c.made = made
	if likeness != nil {
		c.Likeness = likeness.result()
	}
	if o.Judge {
		c.query = query
	}
	return c, nil
}

// rows are the ids of the sign-ins that the query returns.
func rows(query *oracle.Query) map[string]bool {
	ids := make(map[string]bool)
	for _, row := range query.Rows() {
		ids[row.ID] = true
	}
	return ids
}

// history is the sign-ins before the end.
func (c *Corpus) history(made *tenant.Tenant, end time.Time) iter.Seq[tenant.SignIn] {
	return func(yield func(tenant.SignIn) bool) {
		for {
			s, more := made.Next()
			if !more || !s.Time.Before(end) {
				return
			}
			s.Record = c.settle(s)
			if !yield(s) {
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
// each sign-in is one of the copy and of the user that pick returns, who is of those that Copy
// names. Each call goes on where the one before ended.
//
// It returns the ids of the sign-ins of copy 0, with whether the query returns them; none where
// Options.Judge was not given.
func (c *Corpus) WritePresent(ctx context.Context, brokers, topic string, count int, pick func(n int, s tenant.SignIn) (copyNumber, user int)) (map[string]bool, error) {
	to, err := Open(brokers, topic)
	if err != nil {
		return nil, err
	}
	judged := make(map[string]bool)
	n := 0
	var refused error
	signIns := func(yield func(tenant.SignIn) bool) {
		for ; n < count && ctx.Err() == nil; n++ {
			s, _ := c.made.Next()
			copyNumber, user := pick(n, s)
			upn := c.made.UPN(user)
			if user != s.User || Draw(s, "place")%strays > 0 {
				s.Record = c.settle(s)
			}
			s.Record = rename(s.Record, upn)
			if c.query != nil && copyNumber == 0 {
				// His history is that of the user whose copy he is.
				refused = errors.Join(refused, c.query.Add(s.Record))
				judged[s.ID] = false
			}
			s.Record = rename(s.Record, Copy(copyNumber, upn))
			if !yield(s) {
				return
			}
		}
	}
	err = pack(signIns, to.Write, func(tenant.SignIn) {})
	if err := errors.Join(err, refused, ctx.Err(), to.Close(ctx)); err != nil {
		return nil, err
	}
	if c.query != nil {
		returned := rows(c.query)
		for id := range judged {
			judged[id] = returned[id]
		}
	}
	return judged, nil
}

// strays is of how many sign-ins of the present one comes from where the tenant has its user.
const strays = 20

// Copy is the UPN of a user in one of the copies of the tenant.
func Copy(number int, upn string) string { return fmt.Sprintf("c%d.%s", number, upn) }

// Draw is a number that a sign-in has of its own, however often it is delivered: as good as random,
// and another for each use.
func Draw(s tenant.SignIn, use string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(use))
	h.Write([]byte(s.ID))
	return h.Sum64()
}

// rename makes a record one of another user.
func rename(record []byte, upn string) []byte { return set(record, `"userPrincipalName":"`, '"', upn) }

// settle has the user sign in from one of the networks of Options.Networks.
func (c *Corpus) settle(s tenant.SignIn) []byte {
	if c.networks == 0 || s.Theft > 0 {
		return s.Record
	}
	n := Draw(s, "network") % uint64(c.networks)
	address := fmt.Sprintf("198.18.%d.%d", n/250, 1+n%250)
	record := set(s.Record, `"callerIpAddress":"`, '"', address)
	record = set(record, `"ipAddress":"`, '"', address)
	return set(record, `"autonomousSystemNumber":`, ',', fmt.Sprint(64512+n/20))
}

// set gives a field of a record another value, where the record has it.
func set(record []byte, field string, end byte, value string) []byte {
	at := bytes.Index(record, []byte(field))
	if at < 0 {
		return record
	}
	at += len(field)
	return slices.Concat(record[:at], []byte(value), record[at+bytes.IndexByte(record[at:], end):])
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
