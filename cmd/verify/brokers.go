package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// patience is how long to wait for the next record of a topic, or an answer, at the most: a
// transaction that a killed instance left open is aborted by then.
const patience = 90 * time.Second

// quiet is how long nothing must have come before the rest of a topic is taken for markers
// that a cleaner left as empty batches, which a client never sees.
const quiet = 10 * time.Second

// greeting is how long brokers may take for their first answer.
const greeting = 30 * time.Second

// brokers reads topics up to where they ended when it was made.
type brokers struct {
	quiet   time.Duration // the constant, but for tests
	seeds   []string
	client  *kgo.Client
	admin   *kadm.Client
	cluster string // its id
	topics  kadm.TopicDetails
	starts  kadm.ListedOffsets
	ends    kadm.ListedOffsets // high watermarks
}

func connect(ctx context.Context, o options) (*brokers, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(o.brokers...))
	if err != nil {
		return nil, fmt.Errorf("making a client of %v: %w", o.brokers, err)
	}
	b := &brokers{quiet: quiet, seeds: o.brokers, client: client, admin: kadm.NewClient(client)}
	if err := b.greet(ctx); err != nil {
		client.Close()
		return nil, err
	}
	if err := b.look(ctx, append([]string{o.signIns, o.alerts, o.baseline, o.deadLetter}, o.input...)); err != nil {
		client.Close()
		return nil, err
	}
	return b, nil
}

// greet waits for an answer of any broker: a client asks on for long, and one that is away is to
// be told of at once.
func (b *brokers) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, greeting)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- b.client.Ping(ctx) }() // while it connects it heeds its own timeout only
	select {
	case err := <-answer:
		if err != nil {
			return fmt.Errorf("connecting to brokers %v: %w", b.seeds, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connecting to brokers %v: no answer: %w", b.seeds, ctx.Err())
	}
}

// look notes which topics they are, and where every one begins and ends.
func (b *brokers) look(ctx context.Context, topics []string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	metadata, err := b.admin.Metadata(ctx, topics...)
	if err == nil {
		b.cluster, b.topics = metadata.Cluster, metadata.Topics
		err = b.topics.Error()
	}
	if err == nil {
		b.ends, err = b.admin.ListEndOffsets(ctx, topics...)
	}
	if err == nil {
		b.starts, err = b.admin.ListStartOffsets(ctx, topics...)
	}
	if err = errors.Join(err, b.ends.Error(), b.starts.Error()); err != nil {
		return fmt.Errorf("asking %v where topics %v begin and end: %w", b.seeds, topics, err)
	}
	return nil
}

func (b *brokers) close() { b.client.Close() }

func (b *brokers) partitions(topic string) int32 { return int32(len(b.ends[topic])) }

func (b *brokers) end(topic string, partition int32) int64 {
	o, _ := b.ends.Lookup(topic, partition)
	return o.Offset
}

// whole returns an error where the beginning of a topic is gone: what it held cannot be judged.
func (b *brokers) whole(topics ...string) error {
	for _, topic := range topics {
		for p, start := range b.starts[topic] {
			if start.Offset > 0 {
				return fmt.Errorf("partition %d of topic %s begins at offset %d: what was before it is gone, and nothing can be verified", p, topic, start.Offset)
			}
		}
	}
	return nil
}

// read yields every committed record of the topic, those of one partition in their order.
// The record is the caller's only during the call.
func (b *brokers) read(ctx context.Context, topic string, each func(*kgo.Record)) error {
	return b.readFrom(ctx, topic, b.beginnings(topic), func(r *kgo.Record) {
		if !r.Attrs.IsControl() {
			each(r)
		}
	})
}

func (b *brokers) beginnings(topic string) map[int32]int64 {
	from := map[int32]int64{}
	for p, start := range b.starts[topic] {
		from[p] = start.Offset
	}
	return from
}

// readFrom reads the partitions that are named, from the offsets that are named, with the markers
// at which transactions end.
func (b *brokers) readFrom(ctx context.Context, topic string, from map[int32]int64, each func(*kgo.Record)) error {
	at := map[int32]kgo.Offset{}
	left := map[int32]int64{} // where those partitions end that have not been read to there
	for p, offset := range from {
		if end := b.end(topic, p); offset < end {
			at[p], left[p] = kgo.NewOffset().At(offset), end
		}
	}
	if len(left) == 0 {
		return nil
	}
	var heard answers
	client, err := kgo.NewClient(
		kgo.SeedBrokers(b.seeds...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}), kgo.WithHooks(&heard),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // or an end that is a marker would never be seen
		kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(4<<20), kgo.FetchMaxWait(500*time.Millisecond),
	)
	if err != nil {
		return fmt.Errorf("making a client to read topic %s: %w", topic, err)
	}
	defer client.Close()
	moved := time.Now()
	for len(left) > 0 {
		pollCtx, cancel := context.WithTimeout(ctx, b.quiet)
		fetches := client.PollFetches(pollCtx)
		cancel()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("reading topic %s: %w", topic, err)
		}
		if fetches.NumRecords() == 0 {
			b.settle(ctx, topic, left, &heard)
			if len(left) > 0 && time.Since(moved) > patience {
				return fmt.Errorf("reading topic %s: nothing came for %s, and partitions are not read to their ends %v (is a transaction open?): %w", topic, patience, left, fetches.Err())
			}
			continue
		}
		moved = time.Now()
		heard.forget()
		fetches.EachRecord(func(r *kgo.Record) {
			end := b.end(topic, r.Partition)
			if r.Offset+1 >= end {
				delete(left, r.Partition)
			}
			if r.Offset < end {
				each(r)
			}
		})
	}
	return nil
}

// settle strikes out the partitions of which nothing more can come: their leader has answered, more
// than once since anything came, that there is nothing, and no transaction is undecided before their
// end. A leader that is merely slow has not answered.
func (b *brokers) settle(ctx context.Context, topic string, left map[int32]int64, heard *answers) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stable, err := b.admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return // nothing is known; the caller's patience ends it
	}
	for p, end := range left {
		o, ok := stable.Lookup(topic, p)
		if ok && o.Err == nil && o.Offset >= end && heard.from(b.topics[topic].Partitions[p].Leader) > 1 {
			delete(left, p)
		}
	}
}

// answers counts what each broker has answered to requests for records.
type answers struct {
	mu    sync.Mutex
	count map[int32]int
}

// OnBrokerE2E is called by the client when a broker has answered.
func (a *answers) OnBrokerE2E(broker kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	if key != int16(kmsg.Fetch) || e.Err() != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == nil {
		a.count = map[int32]int{}
	}
	a.count[broker.NodeID]++
}

func (a *answers) from(broker int32) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count[broker]
}

func (a *answers) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.count)
}

// digest stands for bytes that are only compared.
type digest [sha256.Size]byte

func digestOf(b []byte) digest { return sha256.Sum256(b) }

// partitionOf is which of n partitions a key belongs to: the Java client's partitioner, as
// its documentation has it. MurmurHash2 by Austin Appleby, little endian, with Kafka's seed.
func partitionOf(key string, n int32) int32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(key))
	i := 0
	for ; i+4 <= len(key); i += 4 {
		k := uint32(key[i]) | uint32(key[i+1])<<8 | uint32(key[i+2])<<16 | uint32(key[i+3])<<24
		k *= m
		k ^= k >> 24
		k *= m
		h = h*m ^ k
	}
	if rest := key[i:]; len(rest) > 0 {
		for at := len(rest) - 1; at >= 0; at-- {
			h ^= uint32(rest[at]) << (8 * at)
		}
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return int32(h&0x7fffffff) % n
}
