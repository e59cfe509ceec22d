package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/internal/broker"
	"github.com/prtwatch/prtwatch/internal/tenant"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// What the demo shows: enough people that something happens each second, and a past that is
// made in a second or two.
const (
	demoUsers      = 40
	demoDays       = 7  // with a week, who works on Mondays only is known
	demoRate       = 40 // sign-ins a second
	demoPartitions = 4
	// The first theft begins so soon, the steps of one follow each other so fast, and the next
	// begins so long after: within 20 s one is told whole.
	firstTheft = 3 * time.Second
	theftPace  = 2 * time.Second
	nextTheft  = 25 * time.Second
)

func (p *program) demoCommand() *cobra.Command {
	var lasts time.Duration
	var seed uint64
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "see it work, without any set-up",
		Long: `Starts a broker inside this process, makes a tenant with some days of past, and runs the whole
pipeline on it: what the tenant's people do, alerts as they come, and among them the theft of a
token, told step by step. Nothing is kept and nothing leaves this machine.`,
		Example: `  prtwatch demo
  prtwatch demo --for 20s`,
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error {
			if lasts < 0 {
				return wrong(fmt.Errorf("--for %s: give a time such as 20s, or leave it out", lasts))
			}
			s, err := p.settings()
			if err != nil {
				return err
			}
			return p.demo(ctx, s, lasts, seed)
		}),
	}
	cmd.Flags().DurationVar(&lasts, "for", 0, "end after this time, such as 20s (0: with a signal)")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "of the tenant")
	return cmd
}

// errDemoOver ends a demo that --for bounds.
var errDemoOver = errors.New("--for is over")

func (p *program) demo(ctx context.Context, s *settings.Settings, lasts time.Duration, seed uint64) (err error) {
	if lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, lasts, errDemoOver)
		defer cancel()
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
	demoSettings(s, embedded.Addrs(), dir)

	show := newStory(p.stdout)
	show.say("", "An embedded broker, a made tenant of %d people, the whole pipeline. Nothing leaves this machine.", demoUsers)
	client, err := kgo.NewClient(kgo.SeedBrokers(embedded.Addrs()...), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return fmt.Errorf("making the demo's client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	_, err = kafka.Create(ctx, admin, s.Topics)
	if err == nil {
		_, err = kafka.CreateInput(ctx, admin, s.Input.Topics, demoPartitions, 1)
	}
	if err != nil {
		return err
	}
	return p.play(ctx, s, client, show, seed)
}

// demoSettings puts the embedded broker and a folder of its own in place of what is configured;
// how it detects stays the user's.
func demoSettings(s *settings.Settings, addrs []string, dir string) {
	s.Kafka = kafka.Cluster{Brokers: addrs}
	s.Input.Brokers = nil
	s.Topics = kafka.DefaultTopics()
	s.Topics.Partitions, s.Topics.Replication = demoPartitions, 1
	s.Detect.Members = 2
	s.State.Dir = dir
	s.Log.Level = "warn"
}

// play runs the pipeline, feeds it and tells what happens, until ctx is done.
func (p *program) play(ctx context.Context, s *settings.Settings, client *kgo.Client, show *story, seed uint64) (err error) {
	pipe := &pipeline{settings: s, log: newLogger(s.Log, p.stderr), registry: newRegistry()}
	if err := pipe.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pipe.close()) }()
	begin := demoPresent(time.Now())
	people, err := tenant.New(tenant.Options{
		Users: demoUsers, Days: demoDays, Rate: demoRate, Seed: seed, Thefts: -1,
		Start: begin.AddDate(0, 0, -demoDays),
	})
	if err != nil {
		return err
	}
	feed := &feeder{people: people, begin: begin, client: client, topic: s.Input.Topics[0], show: show, judged: func() int { return judged(pipe.registry) }}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return pipe.run(ctx) })
	group.Go(func() error { return feed.run(ctx) })
	group.Go(func() error { return show.alerts(ctx, s.Kafka.Brokers, s.Topics.Alerts) })
	err = group.Wait()
	if ctx.Err() != nil && err == nil {
		show.sum(judged(pipe.registry))
	}
	return err
}

// demoPresent is when the demo's present begins. What the query knows of a network it knows
// from the next whole hour on (which is what a thief profits from), so a theft that is told
// across one would fall silent in the middle: near its end the present is set back a little.
func demoPresent(now time.Time) time.Time {
	const told = time.Minute
	if now.Add(told).Truncate(time.Hour) != now.Truncate(time.Hour) {
		now = now.Add(-told)
	}
	return now
}
