package cluster

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestBrokersFailAndComeBack needs Java, Maven and a minute; .ci/nightly runs it.
func TestBrokersFailAndComeBack(t *testing.T) {
	if os.Getenv("PRTWATCH_TEST_CLUSTER") == "" {
		t.Skip("PRTWATCH_TEST_CLUSTER=1 runs it")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 14*time.Minute)
	defer cancel()
	c, err := Start(ctx, Options{Dir: t.TempDir(), Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(c.SlotAddrs(0)...), kgo.DefaultProduceTopic("t"),
		kgo.RequestTimeoutOverhead(time.Second), kgo.RetryTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if _, err := kadm.NewClient(client).CreateTopic(ctx, 6, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	written := 0
	write := func(what string) {
		t.Helper()
		written++
		if err := client.ProduceSync(ctx, kgo.StringRecord(strconv.Itoa(written))).FirstErr(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write("before")
	for broker := range c.Brokers() {
		must(c.Kill(broker))
		if c.Kill(broker) == nil || c.Pause(broker) == nil {
			t.Errorf("broker %d is gone, and was killed or paused", broker)
		}
		write("while a broker is dead")
		must(c.Restart(ctx, broker))
		must(c.AwaitInSync(ctx))
	}
	must(c.Pause(0))
	write("while a broker is frozen")
	must(c.Resume(0))
	must(c.AwaitInSync(ctx))
	must(c.Stop(ctx, 1))
	write("while a broker is stopped")
	must(c.Restart(ctx, 1))
	must(c.AwaitInSync(ctx))

	c.Cut(0)
	short, done := context.WithTimeout(ctx, 2*time.Second)
	if err := client.Ping(short); err == nil {
		t.Error("a broker answers through a cut network")
	}
	done()
	c.Heal(0)
	write("after a cut")
	c.HalfOpen(0)
	short, done = context.WithTimeout(ctx, 2*time.Second)
	if err := client.Ping(short); err == nil {
		t.Error("a broker answers through a silent network")
	}
	done()
	c.Heal(0)
	write("after silence")
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, "t")
	must(err)
	var sum int64
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	if sum != int64(written) {
		t.Errorf("%d records of %d", sum, written)
	}
}
