// Package demo shows the main job on a machine that has nothing but this program: an embedded
// broker, a made tenant, the pipeline as `run` runs it, and a story that is told on the
// terminal as it happens. Start at Run.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/pipeline"
	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/internal/broker"
	"github.com/prtwatch/prtwatch/internal/tenant"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// What the demo shows: enough people that something happens each second, and a past that is
// made in a second or two.
const (
	users      = 30
	days       = 5  // over a weekend too, most are known
	rate       = 40 // sign-ins a second
	partitions = 4
	// The first theft begins so soon, the steps of one follow each other so fast, and the next
	// begins so long after: within 20 s one is told whole.
	firstTheft = 3 * time.Second
	theftPace  = 2 * time.Second
	nextTheft  = 25 * time.Second
)

// Options say how the demo is played.
type Options struct {
	For      time.Duration // ends it; 0: until the context is done
	Seed     uint64        // of the tenant
	Out      io.Writer     // where the story is told
	Terminal bool          // Out is one
	Log      *slog.Logger
}

// Run plays the demo until its time is over or ctx is done. How it detects is as s says; the
// brokers, the topics and the state folder of s are not used.
func Run(ctx context.Context, s *settings.Settings, o Options) (err error) {
	if o.For > 0 {
		// Ended as a signal does it, not by a deadline: clients take that for a broker that does not answer.
		var end context.CancelFunc
		ctx, end = context.WithCancel(ctx)
		defer end()
		defer time.AfterFunc(o.For, end).Stop()
	}
	embedded, err := broker.StartEmbedded()
	if err != nil {
		return err
	}
	defer embedded.Close()
	dir, err := os.MkdirTemp("", "prtwatch-demo-")
	if err != nil {
		return fmt.Errorf("making the demo's state folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	embed(s, embedded.Addrs(), dir)

	show := newStory(o.Out, o.Terminal)
	show.say("", "An embedded broker, a made tenant of %d people, the whole pipeline. Nothing leaves this machine.", users)
	client, err := kgo.NewClient(kgo.SeedBrokers(embedded.Addrs()...), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return fmt.Errorf("making the demo's client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	_, err = kafka.Create(ctx, admin, s.Topics)
	if err == nil {
		_, err = kafka.CreateInput(ctx, admin, s.Input.Topics, partitions, 1)
	}
	if err == nil {
		err = play(ctx, s, o, client, show)
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return nil // its time was over, or a signal came: that is how a demo ends
	}
	return err
}

// embed puts the embedded broker and a folder of its own in place of what is configured;
// how it detects stays the user's.
func embed(s *settings.Settings, addrs []string, dir string) {
	s.Kafka = kafka.Cluster{Brokers: addrs}
	s.Input.Brokers = nil
	s.Topics = kafka.DefaultTopics()
	s.Topics.Partitions, s.Topics.Replication = partitions, 1
	s.Detect.Members = 2
	s.State.Dir = dir
}

// play runs the pipeline, feeds it and tells what happens, until ctx is done.
func play(ctx context.Context, s *settings.Settings, o Options, client *kgo.Client, show *story) (err error) {
	registry := prometheus.NewRegistry()
	pipe, err := pipeline.Open(ctx, s, pipeline.Options{Log: o.Log, Registry: registry})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pipe.Close()) }()
	begin := present(time.Now())
	people, err := tenant.New(tenant.Options{
		Users: users, Days: days, Rate: rate, Seed: o.Seed, Thefts: -1, Start: begin.AddDate(0, 0, -days),
	})
	if err != nil {
		return err
	}
	feed := &feeder{people: people, begin: begin, client: client, topic: s.Input.Topics[0], show: show, judged: func() int { return judged(registry) }}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return pipe.Run(ctx) })
	group.Go(func() error { return feed.run(ctx) })
	group.Go(func() error { return show.alerts(ctx, s.Kafka.Brokers, s.Topics.Alerts) })
	if err := group.Wait(); err != nil {
		return err
	}
	show.sum(judged(registry))
	return nil
}

// present is when the demo's present begins. What the query knows of a network it knows
// from the next whole hour on (which is what a thief profits from), so a theft that is told
// across one would fall silent in the middle: near its end the present is set back a little.
func present(now time.Time) time.Time {
	const told = time.Minute
	if now.Add(told).Truncate(time.Hour) != now.Truncate(time.Hour) {
		now = now.Add(-told)
	}
	return now
}
