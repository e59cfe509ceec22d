package split

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// origins returns those of the sign-ins in each partition, in the order of the log.
func (h *hub) origins() map[int32][]signins.Origin {
	h.Helper()
	all := make(map[int32][]signins.Origin)
	for _, r := range h.internal.ReadAll(h.topics.Signins) {
		if _, control := signins.ControlOf(r.Headers); !control {
			all[r.Partition] = append(all[r.Partition], signins.OriginOf(r.Value))
		}
	}
	return all
}

// Each sign-in says where it stood, and what was sent before it, from owner to owner.
func TestSignInsSayWhereTheyStoodInTheInput(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 3)
		numbers := make(map[int32]uint32) // of the sources, by partition of the input
		for turn := range 3 {
			before := h.origins()
			h.uneven(3, 40*turn, 40)
			r := h.run()
			h.drained()
			if err := h.halt(r); err != nil {
				t.Fatal(err)
			}
			for partition, all := range h.origins() {
				last := make(map[int32]signins.Place) // by partition of the input
				for _, o := range all[len(before[partition]):] {
					p := o.Source.Partition
					if numbers[p] == 0 {
						numbers[p] = o.Source.Number
					}
					after, follows := last[p]
					switch {
					case o.Source.Number == 0 || o.Source.Number != numbers[p]:
						t.Errorf("turn %d: a sign-in of partition %d is of source %d, not %d", turn, p, o.Source.Number, numbers[p])
					case o.Follows != follows || o.After != after:
						t.Errorf("turn %d: %+v comes after %+v", turn, o, after)
					case follows && o.Place.Compare(after) <= 0:
						t.Errorf("turn %d: %+v does not come after %+v", turn, o.Place, after)
					}
					last[p] = o.Place
				}
			}
		}
	})
}

// What was split and not committed is split again from the same places.
func TestWhatIsSplitAgainComesFromTheSamePlaces(t *testing.T) {
	h := newHub(t, brokertest.Fake(t), 1)
	h.b.Produce(h.record(0, 0, message(numbers("ada@example.com", 0, 2)...)))
	r := h.run()
	h.drained()
	refused := h.b.Embedded().Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: h.cfg.Group, Err: kerr.UnknownServerError, Count: -1})
	h.b.Produce(h.record(0, 1, message(numbers("ada@example.com", 2, 5)...)))
	h.eventually("both are split", func() bool { return count(r.deps.Metrics.messages) == 2 })
	h.landed(r)
	if err := h.halt(r); err != nil {
		t.Fatal(err)
	}
	refused.Remove()
	r = h.run()
	h.drained()
	if err := h.halt(r); err != nil {
		t.Fatal(err)
	}
	all := h.origins()[kafka.Partition([]byte("ada@example.com"), h.topics.Partitions)]
	if len(all) != 8 {
		t.Fatalf("%d sign-ins were written, want 5 and 3 of them again", len(all))
	}
	for i := 2; i < 5; i++ {
		first, again := all[i], all[i+3]
		if first.Source != again.Source || first.Place != again.Place {
			t.Errorf("what came from %+v came again from %+v", first, again)
		}
	}
	if all[5].Follows {
		t.Errorf("the first of an owner says that it follows %+v", all[5].After)
	}
}

// Where another tool has set the offset, what is split is judged, be it for the second time: its source is another.
func TestASourceIsNewWhereAnOperatorSetsTheOffset(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 1)
		b.Produce(h.record(0, 0, message(numbers("ada@example.com", 0, 3)...)))
		r := h.run()
		h.drained()
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		back := kadm.OffsetsFromFetches(kgo.Fetches{})
		back.AddOffset(h.raw, 0, 0, -1)
		if err := b.Admin().CommitAllOffsets(context.Background(), h.cfg.Group, back); err != nil {
			t.Fatal(err)
		}
		for range 2 { // and stays what it is then
			r = h.run()
			h.eventually("active", r.active)
			b.Produce(h.record(0, 1, message("ada@example.com/3")))
			h.drained()
			if err := h.halt(r); err != nil {
				t.Fatal(err)
			}
		}
		all := h.origins()[kafka.Partition([]byte("ada@example.com"), h.topics.Partitions)]
		if len(all) != 8 {
			t.Fatalf("%d sign-ins were written, want 3, the same again and 2", len(all))
		}
		for i := 3; i < 8; i++ {
			if all[i].Source == all[0].Source || all[i].Source != all[3].Source {
				t.Errorf("sign-in %d is of %+v, the first is of %+v, the fourth of %+v", i, all[i].Source, all[0].Source, all[3].Source)
			}
		}
	})
}

// Some tools copy what an offset came with. Where it is the same offset, it is the same place, and what comes from there
// again is known as a copy; beside another one it is not believed.
func TestASourceIsTheSameWhereAnOffsetIsRestoredAsItWas(t *testing.T) {
	for _, further := range []int64{0, 1} {
		t.Run(fmt.Sprint(further, " further"), func(t *testing.T) {
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHub(t, b, 1)
				b.Produce(h.record(0, 0, message(numbers(ada, 0, 3)...)))
				h.splitAll()
				backup, err := b.Admin().FetchOffsets(t.Context(), h.cfg.Group)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 2 {
					b.Produce(h.record(0, 1+i, message(numbers(ada, 3+i, 4+i)...)))
				}
				h.splitAll()
				restored := make(kadm.Offsets)
				for _, o := range backup.Offsets()[h.raw] {
					o.At += further
					restored.Add(o)
				}
				h.set(restored)
				h.splitAll()
				all := h.origins()[kafka.Partition([]byte(ada), h.topics.Partitions)]
				if len(all) != 7-int(further) {
					t.Fatalf("%d sign-ins were written, want 5 and %d of them again", len(all), 2-further)
				}
				if again, before := all[5], all[3+further]; again.Place != before.Place || (again.Source == before.Source) != (further == 0) {
					t.Errorf("what came from %+v came again from %+v", before, again)
				}
			})
		})
	}
}

// taken returns how often each sign-in would be judged by who leaves out what comes from a place that was passed.
func (h *hub) taken() map[string]int {
	h.Helper()
	type way struct {
		from signins.Source
		to   int32
	}
	taken, passed := make(map[string]int), make(map[way]signins.Place)
	for _, r := range h.internal.ReadAll(h.topics.Signins) {
		if _, control := signins.ControlOf(r.Headers); control {
			continue
		}
		var in detector.SignIn
		if err := signins.Decode(r.Value, &in); err != nil {
			h.Fatal(err)
		}
		o := signins.OriginOf(r.Value)
		w := way{o.Source, r.Partition}
		if last, known := passed[w]; known && o.Place.Compare(last) <= 0 {
			continue
		}
		passed[w] = o.Place
		taken[in.ID]++
	}
	return taken
}

// What one partition of the sign-ins did not take is split again by who keys users otherwise: to partitions that have
// passed the place. Else it would never be judged.
func TestASourceIsNewWhereUsersAreInOtherPartitions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(h *hub)
		same   bool
	}{
		{"as before", func(*hub) {}, true},
		{"another identity", func(h *hub) { h.identity = "another" }, false},
		{"fewer partitions", func(h *hub) { h.topics.Partitions-- }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t, brokertest.Fake(t), 1)
			const messages, people = 5, 20
			var ids []string
			for i := range messages {
				var of []string
				for user := range people {
					of = append(of, fmt.Sprintf("user%d@example.com/%d", user, i))
				}
				h.b.Produce(h.record(0, i, message(of...)))
				ids = append(ids, of...)
			}
			held := h.b.Embedded().Cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.Produce}, Topic: h.topics.Signins, Partitions: []int32{3}, Err: kerr.NotLeaderForPartition, Count: -1,
			})
			there := 0
			for _, id := range ids {
				user, _, _ := strings.Cut(id, "/")
				if kafka.Partition([]byte(user), 4) != 3 {
					there++
				}
			}
			r := h.run()
			h.eventually("the other partitions have all of theirs", func() bool { return len(h.taken()) == there })
			sources := []uint32{r.everything()[0].source}
			if err := h.halt(r); err != nil {
				t.Fatal(err)
			}
			held.Remove()
			test.change(h)
			for range 2 { // and stays what it is then
				r = h.run()
				h.eventually("active", r.active)
				sources = append(sources, r.everything()[0].source)
				h.drained()
				if err := h.halt(r); err != nil {
					t.Fatal(err)
				}
			}
			if (sources[0] == sources[1]) != test.same || sources[1] != sources[2] {
				t.Errorf("the sources were %d", sources)
			}
			taken := h.taken()
			for _, id := range ids {
				if n := taken[id]; n == 0 || n > 1 && test.same {
					t.Errorf("%s is judged %d times", id, n)
				}
			}
		})
	}
}
