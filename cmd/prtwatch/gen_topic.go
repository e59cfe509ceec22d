package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// inputTopic is the messageSink that writes as Azure does.
type inputTopic struct {
	topic  string
	client *kgo.Client
	mu     struct {
		sync.Mutex
		err  error // the first of a produce
		said bool  // it was returned
	}
}

// deliverWithin is how long a message may wait for the broker. It is a context's: the
// client's own bound goes by the record's timestamp, which here may be weeks old.
const deliverWithin = time.Minute

// flushWithin is how long the last messages may take to be acknowledged.
const flushWithin = 8 * time.Second

// openTopic connects to the input cluster. oldest is the time of the first sign-in.
func (p *program) openTopic(ctx context.Context, s *settings.Settings, oldest time.Time) (*inputTopic, error) {
	client, err := connect(ctx, s, s.InputCluster(), s.InputSection(), newLogger(s.Log, p.stderr),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		kgo.MaxBufferedBytes(32<<20))
	if err != nil {
		return nil, err
	}
	t := &inputTopic{topic: s.Input.Topics[0], client: client}
	admin := kadm.NewClient(client)
	differences, err := kafka.CheckInput(ctx, admin, []string{t.topic}, kadm.OpWrite)
	if err == nil {
		if missing := kafka.Fatal(differences); missing != nil {
			err = wrong(missing)
		}
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	if kept, ok := retention(ctx, admin, t.topic); ok && time.Since(oldest) > kept {
		fmt.Fprintf(p.stderr, "prtwatch: topic %s keeps %s by the records' own time and the history is older: the broker may delete its beginning at any moment; raise retention.ms\n", t.topic, kept)
	}
	return t, nil
}

// writtenTo reports whether the input topic has, or had, messages, and says so.
func (p *program) writtenTo(ctx context.Context, s *settings.Settings) (bool, error) {
	client, err := connect(ctx, s, s.InputCluster(), s.InputSection(), newLogger(s.Log, p.stderr))
	if err != nil {
		return false, err
	}
	defer client.Close()
	topic := s.Input.Topics[0]
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) { // which openTopic says better
		return false, fmt.Errorf("asking whether topic %s is empty: %w", topic, err)
	}
	written := false
	ends.Each(func(o kadm.ListedOffset) { written = written || o.Offset > 0 })
	if written {
		fmt.Fprintf(p.stderr, "topic %s has messages: no history is made (--once)\n", topic)
	}
	return written, nil
}

// retention is how long the topic keeps records, where it can be known and is limited.
func retention(ctx context.Context, admin *kadm.Client, topic string) (time.Duration, bool) {
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return 0, false
	}
	config, err := configs.On(topic, nil)
	if err != nil || config.Err != nil {
		return 0, false
	}
	for _, c := range config.Configs {
		if c.Key == "retention.ms" && c.Value != nil {
			ms, err := strconv.ParseInt(*c.Value, 10, 64)
			return time.Duration(ms) * time.Millisecond, err == nil && ms >= 0 && ms < int64(366*24*time.Hour/time.Millisecond)
		}
	}
	return 0, false
}

func (t *inputTopic) send(message []byte, newest time.Time) error {
	// Not the generation's context: a signal ends the making, and what is made is sent.
	ctx, cancel := context.WithTimeout(context.Background(), deliverWithin)
	t.client.Produce(ctx, &kgo.Record{Topic: t.topic, Value: message, Timestamp: newest}, func(_ *kgo.Record, err error) {
		cancel()
		if err != nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.mu.err == nil {
				t.mu.err = fmt.Errorf("writing to topic %s: %w", t.topic, err)
			}
		}
	})
	return t.failed()
}

// failed returns the first error of a produce, once: send and close must not both say it.
func (t *inputTopic) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.said {
		return nil
	}
	t.mu.said = t.mu.err != nil
	return t.mu.err
}

func (t *inputTopic) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushWithin)
	defer cancel()
	defer t.client.Close()
	if err := t.client.Flush(ctx); err != nil {
		return fmt.Errorf("writing to topic %s: messages are not acknowledged within %s: %w", t.topic, flushWithin, err)
	}
	return t.failed()
}
