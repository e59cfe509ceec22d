package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/pipeline"
	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
)

func (p *program) runCommand() *cobra.Command {
	var only string
	var acceptLoss bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "split and detect until a signal comes",
		Long: `Reads the export from input.topics, judges each sign-in and writes alerts, until SIGINT or SIGTERM:
then it commits what it has, leaves its groups and ends with 0, within ten seconds. What the brokers do not
confirm in that time is in its log, and the next one makes up for it. A second signal ends it at once.

More processes of the same configuration, each with a state.dir and instance of its own, share
the work. --only split or --only detect runs one stage.

http.listen answers /metrics (Prometheus), /livez, and /readyz, which is 200 when this process has
joined its groups, was given its share of the partitions and has restored it. Where nothing is left for
it, it is ready after two seconds (twelve with detect.group_protocol: consumer).

Where a group's offsets are not in its topic any more, or are gone, it refuses to start, as sign-ins
would go unjudged or be judged twice, and says what to do. --accept-loss goes on with what is left.`,
		Example: `  prtwatch run --config prtwatch.yaml
  prtwatch run --only detect --set kafka.brokers=kafka-1.example.com:9092 --set state.dir=/var/lib/prtwatch`,
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error {
			if only != "" && only != pipeline.Split && only != pipeline.Detect {
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
	cmd.Flags().BoolVar(&acceptLoss, "accept-loss", false, "go on where sign-ins were deleted before they were judged, or nobody knows which were")
	return cmd
}

// serve runs the pipeline as a service: with HTTP around it.
func (p *program) serve(ctx context.Context, s *settings.Settings, only string, acceptLoss bool) (err error) {
	log := newLogger(s.Log, p.stderr)
	registry := newRegistry()
	pipe, err := pipeline.Open(ctx, s, pipeline.Options{Only: only, AcceptLoss: acceptLoss, Log: log, Registry: registry})
	if err != nil {
		return unlessSignalled(ctx, err)
	}
	defer func() { err = errors.Join(err, pipe.Close()) }()
	server, err := serveHTTP(s.HTTP.Listen, registry, pipe.Ready, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	version, _ := buildVersion()
	log.Info("running", "version", version, "instance", pipe.Instance(), "http", server.Addr(), "stage", stageName(only))
	err = pipe.Run(ctx)
	if err == nil {
		log.Info("stopped")
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
