package brokertest

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// CreateTopic makes a topic of exactly this name (see Name), unreplicated, and returns once
// every partition has a leader. Settings are Kafka's topic configuration; nil is none.
func (b *Broker) CreateTopic(topic string, partitions int32, settings map[string]string) {
	b.tb.Helper()
	ctx, cancel := b.context()
	defer cancel()
	b.client.PurgeTopicsFromClient(topic) // one that was deleted: a client sticks to its id
	values := make(map[string]*string, len(settings))
	for key, value := range settings {
		values[key] = &value
	}
	if _, err := b.admin.CreateTopic(ctx, partitions, 1, values, topic); err != nil {
		b.tb.Fatalf("creating topic %s: %v", topic, err)
	}
	// The real broker answers before its partitions can be listed.
	for {
		ends, err := b.admin.ListEndOffsets(ctx, topic)
		if err == nil && ends.Error() == nil && len(ends[topic]) == int(partitions) {
			return
		}
		if ctx.Err() != nil {
			b.tb.Fatalf("waiting for topic %s: %v, %v", topic, err, ends.Error())
		}
	}
}

// Produce appends the records in their order and returns when all are acknowledged. A
// record goes to the partition that it names (0 where it says nothing), whatever its key.
func (b *Broker) Produce(records ...*kgo.Record) {
	b.tb.Helper()
	ctx, cancel := b.context()
	defer cancel()
	if err := b.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		b.tb.Fatalf("producing %d records to topic %s: %v", len(records), records[0].Topic, err)
	}
}

// ReadAll reads the topic, read committed, from its start to the high watermarks of now:
// the records of partition 0 in their order, then those of partition 1, and so on. It waits
// for a transaction that is still open, since that hides what lies behind it.
func (b *Broker) ReadAll(topic string) []*kgo.Record {
	b.tb.Helper()
	ctx, cancel := b.context()
	defer cancel()
	records, err := ReadCommitted(ctx, b.addrs, topic, b.login...)
	if err != nil {
		b.tb.Fatal(err)
	}
	return records
}

// ReadCommitted does what ReadAll says, without a test around it.
func ReadCommitted(ctx context.Context, addrs []string, topic string, login ...kgo.Opt) ([]*kgo.Record, error) {
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addrs...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // else the position never passes a marker at the end
	}, login...)...)
	if err != nil {
		return nil, fmt.Errorf("making a client to read topic %s: %w", topic, err)
	}
	defer cl.Close()

	admin := kadm.NewClient(cl)
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("listing the ends of topic %s: %w", topic, err)
	}
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("listing the starts of topic %s: %w", topic, err)
	}

	left := make(map[int32]int64) // partition -> where it ends
	from := make(map[int32]kgo.Offset)
	starts.Each(func(start kadm.ListedOffset) {
		end, _ := ends.Lookup(topic, start.Partition)
		if start.Offset < end.Offset {
			left[start.Partition] = end.Offset
			from[start.Partition] = kgo.NewOffset().At(start.Offset)
		}
	})
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	return readTo(ctx, cl, topic, left)
}

// readTo polls until every partition of left has been read to the offset it names there.
func readTo(ctx context.Context, cl *kgo.Client, topic string, left map[int32]int64) ([]*kgo.Record, error) {
	ends := make(map[int32]int64, len(left))
	for p, end := range left {
		ends[p] = end
	}
	var records []*kgo.Record
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("reading topic %s: %d of its partitions do not reach their high watermark (an open transaction?): %w", topic, len(left), err)
		}
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("reading topic %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() && r.Offset < ends[r.Partition] {
				records = append(records, r)
			}
		})
	}
	slices.SortStableFunc(records, func(x, y *kgo.Record) int { return int(x.Partition - y.Partition) })
	return records, nil
}
