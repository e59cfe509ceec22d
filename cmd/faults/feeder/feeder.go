// Package feeder plays Azure: it writes what a made tenant did to the input topic, first all that
// an outage has left, then hour by hour what follows. It owns what is odd in the input: uneven
// partitions, bytes that are no record, transactions that are aborted. It must not know what
// prtwatch makes of it.
//
// The hours matter: prtwatch promises the query's rows where hours are read in order
// (docs/design.md), so an hour is written when all of the one before it has been split.
//
// Start at Feeder.Backlog, then Feeder.Hour.
package feeder

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/tenant"
)

// Partitions of the input topic.
const Partitions = 8

// shares are how many of the messages each partition gets: the last one for every hundred of
// the first.
var shares = [Partitions]int{100, 80, 60, 40, 30, 20, 10, 1}

const (
	// days are more than window and lateness, and then a week: what a member that was frozen in the
	// backlog lets go would be judged by profiles that have forgotten its hours.
	days = 24
	// behind is how much of it is not backlog. It stays below the lateness of 48 hours: a tick
	// says that the input has been read to the present, while these hours are still to come.
	behind = 44 * time.Hour
)

// One of so many people is seen in the first hours only, and is to be forgotten at the end: window
// and lateness are sixteen days.
const (
	leavers = 8
	leave   = 8 * time.Hour
)

// thefts for each 1,000 user-days: many, for what is stolen is what alerts.
const thefts = 200

// flood is how often a stolen token is used in less than an hour: more alerts than a profile remembers.
const flood = 400

// Options say what is written where.
type Options struct {
	Brokers []string
	Topic   string
	Users   int
	Random  *rand.Rand
	Now     time.Time
}

// Counts are what was written.
type Counts struct {
	SignIns    int // in messages that were produced; those of aborted transactions are not in it
	Unreadable int // messages or records that are none
	Aborted    int // transactions
	Failed     int // messages that the brokers did not acknowledge
}

// Plus is the sum of both.
func (c Counts) Plus(d Counts) Counts {
	return Counts{c.SignIns + d.SignIns, c.Unreadable + d.Unreadable, c.Aborted + d.Aborted, c.Failed + d.Failed}
}

// Feeder writes to one topic. It belongs to one goroutine.
type Feeder struct {
	o       Options
	people  *tenant.Tenant
	ghosts  *tenant.Tenant // what they do is written in transactions that are aborted
	client  *kgo.Client
	session *kgo.Client // writes transactions
	next    tenant.SignIn
	more    bool
	leaving time.Time // when the leavers leave
	packer  tenant.Packer
	packed  int // sign-ins in it
	newest  time.Time

	mu     sync.Mutex // promises count too
	counts Counts
}

// New connects to the brokers. The tenant's last sign-ins are those before o.Now.
func New(o Options) (*Feeder, error) {
	f := &Feeder{o: o}
	start := o.Now.UTC().Truncate(time.Hour).Add(-days * 24 * time.Hour)
	options := tenant.Options{
		Users: o.Users, Days: days, Start: start, Seed: o.Random.Uint64(), Shape: tenant.Mixed, Odd: 0.05, Thefts: thefts,
	}
	var err error
	if f.people, err = tenant.New(options); err != nil {
		return nil, err
	}
	// One flood lies in the backlog, the other in the hours that come after it. The thieves are where nobody
	// of the tenant ever is (internal/tenant), or their network might be known.
	for n, at := range []time.Duration{(days/2)*24*time.Hour + 12*time.Hour, days*24*time.Hour - behind/2} {
		if err := f.flood((n+1)%o.Users, byte(n), start.Add(at+time.Minute)); err != nil { // a whole hour belongs to the one before
			return nil, err
		}
	}
	options.Seed, options.Users, options.Start, options.Days = o.Random.Uint64(), 5, start.Add((days-1)*24*time.Hour), 1
	if f.ghosts, err = tenant.New(options); err != nil {
		return nil, err
	}
	common := []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedBytes(32 << 20),
		kgo.MetadataMinAge(50 * time.Millisecond),
	}
	if f.client, err = kgo.NewClient(common...); err != nil {
		return nil, err
	}
	f.session, err = kgo.NewClient(append(common, kgo.TransactionalID(o.Topic+"-feeder"), kgo.TransactionTimeout(10*time.Second))...)
	if err != nil {
		f.client.Close()
		return nil, err
	}
	f.leaving = start.Add(leave)
	f.advance()
	return f, nil
}

// flood has a user's token used again and again, by one thief of a few.
func (f *Feeder) flood(user int, thief byte, at time.Time) error {
	theft := tenant.Theft{User: user, UPN: f.people.UPN(user), Start: at, IP: netip.AddrFrom4([4]byte{203, 0, 113, 250 + thief}), ASN: 65551}
	for n := range flood {
		theft.Steps = append(theft.Steps, tenant.Step{After: time.Duration(n) * 8 * time.Second, App: "Microsoft Office", Resource: "Microsoft Graph"})
	}
	_, err := f.people.Steal(theft)
	return err
}

// advance goes to the next sign-in of somebody who has not left.
func (f *Feeder) advance() {
	f.next, f.more = f.people.Next()
	for f.more && f.next.User%leavers == 0 && f.next.Time.After(f.leaving) {
		f.next, f.more = f.people.Next()
	}
}

// Close hangs up.
func (f *Feeder) Close() {
	f.client.Close()
	f.session.Close()
}

// Counts returns what was written so far.
func (f *Feeder) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

func (f *Feeder) count(add func(*Counts)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	add(&f.counts)
}

// More reports whether there are sign-ins left to write.
func (f *Feeder) More() bool { return f.more }

// Hours returns how many hours are left.
func (f *Feeder) Hours() int {
	if !f.more {
		return 0
	}
	return int(f.o.Now.Sub(f.next.Time)/time.Hour) + 1
}

// Backlog writes all but the last hours, as fast as the brokers take it.
func (f *Feeder) Backlog(ctx context.Context) error {
	f.packer.MaxRecords = 20 + f.o.Random.IntN(40)
	until := f.o.Now.UTC().Truncate(time.Hour).Add(-behind)
	for f.more && !f.next.Time.After(until) && ctx.Err() == nil {
		f.take(ctx, f.write)
	}
	f.flush(ctx, f.write)
	return f.written(ctx)
}

// Hour writes the sign-ins of the next hour in which there are any, evenly spread over the
// time that it may take, some in transactions; at once and without any where that is 0. Within
// an hour their order does not matter.
func (f *Feeder) Hour(ctx context.Context, over time.Duration) error {
	if !f.more {
		return nil
	}
	f.packer.MaxRecords = 1 + f.o.Random.IntN(8)
	until := ceil(f.next.Time)
	var messages []message
	keep := func(_ context.Context, m message) { messages = append(messages, m) }
	for f.more && !f.next.Time.After(until) {
		f.take(ctx, keep)
	}
	f.flush(ctx, keep)
	f.o.Random.Shuffle(len(messages), func(a, b int) { messages[a], messages[b] = messages[b], messages[a] })
	began := time.Now()
	for n := 0; n < len(messages); {
		if over > 0 && f.o.Random.IntN(8) == 0 {
			some := min(1+f.o.Random.IntN(4), len(messages)-n)
			f.transaction(ctx, messages[n:n+some])
			n += some
		} else {
			f.write(ctx, messages[n])
			n++
		}
		wait(ctx, time.Until(began.Add(over*time.Duration(n)/time.Duration(len(messages)))))
	}
	return f.written(ctx)
}

func ceil(t time.Time) time.Time {
	if up := t.Truncate(time.Hour); !up.Equal(t) {
		return up.Add(time.Hour)
	}
	return t
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// message is what becomes one record of the topic.
type message struct {
	value   []byte
	newest  time.Time
	signIns int
}

// take packs the next sign-in.
func (f *Feeder) take(ctx context.Context, give func(context.Context, message)) {
	if full := f.packer.Add(f.next.Record); full != nil {
		f.give(ctx, full, give)
	}
	f.packed++
	f.newest = f.next.Time
	f.advance()
}

func (f *Feeder) flush(ctx context.Context, give func(context.Context, message)) {
	if last := f.packer.Flush(); last != nil {
		f.give(ctx, last, give)
	}
}

func (f *Feeder) give(ctx context.Context, value []byte, give func(context.Context, message)) {
	give(ctx, message{value: value, newest: f.newest, signIns: f.packed})
	f.packed = 0
	if f.o.Random.IntN(200) == 0 {
		f.count(func(c *Counts) { c.Unreadable++ })
		give(ctx, message{value: f.unreadable(), newest: f.newest})
	}
}

// unreadable returns a message that is none, or has a record that is none.
func (f *Feeder) unreadable() []byte {
	variants := []string{
		`this is no JSON at all`,
		`{"records":[{"time":"` + f.newest.UTC().Format(time.RFC3339) + `","category":"NonInteractiveUserSignInLogs","properties":{"id":"`,
		`{"records":[17]}`,
		`{"records":"none"}`,
		strings.Repeat("[", 200),
	}
	return []byte(variants[f.o.Random.IntN(len(variants))])
}

func (f *Feeder) partition() int32 {
	sum := 0
	for _, s := range shares {
		sum += s
	}
	n := f.o.Random.IntN(sum)
	for p, s := range shares {
		if n -= s; n < 0 {
			return int32(p)
		}
	}
	return 0
}

// deliverWithin is how long a message may wait for the brokers: longer than any fault.
const deliverWithin = 2 * time.Minute

func (f *Feeder) record(m message) *kgo.Record {
	return &kgo.Record{Topic: f.o.Topic, Partition: f.partition(), Value: m.value, Timestamp: m.newest}
}

// write produces a message.
func (f *Feeder) write(ctx context.Context, m message) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliverWithin)
	f.client.Produce(ctx, f.record(m), func(_ *kgo.Record, err error) {
		cancel()
		f.count(func(c *Counts) {
			if err != nil {
				c.Failed++
				return
			}
			c.SignIns += m.signIns
		})
	})
}

// written waits until all is acknowledged.
func (f *Feeder) written(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deliverWithin)
	defer cancel()
	if err := f.client.Flush(ctx); err != nil {
		return fmt.Errorf("writing to topic %s: %w", f.o.Topic, err)
	}
	return nil
}

// transaction writes messages in one transaction, and before them, half of the times, one of
// ghosts that is aborted. Where the transaction fails, nobody knows its outcome, and the topic
// decides: what is committed there is the input.
func (f *Feeder) transaction(ctx context.Context, messages []message) {
	if f.o.Random.IntN(2) == 0 {
		var ghosts []message
		for range 1 + f.o.Random.IntN(3) {
			if g, ok := f.ghosts.Next(); ok {
				ghosts = append(ghosts, message{value: tenant.Envelope(nil, g.Record), newest: messages[0].newest})
			}
		}
		if f.transact(ctx, ghosts, kgo.TryAbort) == nil {
			f.count(func(c *Counts) { c.Aborted++ })
		}
	}
	err := f.transact(ctx, messages, kgo.TryCommit)
	f.count(func(c *Counts) {
		if err != nil {
			c.Failed += len(messages)
			return
		}
		for _, m := range messages {
			c.SignIns += m.signIns
		}
	})
}

func (f *Feeder) transact(ctx context.Context, messages []message, how kgo.TransactionEndTry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if err := f.session.BeginTransaction(); err != nil {
		return f.renew(err)
	}
	records := make([]*kgo.Record, 0, len(messages))
	for _, m := range messages {
		records = append(records, f.record(m))
	}
	if err := f.session.ProduceSync(ctx, records...).FirstErr(); err != nil {
		_ = f.session.EndTransaction(ctx, kgo.TryAbort)
		return f.renew(err)
	}
	if err := f.session.EndTransaction(ctx, how); err != nil {
		return f.renew(err)
	}
	return nil
}

// renew throws a client away of which nobody knows where its transaction stands. The new one,
// with the same id, ends that transaction.
func (f *Feeder) renew(err error) error {
	session, e := kgo.NewClient(f.session.Opts()...)
	if e != nil {
		return e
	}
	f.session.Close()
	f.session = session
	return err
}
