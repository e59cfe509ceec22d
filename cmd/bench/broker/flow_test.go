package broker

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestAFlowIsDoneWhenNoPartitionIsBehind(t *testing.T) {
	ends := Ends{Second: []int64{5, 7, 0}}
	for _, c := range []struct {
		second []int64
		want   bool
	}{
		{nil, false},
		{[]int64{5}, false},
		{[]int64{5, 6}, false},
		{[]int64{4, 9}, false},
		{[]int64{5, 7}, true}, // a partition without records may have no offset
		{[]int64{5, 8, 0}, true},
	} {
		if got := (State{Second: c.second}).Done(ends); got != c.want {
			t.Errorf("%v of %v: %t", c.second, ends.Second, got)
		}
	}
	if (State{Second: []int64{1}}).Done(Ends{}) {
		t.Error("done though nobody knows the ends")
	}
}

func TestProgressIsTheMeanOfBothStages(t *testing.T) {
	ends := Ends{Second: []int64{80, 20, 0}}
	for _, c := range []struct {
		state State
		want  float64
	}{
		{State{}, 0},
		{State{First: []int64{10, 10}}, 0}, // it may commit long after it has written
		{State{Written: []int64{80}}, 0.4},
		{State{Written: []int64{80, 20}, Second: []int64{40, 10}}, 0.75},
		{State{Written: []int64{80, 20}, Second: []int64{80, 20}}, 1},
		{State{Written: []int64{85, 25, 3}, Second: []int64{82, 20}}, 1}, // markers and ticks are no work
	} {
		if got := c.state.Progress(ends); got != c.want {
			t.Errorf("%+v: %v, not %v", c.state, got, c.want)
		}
	}
}

// fake is a broker without a process.
func fake(t *testing.T, topic string) *Broker {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &Broker{Addr: cluster.ListenAddrs()[0], Client: client, Admin: kadm.NewClient(client)}
}

// transact produces records to partition 0 in one transaction.
func transact(t *testing.T, b *Broker, topic string, commit bool, records int) {
	t.Helper()
	ctx := context.Background()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.TransactionalID("bench"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for n := range records {
		r := &kgo.Record{Topic: topic, Value: fmt.Append(nil, n)}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		t.Fatal(err)
	}
}

func TestMarkersAfterTheLastRecordAreNoLag(t *testing.T) {
	b := fake(t, "flow")
	ctx := context.Background()
	transact(t, b, "flow", true, 3) // offsets 0 to 2, marker 3
	for range 2 * tail {
		transact(t, b, "flow", true, 0)
		transact(t, b, "flow", true, 1)
	}
	end, err := b.End(ctx, "flow")
	if err != nil {
		t.Fatal(err)
	}
	ends, err := b.Ends(ctx, Flow{First: Stage{Topic: "flow"}, Second: Stage{Topic: "flow"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []int64{end[0] - 1, 0}; !slices.Equal(ends.Second, want) {
		t.Errorf("the last records end at %v, not %v", ends.Second, want)
	}
}

func TestOnlyCommittedRecordsAreRead(t *testing.T) {
	b := fake(t, "committed")
	transact(t, b, "committed", true, 3)
	transact(t, b, "committed", false, 5)
	got := 0
	if err := b.ReadCommitted(context.Background(), "committed", func(*kgo.Record) { got++ }); err != nil {
		t.Fatal(err)
	}
	if got != 3 {
		t.Errorf("%d records, not 3", got)
	}
}

func TestWhatATopicTookBeforeIsNotCounted(t *testing.T) {
	b := fake(t, "written")
	ctx := context.Background()
	transact(t, b, "written", true, 3)
	end, err := b.End(ctx, "written")
	if err != nil {
		t.Fatal(err)
	}
	if w, err := b.WrittenSince(ctx, "written", end); err != nil || w != (Written{}) {
		t.Errorf("%+v before anything was written, %v", w, err)
	}
	transact(t, b, "written", false, 5)
	transact(t, b, "written", true, 12) // values of 14 digits, in a batch each
	w, err := b.WrittenSince(ctx, "written", end)
	if err != nil {
		t.Fatal(err)
	}
	// A batch has 61 bytes before its records, which have 7 or 8 beside their values; a marker has 78.
	const batches, markers = 5 + 12, 2
	if least := int64(batches*(61+8) + markers*78); w.Records != 12 || w.Bytes != 14 || w.Stored < least || w.Stored > least+batches*2 {
		t.Errorf("%+v", w)
	}
}
