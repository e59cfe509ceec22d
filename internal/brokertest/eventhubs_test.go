package brokertest_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// A test that runs against the namespace is worth something only if it refuses.
func TestANamespaceRefusesWhatEventHubsDoes(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n := brokertest.EventHubs(t)
	topic := n.Inside.Name("hub")
	n.Inside.CreateTopic(topic, 1, nil)
	connect := func(opts ...kgo.Opt) *kgo.Client {
		cl, err := kgo.NewClient(append(n.Options(), opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}

	one := &kgo.Record{Topic: topic, Value: make([]byte, 1000)}
	if err := connect(kgo.ProducerBatchCompression(kgo.NoCompression())).ProduceSync(ctx, one).FirstErr(); err != nil {
		t.Errorf("a record as it should be: %v", err)
	}
	if err := connect().ProduceSync(ctx, &kgo.Record{Topic: topic, Value: make([]byte, 1000)}).FirstErr(); !errors.Is(err, kerr.UnsupportedCompressionType) {
		t.Errorf("a compressed batch: %v", err)
	}
	large := connect(kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(2<<20), kgo.DisableIdempotentWrite(), kgo.RecordRetries(1))
	if err := large.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: make([]byte, 1_046_528)}).FirstErr(); err == nil {
		t.Error("a request of more than 1,046,528 bytes was taken")
	}
	admin := kadm.NewClient(connect())
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "another"); !errors.Is(err, kerr.InvalidRequest) {
		t.Errorf("making a topic: %v", err)
	}
	var offsets kadm.Offsets
	offsets.AddOffset(topic, 0, 1, -1)
	for n.Refused()["a commit too many"] == 0 && ctx.Err() == nil { // five that come within a second
		_, _ = admin.CommitOffsets(ctx, n.Inside.Name("group"), offsets)
	}
	what := slices.Sorted(maps.Keys(n.Refused()))
	if want := []string{"a commit too many", "a compressed batch", "a request too large", "making a topic"}; !slices.Equal(what, want) || n.MostCommits() != 5 {
		t.Errorf("refused %q and counted %d commits, want %q and 5", what, n.MostCommits(), want)
	}
	if got := n.Inside.ReadAll(topic); len(got) != 1 {
		t.Errorf("%d records were taken, want 1", len(got))
	}
	wrong, err := kgo.NewClient(append(n.Options()[:2], kgo.SASL(plain.Auth{User: brokertest.User, Pass: "another"}.AsMechanism()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	if err := wrong.Ping(ctx); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("with another password: %v", err)
	}
}
