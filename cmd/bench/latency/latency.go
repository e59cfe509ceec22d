// Package latency measures how old an alert is when a reader of committed records has it. It owns
// an open loop: sign-ins are written when they are due, whatever became of those before them, and
// an alert's age counts from when its sign-in was due, so that a pipeline which holds up the writer
// cannot hide that. It must not know how prtwatch works.
//
// Start at Measure.
package latency

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/bench/report"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

const (
	// every is how far messages are apart: each has what became due since the one before.
	every = 10 * time.Millisecond
	// longestWarmUp comes before what is measured, half of that at most: connections, topics that
	// nobody has written to yet, and a broker whose Java has yet to compile.
	longestWarmUp = 30 * time.Second
	// drain is how long alerts may come after the last sign-in.
	drain = 5 * time.Second
	// Longest is how long a measurement may take: all its sign-ins are of one hour, in which a
	// user's networks do not become known, so that every candidate alerts.
	Longest = 50 * time.Minute
	// users makes for some sign-ins a user and hour, as in a real tenant.
	users = 20_000
)

// Options say what to measure.
type Options struct {
	Brokers string
	Input   string // the raw topic: exists, and is read by a pipeline that is ready
	Alerts  string // the topic of alerts
	Rate    int    // sign-ins a second
	For     time.Duration
	Seed    uint64
}

// Result is what was measured.
type Result struct {
	SignIns       int
	Took          time.Duration   // of the whole, the warm-up and the wait for the last alerts included
	Ages          []time.Duration // of the alerts, rising; those of the warm-up left out
	WorstTardy    time.Duration   // the longest that a message was handed over after it was due
	Unaccountable int             // alerts that no sign-in of this measurement explains
}

// Percentile is the age that this share of the alerts did not exceed.
func (r Result) Percentile(share float64) time.Duration { return report.Percentile(r.Ages, share) }

// loop is a measurement that runs.
type loop struct {
	Options
	client *kgo.Client
	made   *tenant.Tenant
	start  time.Time // the event time of the beginning
	began  time.Time // the wall clock's, of the beginning
	result Result
	warmUp time.Duration
	failed struct {
		sync.Mutex
		err error
	}
}

// Measure writes for the time that the options say, and reads the alerts meanwhile.
func Measure(ctx context.Context, o Options) (Result, error) {
	l := &loop{Options: o, start: time.Now().UTC().Truncate(time.Hour).Add(time.Second), warmUp: min(longestWarmUp, o.For/2)}
	var err error
	if l.made, err = tenant.New(tenant.Options{Users: users, Rate: float64(o.Rate), Start: l.start, Seed: o.Seed}); err != nil {
		return Result{}, err
	}
	l.client, err = kgo.NewClient(
		kgo.SeedBrokers(o.Brokers),
		kgo.DefaultProduceTopic(o.Input), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.RecordDeliveryTimeout(time.Minute),
		kgo.ConsumeTopics(o.Alerts), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	if err != nil {
		return Result{}, err
	}
	defer l.client.Close()
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var reader sync.WaitGroup
	reader.Go(func() { l.read(reading) })
	err = l.write(ctx)
	if err == nil {
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-time.After(drain):
		}
	}
	stop()
	reader.Wait()
	l.failed.Lock()
	defer l.failed.Unlock()
	if err := errors.Join(err, l.failed.err); err != nil {
		return Result{}, err
	}
	slices.Sort(l.result.Ages)
	l.result.Took = time.Since(l.began)
	return l.result, nil
}

func (l *loop) fail(err error) {
	l.failed.Lock()
	defer l.failed.Unlock()
	if l.failed.err == nil {
		l.failed.err = err
	}
}

// due is when the message of a sign-in is due that is dated so.
func (l *loop) due(at time.Time) time.Time {
	offset := at.Sub(l.start)
	return l.began.Add((offset/every + 1) * every)
}

// write makes each message before it is due and hands it over then.
func (l *loop) write(ctx context.Context) error {
	next, _ := l.made.Next()
	// A tenant makes all of its users first, which takes its time.
	l.began = time.Now().Add(50 * time.Millisecond)
	var packer tenant.Packer
	for due := l.began.Add(every); due.Sub(l.began) <= l.warmUp+l.For; due = due.Add(every) {
		var messages [][]byte
		for !l.due(next.Time).After(due) {
			if message := packer.Add(next.Record); message != nil {
				messages = append(messages, message)
			}
			l.result.SignIns++
			next, _ = l.made.Next()
		}
		if message := packer.Flush(); message != nil {
			messages = append(messages, message)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Until(due)):
		}
		l.result.WorstTardy = max(l.result.WorstTardy, time.Since(due))
		for _, message := range messages {
			l.client.Produce(ctx, &kgo.Record{Value: message}, func(_ *kgo.Record, err error) {
				if err != nil {
					l.fail(fmt.Errorf("writing to topic %s: %w", l.Input, err))
				}
			})
		}
	}
	return nil
}

// read notes how old each alert is.
func (l *loop) read(ctx context.Context) {
	for {
		fetches := l.client.PollFetches(ctx)
		now := time.Now()
		if ctx.Err() != nil {
			return
		}
		if err := fetches.Err(); err != nil {
			l.fail(fmt.Errorf("reading topic %s: %w", l.Alerts, err))
			return
		}
		fetches.EachRecord(func(r *kgo.Record) { l.note(r.Value, now) })
	}
}

func (l *loop) note(value []byte, now time.Time) {
	var alert struct{ Time time.Time }
	if err := json.Unmarshal(value, &alert); err != nil {
		l.fail(fmt.Errorf("reading an alert: %w: %.200s", err, value))
		return
	}
	due := l.due(alert.Time)
	switch {
	case alert.Time.Before(l.start) || due.After(now):
		l.result.Unaccountable++
	case due.Sub(l.began) > l.warmUp:
		l.result.Ages = append(l.result.Ages, now.Sub(due))
	}
}
