// Package history fills a baseline topic with the profiles of very many users, for a state as large
// as that of a large tenant. It owns where they come from: profiles that prtwatch itself made of a
// small tenant, each written again under many names, so that they are as large as they would be. It
// must not know what is in a profile.
//
// Start at Templates.
package history

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/bench/broker"
	"github.com/prtwatch/prtwatch/cmd/bench/corpus"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// Template is a user and his profile.
type Template struct {
	User    string
	Profile []byte
}

// Templates reads the profiles that a baseline topic holds now.
func Templates(ctx context.Context, b *broker.Broker, topic string) ([]Template, error) {
	newest := make(map[string][]byte)
	if err := b.ReadCommitted(ctx, topic, func(r *kgo.Record) {
		newest[string(r.Key)] = r.Value
	}); err != nil {
		return nil, err
	}
	var all []Template
	for user, profile := range newest {
		if len(profile) > 0 { // else he was forgotten
			all = append(all, Template{user, profile})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("topic %s holds no profiles", topic)
	}
	return all, nil
}

// Size is how many bytes the profiles have on average.
func Size(templates []Template) float64 {
	sum := 0
	for _, t := range templates {
		sum += len(t.Profile)
	}
	return float64(sum) / float64(len(templates))
}

// Fill writes every template under the name of each copy (corpus.Copy) to a baseline topic, and
// commits offset 0 of every partition of the sign-ins topic for the group: an installation that has
// those profiles, and has nothing to judge yet.
func Fill(ctx context.Context, b *broker.Broker, baseline, signins, group string, templates []Template, copies int) error {
	ends, err := b.End(ctx, baseline)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.DefaultProduceTopic(baseline), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.MaxBufferedRecords(50_000))
	if err != nil {
		return err
	}
	defer client.Close()
	var mu sync.Mutex
	var failed error
	for n := range copies {
		for _, t := range templates {
			key := []byte(corpus.Copy(n, t.User))
			client.Produce(ctx, &kgo.Record{Partition: kafka.Partition(key, int32(len(ends))), Key: key, Value: t.Profile}, func(_ *kgo.Record, err error) {
				if err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = err
				}
			})
		}
	}
	if err := errors.Join(client.Flush(ctx), failed); err != nil {
		return fmt.Errorf("writing profiles to topic %s: %w", baseline, err)
	}
	offsets := make(kadm.Offsets)
	for p := range ends {
		offsets.AddOffset(signins, int32(p), 0, -1)
	}
	if err := b.Admin.CommitAllOffsets(ctx, group, offsets); err != nil {
		return fmt.Errorf("committing the first offsets of group %s: %w", group, err)
	}
	return nil
}
