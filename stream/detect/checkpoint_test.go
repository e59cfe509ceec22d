package detect_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// An instance comes back: after a stop, or with what a kill -9 leaves on the disk.
func TestARestartReadsOnlyWhatItMissed(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%v", killed), func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h, dir := newHouse(t, b), t.TempDir()
				one := h.start("one", dir)
				h.hour(0)
				h.hour(1)
				if err := one.store.Flush(); err != nil {
					t.Fatal(err)
				}
				h.hour(2)
				newest := time.Now()
				h.tick(2) // in every partition, as a splitter does each minute
				h.judged()
				left := dir
				if killed {
					left = t.TempDir()
					if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
						t.Fatal(err)
					}
				}
				if err := one.stop(); err != nil {
					t.Fatal(err)
				}
				h.asOf(dir, newest)
				judged := len(h.b.ReadAll(h.topics.Baseline))
				two := h.start("two", t.TempDir())
				h.hour(3)
				if err := two.stop(); err != nil {
					t.Fatal(err)
				}
				missed, all := h.missed(left), len(h.b.ReadAll(h.topics.Baseline))
				if !killed && missed != all-judged || killed && (missed <= all-judged || missed == all) {
					t.Errorf("its state lacks %d of %d records; %d are others'", missed, all, all-judged)
				}
				starting := time.Now()
				one = h.start("one", left)
				h.until("all to be restored", func() bool { running, _ := one.Partitions(); return running == partitions })
				if read, _ := one.count(restoreRecords); read != float64(missed) {
					t.Errorf("it read %.0f records, it had missed %d", read, missed)
				}
				h.newer()
				one.expect("upgrade") // which is no end in good order
				h.asOf(left, starting)
			})
		})
	}
}

// asOf checks that by the checkpoints in a folder nothing was missing at a time, though no record is as new:
// those of a partition in which nothing happens would grow older than deletions are kept for.
func (h *house) asOf(dir string, at time.Time) {
	h.t.Helper()
	for p, cp := range h.checkpoints(dir) {
		if cp.Timestamp.Before(at) {
			h.t.Errorf("the checkpoint of partition %d is of %v, want %v or later", p, cp.Timestamp, at)
		}
	}
}

// When the group takes offsets nobody else has written before, be it that nothing came but ticks. So a partition in
// which nothing happens for days is not restored whole for fear of deletions that were missed.
func TestACheckpointIsAsOfATickAgo(t *testing.T) {
	for _, delivery := range deliveries {
		t.Run(delivery.name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h, dir := newHouse(t, b), t.TempDir()
				one := h.start("one", dir, alone, delivery.option)
				h.hour(0)
				newest := time.Now()
				for hour := range 2 {
					h.tick(hour)
					h.judged()
				}
				if err := one.stop(); err != nil {
					t.Fatal(err)
				}
				h.asOf(dir, newest)
			})
		})
	}
}

// hour has some users sign in from a new network, and waits until that is judged.
func (h *house) hour(at int) {
	h.t.Helper()
	for user := range 8 {
		h.produce(signIn(fmt.Sprintf("hour-%d-%d", at, user), fmt.Sprintf("user%d@example.com", user),
			fmt.Sprintf("203.0.113.%d", at), fmt.Sprint(64496+at), at))
	}
	h.judged()
}

// missed returns how many records of the baseline topic the state in a folder does not know.
func (h *house) missed(dir string) (records int) {
	h.t.Helper()
	next := h.checkpoints(dir)
	for _, r := range h.b.ReadAll(h.topics.Baseline) {
		if r.Offset >= next[r.Partition].Offset {
			records++
		}
	}
	return records
}

// open opens the state in a folder.
func (h *house) open(dir string) *state.Store {
	h.t.Helper()
	cfg := state.DefaultConfig()
	cfg.Dir = dir
	store, err := state.Open(cfg, detector.Window, slog.New(slog.DiscardHandler))
	if err != nil {
		h.t.Fatal(err)
	}
	return store
}

// checkpoints returns those of the state in a folder, by partition.
func (h *house) checkpoints(dir string) map[int32]state.Checkpoint {
	h.t.Helper()
	store := h.open(dir)
	defer store.Close()
	all := make(map[int32]state.Checkpoint)
	for p := range int32(partitions) {
		lease, err := store.Lease(h.t.Context(), p)
		if err != nil {
			h.t.Fatal(err)
		}
		cp, _, err := lease.Checkpoint()
		if err = errors.Join(err, lease.Release()); err != nil {
			h.t.Fatal(err)
		}
		all[p] = cp
	}
	return all
}

// Deletions can be read for delete.retention.ms, and then are gone from the topic, as is what they
// deleted. An instance that was away for longer holds users whom nothing there speaks of.
func TestWhoWasDeletedWhileAnInstanceWasAwayStaysDeleted(t *testing.T) {
	classicOnly(t)
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		h, dir := newHouse(t, b), t.TempDir()
		h.topics.Baseline = b.Name("fleeting")
		b.CreateTopic(h.topics.Baseline, partitions, map[string]string{
			"cleanup.policy": "compact", "delete.retention.ms": "200", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001",
		})
		one := h.start("one", dir)
		// Who stays has the first record of each partition, so that the topic begins where it began.
		h.produce(inEach("stays", detector.Window)...)
		h.judged()
		h.produce(signIn("first", ada, "192.0.2.1", "64500", 0), signIn("other", "bob@example.com", "192.0.2.2", "64501", 0))
		h.judged()
		if err := one.stop(); err != nil {
			t.Fatal(err)
		}
		two := h.start("two", t.TempDir())
		gone := detector.Window + 48 + 12
		h.tick(gone)
		h.until("ada's deletion and all of her to be gone from the topic", func() bool {
			// The broker cleans what is not the newest segment, and takes deletions away in the round after.
			gone++
			h.produce(inEach("filler", gone)...)
			h.judged()
			if !b.Real() {
				b.Embedded().Cluster.Compact()
			}
			for _, r := range b.ReadAll(h.topics.Baseline) {
				if string(r.Key) == ada {
					return false
				}
			}
			return true
		})
		if err := two.stop(); err != nil {
			t.Fatal(err)
		}
		all := len(b.ReadAll(h.topics.Baseline))
		one = h.start("one", dir, alone) // it restores each partition once
		h.until("all to be restored", func() bool { running, _ := one.Partitions(); return running == partitions })
		if read, _ := one.count(restoreRecords); int(read) != all {
			t.Errorf("it read %.0f records, the topic has %d", read, all)
		}
		if err := one.stop(); err != nil {
			t.Fatal(err)
		}
		if h.knows(dir, ada) || !h.knows(dir, userIn(0, "stays")) {
			t.Error("it knows who was deleted, or does not know who was not")
		}
	})
}

// inEach is a sign-in in each partition, of a user who goes by a name there.
func inEach(name string, at int) (list []*detector.SignIn) {
	for p := range int32(partitions) {
		list = append(list, signIn(fmt.Sprintf("%s-%d-%d", name, p, at), userIn(p, name), "198.51.100.1", "64505", at))
	}
	return list
}

// userIn returns a user of a partition who goes by a name.
func userIn(partition int32, name string) string {
	for n := 0; ; n++ {
		user := fmt.Sprintf("%s%d@example.com", name, n)
		if kafka.Partition([]byte(user), partitions) == partition {
			return user
		}
	}
}

// knows reports whether the state in a folder has a profile of a user.
func (h *house) knows(dir, user string) bool {
	h.t.Helper()
	store := h.open(dir)
	defer store.Close()
	lease, err := store.Lease(h.t.Context(), kafka.Partition([]byte(user), partitions))
	if err != nil {
		h.t.Fatal(err)
	}
	profile, err := lease.Encoded(user)
	if err = errors.Join(err, lease.Release()); err != nil {
		h.t.Fatal(err)
	}
	return profile != nil
}

// A member was thrown out, has not heard of it, and is told to stop. Others may have written meanwhile: its
// checkpoints do not say that nothing was missing as of the stop.
func TestACheckpointOfWhoWasThrownOutIsOfBeforeThat(t *testing.T) {
	for _, delivery := range deliveries {
		t.Run(delivery.name, func(t *testing.T) {
			t.Parallel()
			h, dir := newHouse(t, brokertest.Fake(t)), t.TempDir()
			one := h.start("one", dir, alone, delivery.option)
			h.tick(0)
			h.judged()
			groups, err := h.b.Admin().DescribeGroups(t.Context(), h.group)
			if err != nil {
				t.Fatal(err)
			}
			id := groups[h.group].Members[0].MemberID
			h.b.Deafen(id)
			thrown := time.Now()
			h.evict("one-0")
			if err := one.stop(); err != nil {
				t.Fatal(err)
			}
			for p, cp := range h.checkpoints(dir) {
				if !cp.Timestamp.Before(thrown) {
					t.Errorf("the checkpoint of partition %d is of %s, and it was thrown out at %s", p, cp.Timestamp, thrown)
				}
			}
		})
	}
}
