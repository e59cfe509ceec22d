package main

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// A broker that takes its time has not said that there is nothing.
func TestASlowBrokerIsNotTakenForTheEndOfATopic(t *testing.T) {
	t.Parallel()
	b := brokertest.Fake(t)
	cluster := b.Embedded().Cluster
	b.CreateTopic(b.Name("topic"), 1, nil)
	b.Produce(&kgo.Record{Topic: b.Name("topic"), Value: []byte("x")})
	o := options{brokers: b.Addrs(), signIns: b.Name("topic"), alerts: b.Name("topic"), baseline: b.Name("topic"), deadLetter: b.Name("topic")}
	topics, err := connect(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer topics.close()
	topics.quiet = 10 * time.Millisecond
	var asked atomic.Bool
	// The first answer comes when the reader has lost its patience several times.
	cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		if !asked.Swap(true) {
			cluster.SleepControl(func() { time.Sleep(500 * time.Millisecond) })
		}
		return nil, nil, false
	})
	records := 0
	if err := topics.read(context.Background(), b.Name("topic"), func(*kgo.Record) { records++ }); err != nil || records != 1 || !asked.Load() {
		t.Errorf("%d records, %v (asked: %t)", records, err, asked.Load())
	}
}
