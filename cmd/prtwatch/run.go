package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
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

// The values of --only.
const (
	onlySplit  = "split"
	onlyDetect = "detect"
)

func (p *program) runCommand() *cobra.Command {
	var only string
	var acceptLoss bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "split and detect until a signal comes",
		Long: `Reads the export from input.topics, judges each sign-in and writes alerts, until SIGINT or SIGTERM:
then it commits what it has, leaves its groups and ends with 0. A second signal ends it at once.

More processes of the same configuration, each with a state.dir and instance of its own, share
the work. --only split or --only detect runs one stage.

http.listen answers /metrics (Prometheus), /livez, and /readyz, which is 200 when this process has
joined its groups and every partition that it has is restored.

Where the group's offsets are not in the sign-ins topic any more, or are gone, it refuses to
start, as sign-ins would go unjudged. --accept-loss goes on with what is left.`,
		Example: `  prtwatch run --config prtwatch.yaml
  prtwatch run --only detect --set kafka.brokers=kafka-1.example.com:9092 --set state.dir=/var/lib/prtwatch`,
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error {
			if only != "" && only != onlySplit && only != onlyDetect {
				return wrong(fmt.Errorf("--only %s: is no stage; give split or detect, or leave it out for both", only))
			}
			s, err := p.settings()
			if err != nil {
				return err
			}
			return p.serve(ctx, s, only, acceptLoss)
		}),
	}
	cmd.Flags().StringVar(&only, "only", "", "run one `STAGE`: split or detect")
	cmd.Flags().BoolVar(&acceptLoss, "accept-loss", false, "go on where sign-ins were deleted before they were judged")
	return cmd
}

// serve runs the pipeline as a service: with HTTP around it.
func (p *program) serve(ctx context.Context, s *settings.Settings, only string, acceptLoss bool) (err error) {
	log := newLogger(s.Log, p.stderr)
	registry := newRegistry()
	pipe := &pipeline{settings: s, only: only, acceptLoss: acceptLoss, log: log, registry: registry}
	if err := pipe.open(ctx); err != nil {
		return unlessSignalled(ctx, err)
	}
	defer func() { err = errors.Join(err, pipe.close()) }()
	server, err := serveHTTP(s.HTTP.Listen, registry, pipe.ready, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	version, _ := buildVersion()
	log.Info("running", "version", version, "instance", pipe.instance, "http", server.Addr(), "stage", stageName(only))
	err = pipe.run(ctx)
	if err == nil {
		log.Info("stopped: what was read is committed")
	}
	return err
}

// unlessSignalled takes away the error of a start that a signal broke off: that is an end
// in good order.
func unlessSignalled(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSignal) {
		return nil
	}
	return err
}

func stageName(only string) string {
	if only == "" {
		return "split and detect"
	}
	return only
}

// newRegistry has what every Go program shows of itself.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "prtwatch_build_info", Help: "1; what this program was built from is in the labels.",
	}, []string{"version", "commit", "go_version"})
	version, commit := buildVersion()
	build.WithLabelValues(version, commit, runtime.Version()).Set(1)
	registry.MustRegister(build)
	return registry
}

// pipeline is both stages, or one, and what they work with. open makes it, run runs it,
// close gives back what open took; they are called once each, in that order.
type pipeline struct {
	settings   *settings.Settings
	only       string
	acceptLoss bool
	log        *slog.Logger
	registry   *prometheus.Registry

	detector  *detector.Detector
	allowlist *allowlist
	instance  string
	store     *state.Store // nil without the detecting stage
	internal  []kgo.Opt
	input     []kgo.Opt
	splitter  *split.Splitter
	stage     *detect.Stage
}

// open reads the files, asks the clusters whether the topics are as they must be, and makes
// the stages. Whatever the user can have done wrong comes to light here.
func (pl *pipeline) open(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, pl.close())
		}
	}()
	for _, step := range []func(context.Context) error{
		pl.openRule, pl.openState, pl.openClusters, pl.checkTopics, pl.makeSplitter, pl.makeStage,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (pl *pipeline) splits() bool  { return pl.only != onlyDetect }
func (pl *pipeline) detects() bool { return pl.only != onlySplit }

func (pl *pipeline) openRule(context.Context) (err error) {
	if pl.detector, err = detector.New(pl.settings.Detection); err != nil {
		return wrong(err)
	}
	if pl.allowlist, err = openAllowlist(pl.settings.Detection.Allowlist, pl.log, pl.registry); err != nil {
		return wrong(err)
	}
	return nil
}

func (pl *pipeline) openState(context.Context) (err error) {
	pl.instance = pl.settings.Instance
	if !pl.detects() {
		return nil
	}
	if pl.store, err = state.Open(pl.settings.State, detector.Window, pl.log); err != nil {
		return err
	}
	if pl.instance == "" {
		pl.instance = pl.store.Instance()
	}
	pl.registry.MustRegister(newStateCollector(pl.store))
	return nil
}

func (pl *pipeline) openClusters(ctx context.Context) (err error) {
	log := pl.log.With("component", "kafka client")
	if pl.internal, err = pl.settings.Kafka.Options(log, kafka.Metrics(pl.registry, "kafka")); err != nil {
		return wrong(err)
	}
	pl.input = pl.internal
	if len(pl.settings.Input.Brokers) > 0 {
		if pl.input, err = pl.settings.InputCluster().Options(log, kafka.Metrics(pl.registry, "input")); err != nil {
			return wrong(err)
		}
	}
	return nil
}

// checkTopics refuses to start on topics that are not as they must be: a user would lose his
// baseline, or an alert its partition.
func (pl *pipeline) checkTopics(ctx context.Context) error {
	ask := func(section string, opts []kgo.Opt, check func(*kadm.Client) ([]kafka.Difference, error)) ([]kafka.Difference, error) {
		client, err := kgo.NewClient(opts...)
		if err != nil {
			return nil, wrong(fmt.Errorf("%s: %w", section, err))
		}
		defer client.Close()
		if err := kafka.Ping(ctx, client, section, pl.settings.StartTimeout); err != nil {
			return nil, err
		}
		return check(kadm.NewClient(client))
	}
	differences, err := ask("kafka", pl.internal, func(admin *kadm.Client) ([]kafka.Difference, error) {
		return kafka.Check(ctx, admin, pl.settings.Topics, nil, nil)
	})
	if err != nil {
		return err
	}
	if pl.splits() {
		missing, err := ask(inputSection(pl.settings), pl.input, func(admin *kadm.Client) ([]kafka.Difference, error) {
			return kafka.CheckInput(ctx, admin, pl.settings.Input.Topics)
		})
		if err != nil {
			return err
		}
		differences = append(differences, missing...)
	}
	if err := kafka.Fatal(differences); err != nil {
		return wrong(err)
	}
	for _, d := range differences {
		pl.log.Warn(d.String())
	}
	return nil
}

func (pl *pipeline) makeSplitter(context.Context) error {
	if !pl.splits() {
		return nil
	}
	start, err := split.ParseStart(pl.settings.Input.Start)
	if err != nil {
		return wrong(err)
	}
	pl.splitter = split.New(pl.settings.Split, split.Deps{
		Input: pl.input, Internal: pl.internal, InputTopics: pl.settings.Input.Topics, Start: start, Topics: pl.settings.Topics,
		UserKey: pl.detector.UserKey, Log: pl.log.With("stage", onlySplit), Metrics: split.NewMetrics(pl.registry),
	})
	return nil
}

func (pl *pipeline) makeStage(context.Context) error {
	if !pl.detects() {
		return nil
	}
	pl.stage = detect.New(pl.settings.Detect, detect.Deps{
		Client: pl.internal, Topics: pl.settings.Topics, Store: pl.store, Detector: pl.detector, Allowlist: pl.allowlist.Get,
		Instance: pl.instance, AcceptLoss: pl.acceptLoss, Log: pl.log.With("stage", onlyDetect), Metrics: detect.NewMetrics(pl.registry),
	})
	return nil
}

// run runs the stages until ctx is done or one cannot go on; then the other ends too.
func (pl *pipeline) run(ctx context.Context) error {
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

// ready reports whether this process does its work, and what it waits for if not.
func (pl *pipeline) ready() (bool, []string) {
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

func (pl *pipeline) close() error {
	if pl.store == nil {
		return nil
	}
	return pl.store.Close()
}
