package brokertest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

func TestReadAllReturnsWhatWasCommittedInOrder(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		topic := b.Name("events")
		b.CreateTopic(topic, 3, nil)
		var records []*kgo.Record
		for i := range 30 {
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % 3), Value: fmt.Append(nil, i)})
		}
		b.Produce(records...)
		transact(t, b, topic, "aborted", kgo.TryAbort)
		transact(t, b, topic, "committed", kgo.TryCommit)

		got := b.ReadAll(topic)
		if len(got) != 31 {
			t.Fatalf("read %d records, want the 30 plain ones and the committed one", len(got))
		}
		for i, r := range got[1:] {
			if last := got[i]; r.Partition < last.Partition || r.Partition == last.Partition && r.Offset <= last.Offset {
				t.Errorf("partition %d offset %d comes after partition %d offset %d", r.Partition, r.Offset, last.Partition, last.Offset)
			}
		}
		if last := got[10]; string(last.Value) != "committed" || last.Partition != 0 {
			t.Errorf("partition 0 ends with %q", last.Value)
		}
	})
}

func TestReadAllOfAnEmptyTopicReturnsAtOnce(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		b.CreateTopic(b.Name("empty"), 2, nil)
		if got := b.ReadAll(b.Name("empty")); len(got) != 0 {
			t.Errorf("read %d records from an empty topic", len(got))
		}
	})
}

// transact produces one record to partition 0 and ends the transaction as told.
func transact(t *testing.T, b *brokertest.Broker, topic, value string, end kgo.TransactionEndTry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cl := b.Client(kgo.TransactionalID(b.Name(value)), kgo.MetadataMinAge(10*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(ctx, end); err != nil {
		t.Fatal(err)
	}
}
