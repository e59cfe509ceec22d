package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// topic is the committed baseline of one partition: at offset n its profiles are what the
// first n records say.
type topic []record

type record struct{ user, value string } // without a value it deletes

func (t topic) at(n int64) map[string]string {
	profiles := map[string]string{}
	for _, r := range t[:n] {
		if profiles[r.user] = r.value; r.value == "" {
			delete(profiles, r.user)
		}
	}
	return profiles
}

// ever returns all that a user's profile was at the offsets from n on.
func (t topic) ever(user string, n int64) (values []string) {
	for ; n <= int64(len(t)); n++ {
		values = append(values, t.at(n)[user])
	}
	return values
}

// life is what a store and two of its partitions go through. Partition 7 is restored first,
// partition 8 begins empty. What a transaction changes is in the topic before Pebble is told.
type life struct {
	t        tb
	topics   map[int32]topic
	sure     map[int32]int64 // the offset from which a flush or close that succeeded had it
	restored int64           // the offset to which partition 7 was restored; before it a profile may be newer than the checkpoint
	unopened bool            // the last store
	instance string          // the name of the folder
	health   *health         // of the last store that was closed
	now      int32
}

func newLife(t tb, now int32) *life {
	l := &life{t: t, topics: map[int32]topic{}, sure: map[int32]int64{}, restored: 60, now: now}
	for i := range int(l.restored) {
		q := newProfile(narrow)
		q.See("192.0.2.1", fmt.Sprint(i), l.now)
		r := record{fmt.Sprint("user", i%25), string(q.appendTo(nil))}
		if i%10 == 9 {
			r.value = ""
		}
		l.topics[7] = append(l.topics[7], r)
	}
	return l
}

// run lives until the first error, and returns it.
func (l *life) run(fs vfs.FS) error {
	for _, stage := range []func(*Store) error{l.youth, l.age} {
		if err := l.during(fs, stage); err != nil {
			return err
		}
	}
	return nil
}

// during opens the store for one stage and closes it again.
func (l *life) during(fs vfs.FS, stage func(*Store) error) error {
	s, err := openNarrow(fs)
	if l.unopened = err != nil; l.unopened {
		return err
	}
	l.instance = s.Instance()
	s.batchBytes = 256 // so a restore takes several,
	s.tableBytes = 320 // some of them tables and some batches
	err = errors.Join(stage(s), s.Close())
	l.health = s.health
	if err != nil {
		return err
	}
	l.flushed()
	return nil
}

func openNarrow(fs vfs.FS) (*Store, error) {
	cfg := DefaultConfig()
	cfg.Dir, cfg.Cache = "state", minCache
	cfg.Lateness, cfg.MaxIPs, cfg.MaxASNs = time.Duration(narrow.lateness)*time.Hour, narrow.maxIPs, narrow.maxASNs
	return open(cfg, narrow.window, slog.New(slog.DiscardHandler), fs)
}

func (l *life) flushed() {
	for partition, topic := range l.topics {
		l.sure[partition] = int64(len(topic))
	}
}

func (l *life) youth(s *Store) error {
	p, err := s.Lease(context.Background(), 7)
	if err != nil {
		return err
	}
	if err := l.restore(p); err != nil {
		return err
	}
	q, err := s.Lease(context.Background(), 8)
	if err != nil {
		return err
	}
	for range 6 { // so many flushes that Pebble compacts
		for _, p := range []*Partition{p, q} {
			if err := l.transaction(p, 10); err != nil {
				return err
			}
		}
		if err := s.Flush(); err != nil {
			return err
		}
		l.flushed()
	}
	if err := l.transaction(q, 3); err != nil {
		return err
	}
	return q.Release()
}

// age sweeps all who came in youth, in slices.
func (l *life) age(s *Store) error {
	p, err := s.Lease(context.Background(), 7)
	if err != nil {
		return err
	}
	if err := l.look(p, int64(len(l.topics[7]))); err != nil {
		return err
	}
	l.now += 100
	for ended := false; !ended; {
		if ended, err = p.Sweep(l.now, 8); err != nil {
			return err
		}
		if err := s.Flush(); err != nil { // which the slice is no part of yet
			return err
		}
		if err := l.transaction(p, 2); err != nil {
			return err
		}
	}
	if err := p.Release(); err != nil {
		return err
	}
	q, err := s.Lease(context.Background(), 8)
	if err != nil {
		return err
	}
	return l.transaction(q, 5)
}

// restore reads what partition p has missed of its topic.
func (l *life) restore(p *Partition) error {
	cp, _, err := p.Checkpoint()
	if err != nil {
		return err
	}
	topic := l.topics[p.number]
	for n := cp.Offset; n < int64(len(topic)); n++ {
		r, value := topic[n], []byte(topic[n].value)
		if r.value == "" {
			value = nil
		}
		if n%3 == 0 {
			_, err = p.PutNewer([]byte(r.user), value, n+1)
		} else {
			err = p.Put([]byte(r.user), value)
		}
		if err != nil {
			return err
		}
		if n%5 == 0 {
			p.Advance(Checkpoint{Offset: n + 1})
		}
		if n%20 == 19 {
			if err := p.store.Flush(); err != nil {
				return err
			}
		}
	}
	return p.Restored(Checkpoint{Offset: int64(len(topic))})
}

// transaction commits the sign-ins of some users. An hour passes.
func (l *life) transaction(p *Partition, users int) error {
	l.now++
	for u := range users {
		profile, err := p.ProfileAt(fmt.Sprint("user", u), l.now)
		if err != nil {
			return err
		}
		profile.Remember(alertID(u), l.now)
		profile.See("192.0.2.1", "64500", l.now)
	}
	for user, value := range p.Changes() {
		l.topics[p.number] = append(l.topics[p.number], record{user, string(value)})
	}
	return p.Commit(Checkpoint{Offset: int64(len(l.topics[p.number]))})
}

// look compares all that partition p holds with its topic at offset n.
func (l *life) look(p *Partition, n int64) error {
	topic := l.topics[p.number]
	want := topic.at(n)
	for _, r := range topic {
		value, err := p.Encoded(r.user)
		if err != nil {
			return err
		}
		newer := p.number == 7 && n < l.restored && slices.Contains(topic[:l.restored].ever(r.user, n), string(value))
		if got := string(value); got != want[r.user] && !newer {
			l.t.Fatalf("partition %d at checkpoint %d of %d: the profile of %s is %x, not %x", p.number, n, len(topic), r.user, got, want[r.user])
		}
	}
	return nil
}

// checkAfter opens what a life has left: what is there is the state at the checkpoint, which
// is no earlier than what was flushed unless a damaged store was set aside (when the power goes
// while Pebble moves to a new MANIFEST, its marker can outlive it); and what was missed can be
// restored. It returns whether one was set aside.
func (l *life) checkAfter(fs vfs.FS, err error) (aside bool) {
	s, openErr := openNarrow(fs)
	must(l.t, openErr)
	defer func() { must(l.t, s.Close()) }()
	_, statErr := fs.Stat("state/pebble.corrupt")
	aside = statErr == nil
	parts := map[int32]*Partition{}
	for _, partition := range slices.Sorted(maps.Keys(l.topics)) {
		p := lease(l.t, s, partition)
		cp, found, cpErr := p.Checkpoint()
		must(l.t, cpErr)
		if end := int64(len(l.topics[partition])); err == nil && cp.Offset != end || cp.Offset > end || cp.Offset < l.sure[partition] && !aside {
			l.t.Fatalf("partition %d is at %d of %d, %d were flushed; the life ended with: %v", partition, cp.Offset, end, l.sure[partition], err)
		}
		if aside && found {
			l.t.Fatalf("a store was set aside, and yet partition %d is at %d", partition, cp.Offset)
		}
		must(l.t, l.look(p, cp.Offset))
		must(l.t, l.restore(p))
		parts[partition] = p
	}
	for partition, p := range parts {
		must(l.t, l.look(p, int64(len(l.topics[partition]))))
	}
	return aside
}

// handles is a file system that knows what is open on it.
type handles struct {
	vfs.FS
	mu   sync.Mutex
	open map[io.Closer]string // the file's name
}

type handle struct {
	vfs.File
	of *handles
}

func (h *handle) Close() error { return errors.Join(h.of.release(h), h.File.Close()) }

type lock struct {
	io.Closer
	of *handles
}

func (l *lock) Close() error { return errors.Join(l.of.release(l), l.Closer.Close()) }

func (h *handles) release(c io.Closer) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[c] == "" {
		return errors.New("closed twice")
	}
	delete(h.open, c)
	return nil
}

func (h *handles) take(name string, c io.Closer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[c] = name
}

func (h *handles) names() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Values(h.open))
}

func (h *handles) file(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	opened := &handle{f, h}
	h.take(name, opened)
	return opened, nil
}

func (h *handles) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := h.FS.Create(name, category)
	return h.file(name, f, err)
}

func (h *handles) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := h.FS.Open(name, opts...)
	return h.file(name, f, err)
}

func (h *handles) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := h.FS.OpenReadWrite(name, category, opts...)
	return h.file(name, f, err)
}

func (h *handles) OpenDir(name string) (vfs.File, error) {
	f, err := h.FS.OpenDir(name)
	return h.file(name, f, err)
}

func (h *handles) Lock(name string) (io.Closer, error) {
	c, err := h.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	l := &lock{c, h}
	h.take(name, l)
	return l, nil
}

// badDisks are the ways in which a disk fails once it has done n operations. Each is told
// the number of an operation, and returns what is wrong with it.
var badDisks = map[string]func(n, op int64, kind errorfs.OpKind) error{
	"one operation fails": func(n, op int64, _ errorfs.OpKind) error {
		if op == n {
			return syscall.EIO
		}
		return nil
	},
	"it is gone for good": func(n, op int64, _ errorfs.OpKind) error {
		if op >= n {
			return syscall.EIO
		}
		return nil
	},
	"it is full": func(n, op int64, kind errorfs.OpKind) error {
		switch kind {
		case errorfs.OpCreate, errorfs.OpLink, errorfs.OpRename, errorfs.OpMkdirAll, errorfs.OpFilePreallocate,
			errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if op >= n {
				return syscall.ENOSPC
			}
		}
		return nil
	},
}

// A disk fails at its operation 0, 1, 2, ... (every third, unless the test is a long one) until
// a life comes to its end before that.
// Whenever it is, the life ends soon, with an error or in order; nothing of it is left in the
// process; and what is left on the disk, after a loss of power too, is the state at its
// checkpoint.
func TestWhicheverOperationOfADiskFailsNoStateIsLostOrHalf(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for name, fails := range badDisks {
		t.Run(name, func(t *testing.T) {
			step := int64(3)
			if long() {
				step = 1
			}
			var lives, surfaced, aside int
			for n := int64(seed) & math.MaxInt64 % step; ; n += step {
				lives++
				t := at{t, fmt.Sprintf("operation %d fails: ", n)}
				rng := rand.New(rand.NewPCG(seed, uint64(n)))
				mem := &handles{FS: vfs.NewCrashableMem(), open: map[io.Closer]string{}}
				var ops, failed atomic.Int64
				disk := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
					if err := fails(n, ops.Add(1)-1, op.Kind); err != nil {
						failed.Add(1)
						return &os.PathError{Op: "testing", Path: op.Path, Err: err}
					}
					return nil
				}))
				l, goroutines := newLife(t, 1000), runtime.NumGoroutine()
				err := soon(t, func() error { return l.run(disk) })
				if err != nil {
					surfaced++
				}
				if err != nil && strings.Contains(err.Error(), "damaged") {
					t.Fatalf("a disk that fails is taken for damage: %v", err)
				}
				nothingIsLeft(t, goroutines, l, err, mem)
				crashed := mem.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced(rng), RNG: rng})
				if l.checkAfter(crashed, err) {
					aside++
				}
				if failed.Load() == 0 {
					must(t, err)
					break
				}
			}
			t.Logf("%d lives, %d ended with an error, %d stores were set aside", lives, surfaced, aside)
			if surfaced < lives/2 {
				t.Error("hardly any failure surfaces")
			}
			if aside > 1+lives/20 {
				t.Error("what a failing disk leaves is taken for damage")
			}
		})
	}
}

// long reports whether tests may take minutes.
func long() bool { return os.Getenv("PRTWATCH_TEST_LONG") != "" }

// unsynced draws how much of what was not synced survives a loss of power, in percent: often
// nothing and often all.
func unsynced(rng *rand.Rand) int { return min(max(rng.IntN(200)-50, 0), 100) }

// at is a test that says at which of its cases it fails.
type at struct {
	*testing.T
	where string
}

func (a at) Fatal(args ...any) {
	a.Helper()
	a.T.Fatal(append([]any{a.where}, args...)...)
}

func (a at) Fatalf(format string, args ...any) {
	a.Helper()
	a.T.Fatalf(a.where+format, args...)
}

// soon calls f, and says where everybody stands if it does not return.
func soon(t tb, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		stacks := make([]byte, 1<<20)
		t.Fatalf("it hangs:\n%s", stacks[:runtime.Stack(stacks, true)])
		return nil
	}
}

// nothingIsLeft waits until the goroutines and files of a store are gone. Pebble forgets files
// that it cannot sync, and goroutines when it cannot open or stands still for its MANIFEST; the
// process ends then.
func nothingIsLeft(t tb, goroutines int, l *life, err error, fs *handles) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		files := slices.DeleteFunc(fs.names(), func(name string) bool { return err != nil && strings.HasPrefix(name, "state/pebble") })
		still := false
		if !l.unopened {
			select {
			case <-l.health.still:
				still = true
			default:
			}
		}
		if (runtime.NumGoroutine() <= goroutines || l.unopened || still) && len(files) == 0 {
			return
		}
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("files are left open: %q, and %d goroutines:\n%s", files, runtime.NumGoroutine()-goroutines, stacks[:runtime.Stack(stacks, true)])
		}
	}
}
