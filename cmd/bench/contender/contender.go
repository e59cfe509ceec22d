// Package contender has those who are measured: a client that only reads, the Kafka Streams
// application, and prtwatch. It owns how each is started, when it is done, and what it took. It
// must not know what the corpus is made of, nor what is a good figure.
//
// Start at Contender; noop.go, streams.go and prtwatch.go are the three.
package contender

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/bench/broker"
	"github.com/prtwatch/prtwatch/cmd/bench/process"
)

// Contender runs over the raw topic once.
type Contender interface {
	// Name is a row's, and begins the names of topics and groups.
	Name() string
	// Run reads all of the raw topic in a process of its own and ends it. The number tells runs apart.
	Run(ctx context.Context, raw Raw, number int) (Outcome, error)
}

// Raw is what is to be read.
type Raw struct {
	Broker  *broker.Broker
	Topic   string
	SignIns int
	Dir     string // for states and logs
}

// Outcome is what a run took. Times count from when the process was started to when the last record
// was read, or its verdict committed.
type Outcome struct {
	Wall      time.Duration
	CPU       time.Duration
	Peak      int64 // bytes
	BrokerCPU time.Duration

	// Warm is the same without the first quarter of the work, in which a process starts and a
	// Java compiles: how many sign-ins there were then, and what they took. Zero where there was no
	// telling how far it was.
	Warm struct {
		SignIns   float64
		Wall, CPU time.Duration
	}

	Alerts  map[string]int // the ids of the sign-ins that alerted, and how often
	Flowing bool           // there are alerts to compare
}

// watchEvery is how often a run is asked how far it is: the error of a wall time. To ask costs the broker
// some milliseconds, so it is not more often.
const watchEvery = 100 * time.Millisecond

// warm is which share of the work is left out of Outcome.Warm.
const warm = 0.25

// sample is what was seen at one moment.
type sample struct {
	state       broker.State
	own, broker process.Usage
}

// watch waits until the flow is done, and says what it took.
func watch(ctx context.Context, p *process.Process, raw Raw, f broker.Flow) (o Outcome, err error) {
	before, err := raw.Broker.Usage()
	if err != nil {
		return o, err
	}
	firstEnd, err := raw.Broker.End(ctx, f.First.Topic)
	if err != nil {
		return o, err
	}
	var samples []sample
	var ends broker.Ends
	known := false
	for {
		s := sample{}
		if s.state, err = raw.Broker.State(ctx, f); err != nil {
			return o, err
		}
		if s.own, err = p.Usage(); err != nil {
			return o, err
		}
		if s.broker, err = raw.Broker.Usage(); err != nil {
			return o, err
		}
		samples = append(samples, s)
		if !known && s.state.FirstDone(firstEnd) {
			known = true
			if ends, err = raw.Broker.Ends(ctx, f); err != nil {
				return o, err
			}
		}
		if known && s.state.Done(ends) {
			break
		}
		select {
		case <-ctx.Done():
			return o, fmt.Errorf("waiting until %s is done: %w", p.Name, context.Cause(ctx))
		case <-time.After(watchEvery):
		}
	}
	o.summarize(samples, ends, p.Began, before, raw.SignIns)
	return o, nil
}

// summarize finds in the samples when the work was done, which may have been before anyone could
// know: the first stage commits later than the second has judged what it wrote.
func (o *Outcome) summarize(samples []sample, ends broker.Ends, began time.Time, before process.Usage, signIns int) {
	last := len(samples) - 1
	for last > 0 && samples[last-1].state.Done(ends) {
		last--
	}
	done := samples[last]
	o.Wall, o.CPU, o.Peak, o.BrokerCPU = done.state.At.Sub(began), done.own.CPU, samples[len(samples)-1].own.Peak, done.broker.CPU-before.CPU
	for _, s := range samples[:last] {
		if progress := s.state.Progress(ends); progress >= warm {
			o.Warm.SignIns = (1 - progress) * float64(signIns)
			o.Warm.Wall, o.Warm.CPU = done.state.At.Sub(s.state.At), done.own.CPU-s.own.CPU
			break
		}
	}
}

// alerts reads the committed alerts of a topic.
func alerts(ctx context.Context, b *broker.Broker, topic string) (map[string]int, error) {
	ids := make(map[string]int)
	var wrong error
	err := b.ReadCommitted(ctx, topic, func(r *kgo.Record) {
		var alert struct {
			SignIn struct{ ID string } `json:"sign_in"`
		}
		if err := json.Unmarshal(r.Value, &alert); err != nil || alert.SignIn.ID == "" {
			wrong = fmt.Errorf("reading an alert of topic %s: no sign-in's id in %.200s", topic, r.Value)
		}
		ids[alert.SignIn.ID]++
	})
	if err == nil {
		err = wrong
	}
	return ids, err
}

// stopLimit is how long a process may take to end in order.
const stopLimit = 30 * time.Second

// prefix begins the names of a run's topics, groups and files.
func prefix(c Contender, number int) string { return fmt.Sprintf("bench.%s.%d", c.Name(), number) }

func logFile(raw Raw, prefix string) string { return filepath.Join(raw.Dir, prefix+".log") }
