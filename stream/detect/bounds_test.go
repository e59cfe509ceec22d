package detect_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/detect"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// largeProfiles fills the baseline topic with users of as many networks as one may have, each seen
// in many hours, all of them in partition 0, and returns who they are.
func (h *house) largeProfiles(count int) (users []string) {
	h.t.Helper()
	cfg := state.DefaultConfig()
	store, err := state.OpenTemporary(cfg, detector.Window, slog.New(slog.DiscardHandler))
	if err != nil {
		h.t.Fatal(err)
	}
	defer store.Close()
	lease, err := store.Lease(h.t.Context(), 0)
	if err != nil {
		h.t.Fatal(err)
	}
	now := detector.HourOf(t0)
	profile, err := lease.ProfileAt("", now)
	if err != nil {
		h.t.Fatal(err)
	}
	for ip := range cfg.MaxIPs {
		for hour := now - 300; hour < now; hour += 50 {
			profile.See(fmt.Sprintf("2001:db8::%x", ip), fmt.Sprint(64496+ip%cfg.MaxASNs), hour)
		}
	}
	encoded, err := lease.Encoded("")
	if err != nil {
		h.t.Fatal(err)
	}
	for n := 0; len(users) < count; n++ {
		user := fmt.Sprintf("user%d@example.com", n)
		if kafka.Partition([]byte(user), partitions) == 0 {
			users = append(users, user)
			h.b.Produce(&kgo.Record{Topic: h.topics.Baseline, Key: []byte(user), Value: encoded})
		}
	}
	return users
}

// A transaction of so many records could hold the profiles of as many users.
func TestATransactionEndsEarlyWhereProfilesAreLarge(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHouse(t, b)
		users := h.largeProfiles(400)
		var want []string
		var list []*detector.SignIn
		for i, user := range users {
			list = append(list, signIn("thief"+user, user, "203.0.113.9", "64400", 1+i%2), signIn("known"+user, user, "2001:db8::1", "64497", 1))
			want = append(want, "thief"+user)
		}
		h.produce(list...)
		s := h.start("one", t.TempDir(), lossy, func(c *detect.Config, _ *detect.Deps) {
			c.Members, c.TransactionTimeout = 1, time.Minute // it is much work for a busy machine
		})
		h.judged()
		h.wantAlerts(want...)
		if err := s.stop(); err != nil { // all transactions are counted by then
			t.Error(err)
		}
		if n := s.works(); n < 2 {
			t.Errorf("all of it was %.0f transactions", n)
		}
	})
}

// eachFetch tells see of each fetch of a topic that comes to the embedded broker from a stage that is whole;
// others' may come late.
func (h *house) eachFetch(topic string, see func(*kmsg.FetchRequest, kmsg.FetchRequestTopicPartition)) {
	h.t.Helper()
	topics, err := h.b.Admin().ListTopics(h.t.Context(), topic)
	if err != nil {
		h.t.Fatal(err)
	}
	id := topics[topic].ID
	h.b.Embedded().Cluster.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		fetch := request.(*kmsg.FetchRequest)
		for _, asked := range fetch.Topics {
			if asked.TopicID == id && fetch.SessionEpoch < 0 {
				for _, p := range asked.Partitions {
					see(fetch, p)
				}
			}
		}
		return nil, nil, false
	})
}

// A client buffers what it asks for: a member 8 MiB and of a partition one, a restore, which would be slow
// with so little, 8 MiB of its only one.
func TestAsMuchIsAskedForAsThereIsMemoryFor(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	h.history(1)
	var all, signins, baseline atomic.Int32
	most := func(most *atomic.Int32, bytes int32) { most.Store(max(most.Load(), bytes)) }
	h.eachFetch(h.topics.Signins, func(fetch *kmsg.FetchRequest, p kmsg.FetchRequestTopicPartition) {
		most(&all, fetch.MaxBytes)
		most(&signins, p.PartitionMaxBytes)
	})
	h.eachFetch(h.topics.Baseline, func(_ *kmsg.FetchRequest, p kmsg.FetchRequestTopicPartition) {
		most(&baseline, p.PartitionMaxBytes)
	})
	h.produce(signIn("last", ada, "192.0.2.1", "64500", 2))
	h.start("one", t.TempDir(), whole)
	h.judged()
	for _, asked := range []struct {
		what      string
		got, want int32
	}{
		{"of all sign-ins", all.Load(), 8 << 20},
		{"of a partition of the sign-ins", signins.Load(), 1 << 20},
		{"of a partition of the baseline", baseline.Load(), 8 << 20},
	} {
		if asked.got != asked.want {
			t.Errorf("%d bytes %s were asked for, want %d", asked.got, asked.what, asked.want)
		}
	}
}

// What somebody else writes to the sign-ins topic, up to what a broker takes, is kept as a dead
// letter, and the partition goes on. That it may be a sign-in by its form makes no difference.
func TestRecordsOfAMegabyteBecomeDeadLetters(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHouse(t, b)
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		noise := make([]byte, 1<<20-1000) // nothing makes it smaller
		random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
		_, _ = random.Read(noise)
		noise[0] = 0 // no version
		long := signIn("long", ada, "203.0.113.1", "64501", 0)
		long.UserAgent = strings.Repeat("\x01", 900<<10) // six bytes each in JSON
		good := signIn("good", ada, "192.0.2.1", "64500", 0)
		p := kafka.Partition([]byte(ada), partitions)
		client := b.Client(kgo.ProducerBatchMaxBytes(1<<20), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		letters := [][]byte{noise, noise, signins.Append(nil, long, signins.Origin{}), signins.Append(nil, good, signins.Origin{})}
		for i, value := range letters {
			key := []byte(ada)
			if i == len(letters)-1 {
				key = bytes.Repeat([]byte("k"), 900<<10)
			}
			err := client.ProduceSync(t.Context(), &kgo.Record{Topic: h.topics.Signins, Partition: p, Key: key, Value: value}).FirstErr()
			if err != nil {
				t.Fatal(err)
			}
		}
		h.produce(good)
		s := h.start("one", t.TempDir())
		h.judged()
		h.wantAlerts("good")
		got := h.b.ReadAll(h.topics.DeadLetter)
		if len(got) != len(letters) {
			t.Fatalf("%d dead letters, want %d", len(got), len(letters))
		}
		for i, r := range got {
			if !bytes.Equal(r.Value, letters[i][:min(len(letters[i]), kafka.MaxDeadLetter)]) {
				t.Errorf("dead letter %d has %d bytes, not the record's first", i, len(r.Value))
			}
			full := ""
			for _, header := range r.Headers {
				if header.Key == kafka.HeaderTruncated {
					full = string(header.Value)
				}
			}
			if cut := len(letters[i]) > kafka.MaxDeadLetter; cut != (full == strconv.Itoa(len(letters[i]))) {
				t.Errorf("dead letter %d of %d bytes says %q", i, len(letters[i]), full)
			}
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}
