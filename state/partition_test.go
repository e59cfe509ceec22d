package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

// testing.T and rapid.T both are.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openMem opens a store on fs under narrow limits, so that every one of them is met.
func openMem(t tb, fs vfs.FS, l *limits) *Store {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Dir, cfg.Cache = "state", minCache
	cfg.Lateness, cfg.MaxIPs, cfg.MaxASNs = time.Duration(l.lateness)*time.Hour, l.maxIPs, l.maxASNs
	s, err := open(cfg, l.window, slog.New(slog.DiscardHandler), fs)
	must(t, err)
	return s
}

func lease(t tb, s *Store, partition int32) *Partition {
	t.Helper()
	p, err := s.Lease(context.Background(), partition)
	must(t, err)
	return p
}

func profile(t tb, p *Partition, user string) *Profile {
	t.Helper()
	got, err := p.Profile(user)
	must(t, err)
	return got
}

func TestAStoreAnswersLikeMemoryThroughEvictionRollbackReopenAndRestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := genLimits.Draw(t, "limits")
		fs := vfs.NewMem()
		s := openMem(t, fs, l)
		defer func() { must(t, s.Close()) }()
		// What is committed, what the open transaction sees, and the topic: what was committed.
		committed, current := [2]map[string]*model{{}, {}}, [2]map[string]*model{{}, {}}
		var offsets [2]int64
		topic := [2]map[string][]byte{{}, {}}
		var parts [2]*Partition
		reopen := func() {
			for i := range parts {
				parts[i] = lease(t, s, int32(i)+254)
				current[i] = maps.Clone(committed[i])
			}
			s.cacheBytes = 2500 // a few profiles a partition
		}
		reopen()
		genPart, genUser := rapid.IntRange(0, 1), rapid.Map(rapid.IntRange(0, 7), func(i int) string { return strings.Repeat("u", i) })
		// compare asks for all users, which is only done where nothing more is to be seen of
		// the profile that was handed out last.
		compare := func(t *rapid.T, i int) {
			for n := range 8 {
				m := current[i][strings.Repeat("u", n)]
				if m == nil {
					m = newModel(l)
				}
				if got, want := answers(profile(t, parts[i], strings.Repeat("u", n)), -100, 2000), m.answers(-100, 2000); got != want {
					t.Fatalf("user %d of partition %d: got %s, want %s", n, i, got, want)
				}
			}
		}
		commit := func(t *rapid.T, i int) {
			for user, value := range parts[i].Changes() {
				topic[i][user] = value
			}
			offsets[i]++
			must(t, parts[i].Commit(Checkpoint{Offset: offsets[i]}))
			committed[i] = maps.Clone(current[i])
		}
		t.Repeat(map[string]func(*rapid.T){
			"sign-in": func(t *rapid.T) {
				i, user := genPart.Draw(t, "partition"), genUser.Draw(t, "user")
				m := current[i][user]
				if m == nil {
					m = newModel(l)
				}
				m = m.clone()
				current[i][user] = m
				p := profile(t, parts[i], user)
				hour := genHour.Draw(t, "hour")
				if got, want := answers(p, hour-int32(l.window), hour-1), m.answers(hour-int32(l.window), hour-1); got != want {
					t.Fatalf("user %q: got %s, want %s", user, got, want)
				}
				ip, asn, id := genText.Draw(t, "ip"), genText.Draw(t, "asn"), alertID(rapid.IntRange(0, 5).Draw(t, "id"))
				if got, want := p.Alerted(id), m.alerted(id); got != want {
					t.Fatalf("Alerted = %v", got)
				}
				p.See(ip, asn, hour)
				m.see(ip, asn, hour)
				if rapid.Bool().Draw(t, "alerts") {
					p.Remember(id, hour)
					m.remember(id, hour)
				}
			},
			"changes": func(t *rapid.T) {
				for range parts[genPart.Draw(t, "partition")].Changes() {
				}
			},
			"commit": func(t *rapid.T) { commit(t, genPart.Draw(t, "partition")) },
			"rollback": func(t *rapid.T) {
				i := genPart.Draw(t, "partition")
				parts[i].Rollback()
				current[i] = maps.Clone(committed[i])
				compare(t, i)
			},
			"release and lease": func(t *rapid.T) {
				i := genPart.Draw(t, "partition")
				must(t, parts[i].Release())
				parts[i] = lease(t, s, int32(i)+254)
				current[i] = maps.Clone(committed[i])
				compare(t, i)
			},
			"reopen": func(t *rapid.T) {
				must(t, s.Close())
				s = openMem(t, fs, l)
				reopen()
			},
			"drop and restore": func(t *rapid.T) {
				i := genPart.Draw(t, "partition")
				must(t, parts[i].Drop())
				if _, found, err := parts[i].Checkpoint(); err != nil || found {
					t.Fatalf("a checkpoint outlived Drop: %v", err)
				}
				for _, user := range slices.Sorted(maps.Keys(topic[i])) {
					must(t, parts[i].Put([]byte(user), topic[i][user]))
				}
				must(t, parts[i].Restored(Checkpoint{Offset: offsets[i]}))
				current[i] = maps.Clone(committed[i])
				compare(t, i)
			},
			// Not after every action: it would hide what an action leaves to the next call.
			"checkpoint": func(t *rapid.T) {
				for i, p := range parts {
					if cp, found, err := p.Checkpoint(); err != nil || cp.Offset != offsets[i] {
						t.Fatalf("checkpoint %v %v %v, want %d", cp, found, err, offsets[i])
					}
				}
			},
		})
	})
}

var narrow = &limits{window: 40, lateness: 10, maxIPs: 5, maxASNs: 5}

func TestASignInThatTeachesNothingIsNotWritten(t *testing.T) {
	s := openMem(t, vfs.NewMem(), narrow)
	defer s.Close()
	p := lease(t, s, 3)
	profile(t, p, "a").See("192.0.2.1", "64500", 1000)
	must(t, p.Commit(Checkpoint{}))
	profile(t, p, "a").See("192.0.2.1", "64500", 1000)
	profile(t, p, "b").KnownIP("192.0.2.1", 0, 1000)
	for user := range p.Changes() {
		t.Errorf("%q is a change", user)
	}
	profile(t, p, "b").Remember(alertID(1), 1000)
	var users []string
	for user := range p.Changes() {
		users = append(users, user)
	}
	if !slices.Equal(users, []string{"b"}) {
		t.Errorf("changes %q, want b alone", users)
	}
}

func TestBytesThatChangesYieldedAreWhatCommitWritesUnlessTheProfileChangedAgain(t *testing.T) {
	s := openMem(t, vfs.NewMem(), narrow)
	defer s.Close()
	p := lease(t, s, 3)
	profile(t, p, "a").See("192.0.2.1", "64500", 1000)
	var first []byte
	for _, v := range p.Changes() {
		first = v
	}
	kept := string(first)
	profile(t, p, "a").See("192.0.2.2", "64500", 1000)
	must(t, p.Commit(Checkpoint{}))
	if string(first) != kept {
		t.Error("bytes that were given out changed")
	}
	p.cache.clear()
	if !profile(t, p, "a").KnownIP("192.0.2.2", 1000, 1000) {
		t.Error("what came after Changes is not written")
	}
}

func TestOneUserKeyNeverReachesAnotherPartition(t *testing.T) {
	s := openMem(t, vfs.NewMem(), narrow)
	defer s.Close()
	numbers := []int32{0, 1, 255, 256, 1<<31 - 1}
	var parts []*Partition
	for i, n := range numbers {
		p := lease(t, s, n)
		parts = append(parts, p)
		for _, user := range []string{"", "\x00", "\xff\xff\xff\xff\xff"} {
			profile(t, p, user).See("192.0.2.1", fmt.Sprint(n), 1000)
		}
		must(t, p.Commit(Checkpoint{Offset: int64(i)}))
	}
	for i := range numbers {
		must(t, parts[i].Drop())
		for j, n := range numbers {
			for _, user := range []string{"", "\x00", "\xff\xff\xff\xff\xff"} {
				if known := profile(t, parts[j], user).KnownASN(fmt.Sprint(n), 1000, 1000); known != (j > i) {
					t.Errorf("after Drop of %d user %q of %d is known: %v", numbers[i], user, n, known)
				}
			}
		}
	}
}

func TestARestoreThatIsBrokenOffGoesOnFromWhatItWrote(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := openMem(t, fs, narrow)
	p := lease(t, s, 3)
	value := func(i int) []byte {
		q := newProfile(narrow)
		q.See("192.0.2.1", fmt.Sprint(i), 1000)
		return q.appendTo(nil)
	}
	// Some 9 MiB: two tables are written, the rest is lost with the lease.
	const records = 9_000
	s.batchBytes = 4 << 20
	name := strings.Repeat("n", 1000)
	for i := range records {
		must(t, p.Put(fmt.Appendf(nil, "%s%d", name, i), value(i%100)))
		p.Advance(Checkpoint{Offset: int64(i) + 1})
	}
	crashed := openMem(t, fs.CrashClone(vfs.CrashCloneCfg{}), narrow)
	if cp, found, err := lease(t, crashed, 3).Checkpoint(); err != nil || !found || cp.Offset < records/3 {
		t.Errorf("after a crash it begins at %+v %v %v", cp, found, err)
	}
	must(t, crashed.Close())
	must(t, p.Release())
	p = lease(t, s, 3)
	cp, found, err := p.Checkpoint()
	if err != nil || !found || cp.Offset < records/3 || cp.Offset >= records {
		t.Fatalf("broken off at %+v %v %v", cp, found, err)
	}
	for i := range cp.Offset {
		if !profile(t, p, fmt.Sprint(name, i)).KnownASN(fmt.Sprint(i%100), 1000, 1000) {
			t.Fatalf("record %d is missing below the checkpoint %d", i, cp.Offset)
		}
	}
	must(t, p.Put([]byte("gone"), value(1)))
	must(t, p.Put([]byte("gone"), nil))
	must(t, p.Put([]byte("kept"), value(1)))
	must(t, p.Restored(Checkpoint{Offset: records + 3}))
	if profile(t, p, "gone").seen() || !profile(t, p, "kept").seen() {
		t.Error("a tombstone is not honoured")
	}
	must(t, s.Close())
}

func TestPutReplacesWhatIsCached(t *testing.T) {
	s := openMem(t, vfs.NewMem(), narrow)
	defer s.Close()
	p := lease(t, s, 3)
	profile(t, p, "a").See("192.0.2.1", "64500", 1000)
	must(t, p.Commit(Checkpoint{}))
	q := newProfile(narrow)
	q.See("192.0.2.2", "64501", 1000)
	must(t, p.Put([]byte("a"), q.appendTo(nil)))
	must(t, p.Restored(Checkpoint{}))
	if got := profile(t, p, "a"); got.KnownIP("192.0.2.1", 1000, 1000) || !got.KnownIP("192.0.2.2", 1000, 1000) {
		t.Error("the cache hid the restored profile")
	}
}

// A record that carries no offset says what is so from there on, be the one before it further: there it
// was another sign-ins topic that was counted in.
func TestPutIsWhatTheNextRecordsOffsetIsHeldAgainst(t *testing.T) {
	s := openMem(t, vfs.NewMem(), narrow)
	defer s.Close()
	p := lease(t, s, 3)
	profile(t, p, "a").See("192.0.2.1", "64500", 1000)
	profile(t, p, "a").Carry(10)
	must(t, p.Commit(Checkpoint{}))
	q := newProfile(narrow)
	q.See("192.0.2.2", "64501", 1000)
	must(t, p.Put([]byte("a"), q.appendTo(nil)))
	if newer, err := p.PutNewer([]byte("a"), nil, 5); err != nil || !newer {
		t.Errorf("what follows a record without an offset is taken for older than what that replaced: %v", err)
	}
	must(t, p.Restored(Checkpoint{}))
	if profile(t, p, "a").seen() {
		t.Error("the deletion was passed over")
	}
}

func TestAProfileThatDoesNotDecodeNamesThePartitionAndNotTheUser(t *testing.T) {
	s := openMem(t, vfs.NewMem(), narrow)
	defer s.Close()
	p := lease(t, s, 3)
	must(t, p.Put([]byte("someone@example.com"), []byte{1, 0, 0, 9}))
	must(t, p.Restored(Checkpoint{}))
	_, err := p.Profile("someone@example.com")
	if err == nil || !strings.Contains(err.Error(), "partition 3") || strings.Contains(err.Error(), "someone") {
		t.Errorf("got %v", err)
	}
}

func TestTheCacheStaysWithinItsShareAndKeepsWhatIsOpen(t *testing.T) {
	s := openMem(t, vfs.NewMem(), narrow)
	defer s.Close()
	p, other := lease(t, s, 3), lease(t, s, 4)
	s.cacheBytes = 200_000
	for i := range 2000 {
		profile(t, p, fmt.Sprint("reader", i))
	}
	if m := s.Metrics(); m.CachedBytes > 100_000 || m.CachedProfiles < 50 || m.Evictions == 0 {
		t.Errorf("two partitions, one share: %+v", m)
	}
	for i := range 2000 {
		profile(t, p, fmt.Sprint("writer", i)).See("192.0.2.1", "64500", 1000)
	}
	for i := range 2000 {
		if !profile(t, p, fmt.Sprint("writer", i)).KnownIP("192.0.2.1", 1000, 1000) {
			t.Fatalf("change %d was evicted before it was committed", i)
		}
	}
	must(t, p.Commit(Checkpoint{}))
	if m := s.Metrics(); m.CachedBytes > 100_000 {
		t.Errorf("after the commit: %+v", m)
	}
	must(t, other.Release())
	must(t, p.Release())
	if m := s.Metrics(); m.CachedBytes != 0 || m.CachedProfiles != 0 || m.LeasedPartitions != 0 {
		t.Errorf("released: %+v", m)
	}
}

func TestALeaseWaitsForTheLastHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{limits: narrow, health: newHealth(slog.New(slog.DiscardHandler))}
		s.leases.of = map[int32]chan struct{}{}
		first := lease(t, s, 3)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := s.Lease(ctx, 3); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "partition 3") {
			t.Errorf("got %v", err)
		}
		lease(t, s, 4) // another partition is free
		var got atomic.Pointer[Partition]
		go func() { got.Store(lease(t, s, 3)) }()
		synctest.Wait()
		if got.Load() != nil {
			t.Fatal("two hold partition 3")
		}
		_ = first.Release() // there is no Pebble to flush
		synctest.Wait()
		if got.Load() == nil {
			t.Fatal("the lease was not handed on")
		}
		if _, err := first.Profile("a"); !errors.Is(err, errReleased) {
			t.Errorf("after Release: %v", err)
		}
		if err := first.Commit(Checkpoint{}); !errors.Is(err, errReleased) {
			t.Errorf("after Release: %v", err)
		}
	})
}

func TestKeysSortByPartitionThenKindThenUser(t *testing.T) {
	p := newPartition(&Store{}, 258, nil)
	if got := string(p.profileKey("u")); got != "\x00\x00\x01\x02\x01u" {
		t.Errorf("profile key %q", got)
	}
	if got := p.prefix(kindCheckpoint); binary.BigEndian.Uint32(got) != 258 || got[4] != 0 || len(got) != 5 {
		t.Errorf("checkpoint key %q", got)
	}
}

func BenchmarkPartition(b *testing.B) {
	cfg := DefaultConfig()
	s, err := OpenTemporary(cfg, 335, slog.New(slog.DiscardHandler))
	must(b, err)
	defer s.Close()
	p := lease(b, s, 0)
	const users = 20_000
	names := make([]string, users)
	value := typical(s.limits).appendTo(nil)
	for i := range names {
		names[i] = fmt.Sprintf("user%d@example.com", i)
		must(b, p.Put([]byte(names[i]), value))
	}
	must(b, p.Restored(Checkpoint{}))
	must(b, s.Flush())
	b.Run("hit", func(b *testing.B) {
		profile(b, p, names[0])
		for b.Loop() {
			_, _ = p.Profile(names[0])
		}
	})
	b.Run("miss", func(b *testing.B) {
		i := 0
		for b.Loop() {
			p.cache.remove(names[i])
			profile(b, p, names[i])
			i = (i + 1) % users
		}
	})
	b.Run("new user", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			profile(b, p, fmt.Sprint("nobody", i))
		}
	})
	b.Run("commit of 1000", func(b *testing.B) {
		hour := int32(490_400)
		for b.Loop() {
			hour++
			for _, name := range names[:1000] {
				profile(b, p, name).See("203.0.113.1", "64500", hour)
			}
			for range p.Changes() {
			}
			must(b, p.Commit(Checkpoint{}))
		}
	})
	b.Run("release after one commit", func(b *testing.B) {
		for i := int32(1); b.Loop(); i++ {
			q := lease(b, s, i)
			must(b, q.Commit(Checkpoint{}))
			must(b, q.Release())
		}
	})
}
