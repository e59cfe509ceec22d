// Package top shows what instances do at a glance: it asks each for /metrics and /readyz, reads the last alerts, and draws
// both on a terminal or prints them once. It owns what is made of two readings of an instance (reading.go, instance.go), the last
// alerts (tail.go), the lines of a frame (frame.go) and the terminal (screen.go). It must never know how the figures come about: it has the names of metrics
// and nothing else of the instances.
//
// Start at Run.
package top

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

// Options say what is shown, and where.
type Options struct {
	// URLs are where instances answer: see ParseURL.
	URLs []string
	// Every is how long a frame stands.
	Every time.Duration
	// Alerts are read from this topic of Kafka; an empty topic is none. Patience is how long its brokers may take to answer
	// before it is said that they do not.
	Kafka    kafka.Cluster
	Topic    string
	Patience time.Duration

	// Once prints one frame to Out as plain text. Else the terminal of Screen and Keys is taken over until q or ctx ends it.
	Once  bool
	Out   io.Writer
	Width int // of a frame that is printed once; 0: as wide as it gets
	// Screen is where Out is shown, and Keys is what is typed there; nil where nobody types.
	Screen, Keys Terminal
	Colour       bool
}

// Terminal is one end of a terminal, most often an *os.File.
type Terminal interface {
	io.ReadWriter
	Fd() uintptr
}

// ErrNoAnswer is what Run returns where not one instance answered and one frame was wanted.
var ErrNoAnswer = errors.New("no instance answers")

// top is what a frame is made of.
type top struct {
	Options
	instances []*instance
	tail      *tail // nil without alerts
}

// Run shows until ctx is done, or one frame.
func Run(ctx context.Context, o Options) error {
	t := &top{Options: o}
	for _, url := range o.URLs {
		t.instances = append(t.instances, newInstance(url))
	}
	ctx, end := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer end()
	if o.Topic != "" {
		t.tail = newTail()
		reading.Go(func() { t.tail.follow(ctx, o.Kafka, o.Topic, o.Patience) })
	}
	if o.Once {
		return t.once(ctx)
	}
	return t.live(ctx)
}

// askWithin is how long an instance may take to answer.
const askWithin = 2 * time.Second

// ask asks all instances at once, and returns what is to be done with the answers.
func (t *top) ask(ctx context.Context) (note func()) {
	ctx, done := context.WithTimeout(ctx, askWithin)
	defer done()
	readings, errs := make([]*reading, len(t.instances)), make([]error, len(t.instances))
	var all sync.WaitGroup
	for i, in := range t.instances {
		all.Go(func() { readings[i], errs[i] = read(ctx, in.url) })
	}
	all.Wait()
	now := time.Now()
	return func() {
		for i, in := range t.instances {
			in.note(readings[i], errs[i], now)
		}
	}
}

// alertsOnce is how many alerts a frame has that is printed.
const alertsOnce = 10

// once prints a frame: rates take two readings.
func (t *top) once(ctx context.Context) error {
	t.ask(ctx)()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(t.Every):
	}
	t.ask(ctx)()
	if t.tail != nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.tail.read:
		case <-time.After(t.Patience + time.Second):
		}
	}
	f := t.frame(time.Now())
	for _, l := range f.lines(t.Width, 0) {
		if _, err := io.WriteString(t.Out, l.text+"\n"); err != nil {
			return err
		}
	}
	for _, in := range t.instances {
		if in.err == nil {
			return nil
		}
	}
	return ErrNoAnswer
}

// frame is what is shown now.
func (t *top) frame(now time.Time) frame {
	f := frame{now: now, every: t.Every}
	for _, in := range t.instances {
		f.rows = append(f.rows, in.row(now))
	}
	if t.tail != nil {
		f.alerts, f.noAlerts = t.tail.last()
		f.withAlerts = true
	}
	return f
}
