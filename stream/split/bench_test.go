package split

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prtwatch/prtwatch/internal/brokertest"
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
