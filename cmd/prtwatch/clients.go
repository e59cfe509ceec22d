package main

import (
	"context"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// connect makes a client once a broker has answered, for which it waits start_timeout at the
// most.
func connect(ctx context.Context, s *settings.Settings, cluster kafka.Cluster, section string, log *slog.Logger, extra ...kgo.Opt) (*kgo.Client, error) {
	opts, err := cluster.Options(log)
	if err != nil {
		return nil, wrong(err)
	}
	if err := kafka.Await(ctx, cluster, section, s.StartTimeout); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(opts, extra...)...)
	if err != nil {
		return nil, wrong(err)
	}
	return client, nil
}
