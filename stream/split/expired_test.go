package split

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// One that was added is read from its beginning, and says nothing.
func TestTheOffsetOfOnePartitionThatExpiredIsNotGuessedAt(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 3)
		for i := range 9 {
			b.Produce(h.record(int32(i%3), i, message(numbers(ada, i, i+1)...)))
		}
		r := h.run()
		h.drained()
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		gone := make(kadm.TopicsSet)
		gone.Add(h.raw, 1)
		if _, err := b.Admin().DeleteOffsets(t.Context(), h.cfg.Group, gone); err != nil {
			t.Fatal(err)
		}
		if err := h.ended(h.run()); err == nil || !strings.Contains(err.Error(), "partition 1: the group "+h.cfg.Group+" has no offset of it, but it was split") {
			t.Errorf("Run returned %v", err)
		}
		h.accept, h.start = true, Start{latest: true}
		r = h.run()
		h.drained()
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		h.accept, h.start = false, Start{}
		if _, err := b.Admin().CreatePartitions(t.Context(), 1, h.raw); err != nil {
			t.Fatal(err)
		}
		h.anew(h.record(3, 9, message(numbers(ada, 9, 10)...)))
		r = h.run()
		h.drained()
		if err := h.halt(r); err != nil {
			t.Fatal(err)
		}
		if ids, _ := h.output(); !slices.Equal(ids[ada], numbers(ada, 0, 10)) {
			t.Errorf("split %v", ids[ada])
		}
	})
}

// Who follows the remedy for one topic only is told of the other.
func TestExpiredOffsetsOfTwoTopicsAreNotGuessedAt(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 1)
		other := h.twoTopics()
		h.forget()
		h.refused("has committed no offset of it, but", "--topic "+h.raw+" --topic "+other+" --reset-offsets")
		h.set(h.at(3))
		h.refused(other+" partition 0: the group "+h.cfg.Group+" has no offset of it, but it was split", "--topic "+other+":0 --reset-offsets")
		both := h.at(3)
		both.AddOffset(other, 0, 3, -1)
		h.set(both)
		h.splitAll()
		if ids, _ := h.output(); !slices.Equal(ids[ada], numbers(ada, 0, 3)) || !slices.Equal(ids[bob], numbers(bob, 0, 3)) {
			t.Errorf("split %v", ids)
		}
	})
}

// twoTopics has three messages of ada and three of bob split, of a topic each.
func (h *hub) twoTopics() (other string) {
	h.Helper()
	other = h.another()
	for i := range 3 {
		record := h.record(0, i, message(numbers(bob, i, i+1)...))
		record.Topic = other
		h.b.Produce(h.record(0, i, message(numbers(ada, i, i+1)...)), record)
	}
	r := h.run()
	h.settled(r)
	if err := h.halt(r); err != nil {
		h.Fatal(err)
	}
	return other
}

// A topic of the input without any offset is not new where the group once had some of it.
func TestExpiredOffsetsOfOneTopicAreNotGuessedAt(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(h *hub){
		"while nobody runs": func(*hub) {},
		"and it was no input for a while": func(h *hub) {
			also := h.also
			h.also = nil
			h.b.Produce(h.record(0, 3, message(numbers(ada, 3, 4)...)))
			h.splitAll()
			h.also = also
		},
		"and those of the others were set": func(h *hub) { h.set(h.at(3)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHub(t, b, 1)
				other := h.twoTopics()
				meanwhile(h)
				gone := make(kadm.TopicsSet)
				gone.Add(other, 0)
				if _, err := b.Admin().DeleteOffsets(t.Context(), h.cfg.Group, gone); err != nil {
					t.Fatal(err)
				}
				h.refused(other+" partition 0: the group "+h.cfg.Group+" has no offset of it, but it was split", "--topic "+other+":0 --reset-offsets")
				at := make(kadm.Offsets)
				at.AddOffset(other, 0, 3, -1)
				h.set(at)
				h.splitAll()
				if ids, _ := h.output(); !slices.Equal(ids[bob], numbers(bob, 0, 3)) {
					t.Errorf("split %v", ids)
				}
			})
		})
	}
}

// The first commit says of one partition alone that there are offsets, and it is the last before a crash: nobody takes those
// whose leaders were away for expired.
func TestACrashAfterTheFirstCommitHidesNothing(t *testing.T) {
	t.Parallel()
	h := newHub(t, brokertest.Fake(t), 2)
	h.cfg.MergeWait = 0
	other := h.another()
	later := h.record(0, 0, message(numbers(bob, 0, 1)...))
	later.Topic = other
	h.b.Produce(h.record(0, 0, message(numbers(ada, 0, 3)...)), later)
	away, also := h.awayLeader(other, 0), h.awayLeader(h.raw, 1)
	r := h.runAt(50*time.Millisecond, 3*time.Second) // the second commit is far
	h.eventually("it is split", func() bool { ids, _ := h.output(); return len(ids[ada]) == 3 })
	r.hangUp()
	r.stop()
	away.Remove()
	also.Remove()
	h.splitAll()
	if ids, _ := h.output(); !slices.Equal(ids[bob], numbers(bob, 0, 1)) {
		t.Errorf("split %v", ids)
	}
}

func TestAnExpiredOffsetBesideOneThatWasSetIsNotGuessedAt(t *testing.T) {
	t.Parallel()
	for name, beside := range map[string]bool{"the only topic": false, "beside one that has all of its offsets": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHub(t, b, 3)
				if beside {
					h.another()
				}
				for i := range 9 {
					b.Produce(h.record(int32(i%3), i, message(numbers(ada, i, i+1)...)))
				}
				h.splitAll()
				gone := make(kadm.TopicsSet)
				gone.Add(h.raw, 0, 1, 2)
				if _, err := b.Admin().DeleteOffsets(t.Context(), h.cfg.Group, gone); err != nil {
					t.Fatal(err)
				}
				h.set(h.at(3)) // of partition 0
				h.refused("partition 1: the group "+h.cfg.Group+" has no offset of it, but it was split", "--topic "+h.raw+":1,2 --reset-offsets")
				h.accept, h.start = true, Start{latest: true}
				h.splitAll()
				h.accept = false
				h.splitAll()
				if ids, _ := h.output(); !slices.Equal(ids[ada], numbers(ada, 0, 9)) {
					t.Errorf("split %v", ids[ada])
				}
			})
		})
	}
}

// Or a partition whose offset is deleted might have been the only one that said so: here the only one with messages.
func TestEachOffsetSaysOfWhichPartitionsThereAreSome(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h := newHub(t, b, 3)
		r := h.run()
		b.Produce(h.record(0, 0, message(numbers(ada, 0, 3)...)))
		h.drained()
		h.eventually("each says of which three", func() bool {
			committed, err := b.Admin().FetchOffsets(t.Context(), h.cfg.Group)
			said := 0
			committed.Each(func(o kadm.OffsetResponse) {
				if tag, ours := parseTag(o.Metadata, o.At); ours && tag.beginning.String() == "3 7" {
					said++
				}
			})
			return err == nil && said == 3
		})
		b.Produce(h.record(0, 1, message(numbers(ada, 3, 4)...)))
		if err := h.halt(r); err != nil { // what it commits then says no less
			t.Fatal(err)
		}
		gone := make(kadm.TopicsSet)
		gone.Add(h.raw, 0)
		if _, err := b.Admin().DeleteOffsets(t.Context(), h.cfg.Group, gone); err != nil {
			t.Fatal(err)
		}
		h.refused("partition 0: the group " + h.cfg.Group + " has no offset of it, but it was split")
	})
}
