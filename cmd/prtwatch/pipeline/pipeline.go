// Package pipeline makes the stages of prtwatch from its configuration and runs them. It owns
// the order of starting and stopping, the check of the topics before anything starts, the
// allowlist's files and what the state shows to Prometheus. It must not know what a record
// holds. Start at Open.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/detect"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/split"
)

// The stages, as --only names them.
const (
	Split  = "split"
	Detect = "detect"
)

// Options are what a Pipeline needs besides the configuration.
type Options struct {
	Only       string // Split or Detect; empty is both
	AcceptLoss bool   // go on where offsets are out of range (see detect.Deps)
	Log        *slog.Logger
	Registry   *prometheus.Registry // gets the metrics
}

// Pipeline is both stages, or one, and what they work with. Open, Run and Close are called
// once each, in that order; Ready may be called by any goroutine meanwhile.
type Pipeline struct {
	Options
	settings *settings.Settings

	detector  *detector.Detector
	allowlist *allowlist
	instance  string
	store     *state.Store // nil without the detecting stage
	internal  []kgo.Opt
	input     []kgo.Opt
	splitter  *split.Splitter
	stage     *detect.Stage
}

// Open reads the files, asks the clusters whether the topics are as they must be, and makes
// the stages. Whatever the user can have done wrong comes to light here: a *settings.Mistake,
// state.ErrInUse and state.ErrFormat are his to mend, and brokers that do not answer are
// another error.
func Open(ctx context.Context, s *settings.Settings, o Options) (*Pipeline, error) {
	pl := &Pipeline{Options: o, settings: s}
	for _, step := range []func(context.Context) error{
		pl.openRule, pl.openState, pl.openClusters, pl.checkTopics, pl.makeSplitter, pl.makeStage,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, pl.Close())
		}
	}
	return pl, nil
}

// Instance is the name of this process among those of its groups; empty without the
// detecting stage, which alone needs one.
func (pl *Pipeline) Instance() string { return pl.instance }

func (pl *Pipeline) splits() bool  { return pl.Only != Detect }
func (pl *Pipeline) detects() bool { return pl.Only != Split }

func (pl *Pipeline) openRule(context.Context) (err error) {
	if pl.detector, err = detector.New(pl.settings.Detection); err != nil {
		return settings.Wrong(err)
	}
	if pl.allowlist, err = openAllowlist(pl.settings.Detection.Allowlist, pl.Log, pl.Registry); err != nil {
		return settings.Wrong(err)
	}
	return nil
}

func (pl *Pipeline) openState(context.Context) (err error) {
	pl.instance = pl.settings.Instance
	if !pl.detects() {
		return nil
	}
	if pl.store, err = state.Open(pl.settings.State, detector.Window, pl.Log); err != nil {
		if path := new(fs.PathError); errors.As(err, &path) {
			err = settings.Wrong(fmt.Errorf("state.dir: %w; name a folder that can be made and written", err))
		}
		return err
	}
	if pl.instance == "" {
		pl.instance = pl.store.Instance()
	}
	pl.Registry.MustRegister(newStateCollector(pl.store))
	return nil
}

func (pl *Pipeline) openClusters(ctx context.Context) (err error) {
	log := pl.Log.With("component", "kafka client")
	if pl.internal, err = pl.settings.Kafka.Options(log, kafka.Metrics(pl.Registry, "kafka")); err != nil {
		return settings.Wrong(err)
	}
	pl.input = pl.internal
	if len(pl.settings.Input.Brokers) > 0 {
		if pl.input, err = pl.settings.InputCluster().Options(log, kafka.Metrics(pl.Registry, "input")); err != nil {
			return settings.Wrong(err)
		}
	}
	return nil
}

// checkTopics refuses to start on topics that are not as they must be: a user would lose his
// baseline, or an alert its partition.
func (pl *Pipeline) checkTopics(ctx context.Context) error {
	differences, err := pl.ask(ctx, "kafka", pl.settings.Kafka, pl.internal, func(admin *kadm.Client) ([]kafka.Difference, error) {
		return kafka.CheckUses(ctx, admin, pl.settings.Topics, pl.uses())
	})
	if err != nil {
		return err
	}
	if pl.splits() {
		missing, err := pl.ask(ctx, pl.settings.InputSection(), pl.settings.InputCluster(), pl.input, func(admin *kadm.Client) ([]kafka.Difference, error) {
			return kafka.CheckInput(ctx, admin, pl.settings.Input.Topics, kadm.OpRead)
		})
		if err != nil {
			return err
		}
		differences = append(differences, missing...)
	}
	if err := kafka.Fatal(differences); err != nil {
		return settings.Wrong(err)
	}
	for _, d := range differences {
		pl.Log.Warn(d.String())
	}
	return nil
}

// uses is what the stages do with the topics.
func (pl *Pipeline) uses() kafka.Uses {
	uses := kafka.Uses{"dead_letter": {kadm.OpWrite}}
	if pl.splits() {
		uses["signins"] = append(uses["signins"], kadm.OpWrite)
	}
	if pl.detects() {
		uses["signins"] = append(uses["signins"], kadm.OpRead)
		uses["baseline"] = []kadm.ACLOperation{kadm.OpRead, kadm.OpWrite}
		uses["alerts"] = []kadm.ACLOperation{kadm.OpWrite}
	}
	return uses
}

// askAgain is how soon a check of topics that a broker did not answer is tried again.
const askAgain = 250 * time.Millisecond

// ask checks topics of a cluster once a broker answers, and again while others of it do not.
func (pl *Pipeline) ask(ctx context.Context, section string, cluster kafka.Cluster, opts []kgo.Opt, check func(*kadm.Client) ([]kafka.Difference, error)) ([]kafka.Difference, error) {
	for began := time.Now(); ; {
		if err := kafka.Await(ctx, cluster, section, pl.settings.StartTimeout); err != nil {
			return nil, err
		}
		client, err := kgo.NewClient(opts...)
		if err != nil {
			return nil, settings.Wrong(fmt.Errorf("%s: %w", section, err))
		}
		differences, err := check(kadm.NewClient(client))
		client.Close()
		if err == nil || !kafka.Unreachable(err) || time.Since(began) > pl.settings.StartTimeout {
			return differences, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(askAgain):
		}
	}
}

func (pl *Pipeline) makeSplitter(context.Context) error {
	if !pl.splits() {
		return nil
	}
	start, err := split.ParseStart(pl.settings.Input.Start)
	if err != nil {
		return settings.Wrong(err)
	}
	pl.splitter = split.New(pl.settings.Split, split.Deps{
		Input: pl.input, Internal: pl.internal, InputTopics: pl.settings.Input.Topics, Start: start, Topics: pl.settings.Topics,
		UserKey: pl.detector.UserKey, Identity: pl.settings.Detection.Identity, Instance: pl.instance, AcceptLoss: pl.AcceptLoss,
		CommitPace: pl.settings.InputCluster().CommitPace(), AtLeastOnce: pl.settings.Delivery == settings.AtLeastOnce,
		Log: pl.Log.With("stage", Split), Metrics: split.NewMetrics(pl.Registry),
	})
	return nil
}

func (pl *Pipeline) makeStage(context.Context) error {
	if !pl.detects() {
		return nil
	}
	pl.stage = detect.New(pl.settings.Detect, detect.Deps{
		Client: pl.internal, Topics: pl.settings.Topics, Store: pl.store, Detector: pl.detector, Allowlist: pl.allowlist.Get,
		Instance: pl.instance, AcceptLoss: pl.AcceptLoss, AtLeastOnce: pl.settings.Delivery == settings.AtLeastOnce,
		Log: pl.Log.With("stage", Detect), Metrics: detect.NewMetrics(pl.Registry),
	})
	return nil
}

// Run runs the stages until ctx is done or one cannot go on; then the other ends too.
func (pl *Pipeline) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go pl.allowlist.watch(watching)
	if pl.splitter != nil {
		group.Go(func() error { return pl.splitter.Run(ctx) })
	}
	if pl.stage != nil {
		group.Go(func() error { return pl.stage.Run(ctx) })
	}
	return group.Wait()
}

// Ready reports whether this process does its work, and what it waits for if not.
func (pl *Pipeline) Ready() (bool, []string) {
	var waiting []string
	ask := func(ready bool, missing string) {
		if !ready {
			waiting = append(waiting, missing)
		}
	}
	if pl.splitter != nil {
		ask(pl.splitter.Ready())
	}
	if pl.stage != nil {
		ask(pl.stage.Ready())
	}
	return len(waiting) == 0, waiting
}

// Close gives back what Open took.
func (pl *Pipeline) Close() error {
	if pl.store == nil {
		return nil
	}
	return pl.store.Close()
}
