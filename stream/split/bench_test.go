package split

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// BenchmarkSplit reads 20,000 sign-ins of real size, in messages of 20, from 8 partitions.
// On kfake its CPU is that of the broker too; compare on a real one.
func BenchmarkSplit(b *testing.B) {
	const messages, each = 1000, 20
	h := newHub(b, brokertest.Start(b), 8)
	padding := strings.Repeat(`{"displayName":"a policy","result":"notApplied","conditionsSatisfied":0},`, 60)
	size := 0
	for i := range messages {
		ids := make([]string, each)
		for j := range ids {
			ids[j] = fmt.Sprintf("user%d@example.com/%d", (i*each+j)%997, i*each+j)
		}
		value := []byte(strings.ReplaceAll(string(message(ids...)), `"properties":{`, `"properties":{"appliedConditionalAccessPolicies":[`+strings.TrimSuffix(padding, ",")+`],`))
		size += len(value)
		h.b.Produce(h.record(int32(i%8), i, value))
	}
	b.SetBytes(int64(size))
	for n := 0; b.Loop(); n++ {
		h.cfg.Group, h.accept = h.b.Name(fmt.Sprint("split", n)), true // a group anew, over sign-ins that are there
		r := h.run()
		h.eventually("all is split", func() bool { return count(r.deps.Metrics.messages) == messages })
		h.landed(r)
		if err := h.halt(r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(messages*each*b.N)/b.Elapsed().Seconds(), "sign-ins/s")
}

// BenchmarkCatchUp reads 300,000 sign-ins of 16 days in messages of 20, at the pace of commits
// of a Kafka, and without a bound on how far it runs ahead.
func BenchmarkCatchUp(b *testing.B) {
	const messages, each = 15_000, 20
	h := newHub(b, brokertest.Start(b), 8)
	for from := 0; from < messages; from += 1000 {
		for i := from; i < from+1000; i++ {
			var ids []string
			for j := range each {
				ids = append(ids, fmt.Sprintf("user%d@example.com/%d", (i*each+j)%997, i*each+j))
			}
			at := epoch.Add(time.Duration(i) * 16 * 24 * time.Hour / messages)
			h.b.Produce(&kgo.Record{Topic: h.raw, Partition: int32(i % 8), Timestamp: at, Value: messageOf(at, ids...)})
		}
	}
	for _, h.maxAhead = range []time.Duration{24 * time.Hour, 1000 * time.Hour} {
		b.Run(h.maxAhead.String(), func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				h.cfg.Group, h.accept = h.b.Name(fmt.Sprint(h.maxAhead, n)), true
				r := h.runAt(commitEvery, kafka.DefaultCluster().CommitPace())
				h.drained()
				if err := h.halt(r); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(messages*each*b.N)/b.Elapsed().Seconds(), "sign-ins/s")
		})
	}
}
