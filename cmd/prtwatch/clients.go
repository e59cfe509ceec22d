package main

import (
	"context"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// connect makes a client and waits until a broker answers, start_timeout at the most.
func connect(ctx context.Context, s *settings.Settings, cluster kafka.Cluster, section string, log *slog.Logger, extra ...kgo.Opt) (*kgo.Client, error) {
	opts, err := cluster.Options(log)
	if err != nil {
		return nil, wrong(err)
	}
	client, err := kgo.NewClient(append(opts, extra...)...)
	if err != nil {
		return nil, wrong(err)
	}
	if err := kafka.Ping(ctx, client, section, s.StartTimeout); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}
