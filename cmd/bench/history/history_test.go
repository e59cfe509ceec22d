package history

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/bench/broker"
	"github.com/prtwatch/prtwatch/cmd/bench/corpus"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

func TestEveryCopyHasTheNewestProfilesOfTheTemplatesWhereTheyAreLookedFor(t *testing.T) {
	const partitions = 4
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "made", "baseline", "signins"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	b := &broker.Broker{Addr: cluster.ListenAddrs()[0], Client: client, Admin: kadm.NewClient(client)}
	ctx := context.Background()
	for _, r := range []struct{ user, profile string }{{"a", "old"}, {"b", "bb"}, {"gone", "x"}, {"a", "new"}, {"gone", ""}} {
		record := &kgo.Record{Topic: "made", Key: []byte(r.user)}
		if r.profile != "" {
			record.Value = []byte(r.profile)
		}
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	templates, err := Templates(ctx, b, "made")
	if err != nil {
		t.Fatal(err)
	}
	if len(templates) != 2 || Size(templates) != 2.5 {
		t.Fatalf("%+v", templates)
	}
	if err := Fill(ctx, b, "baseline", "signins", "group", templates, 3); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	if err := b.ReadCommitted(ctx, "baseline", func(r *kgo.Record) {
		got[string(r.Key)] = string(r.Value)
		if want := kafka.Partition(r.Key, partitions); r.Partition != want {
			t.Errorf("%s is in partition %d, not %d", r.Key, r.Partition, want)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		for user, profile := range map[string]string{"a": "new", "b": "bb"} {
			if got[corpus.Copy(n, user)] != profile {
				t.Errorf("%s of copy %d has %q", user, n, got[corpus.Copy(n, user)])
			}
		}
	}
	if len(got) != 6 {
		t.Errorf("%v", got)
	}
	offsets, err := b.Admin.FetchOffsets(ctx, "group")
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(partitions) {
		if o, ok := offsets.Lookup("signins", p); !ok || o.At != 0 {
			t.Errorf("partition %d is committed at %+v (%t)", p, o, ok)
		}
	}
	if _, err := Templates(ctx, b, "signins"); err == nil {
		t.Error("no error of a topic without profiles")
	}
}
