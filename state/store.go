package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// flushEvery is how often a store writes its memtable out by itself: what a crash can cost
// is reading that much of the baseline topic again.
const flushEvery = 3 * time.Minute

// Store is the one Pebble of a process: the leased partitions share it, and a bounded
// memory. It is safe for use by many goroutines; a Partition is not.
//
// Pebble's WAL is off, for the baseline topic is the log. A commit writes its profiles and
// its checkpoint in one batch, Pebble flushes batches whole and in their order, so what a
// crash leaves on disk is the state at the checkpoint that is found there.
type Store struct {
	dir        *directory
	limits     *limits
	health     *health
	log        *slog.Logger
	remove     string // a temporary folder, removed by Close
	cacheBytes int    // for decoded profiles
	stop       func() // ends flushing regularly, and waits for that

	// mu is held for reading by whoever uses db; Close takes it for writing.
	mu     sync.RWMutex
	db     *pebble.DB // nil once closed
	leases struct {
		sync.Mutex
		of map[int32]chan struct{} // holds one token while the partition is leased
	}
	leased  atomic.Int64
	written atomic.Uint64 // batches
	flushed atomic.Uint64 // batches that are known to be on disk
	count   struct {
		profiles, bytes                       atomic.Int64
		hits, misses, evictions, evictedKnown atomic.Uint64
	}
}

// Metrics is what there is to see of a store. Counts are since Open.
type Metrics struct {
	CachedProfiles   int64
	CachedBytes      int64  // estimated, of CacheLimit
	CacheLimit       int64  // bytes
	Hits             uint64 // profiles found decoded, or changed by the open transaction
	Misses           uint64 // profiles that Pebble was asked for
	Evictions        uint64 // profiles that left the cache for want of room
	NetworksEvicted  uint64 // networks that users lost to max_ips and max_asns, committed
	LeasedPartitions int64
	DiskBytes        uint64 // Pebble's use of the disk
	MemTableBytes    uint64 // written and not yet on disk, all memtables
}

// Open opens or makes the store in cfg.Dir. window is the number of hours a verdict looks
// back. A folder in use is ErrInUse, one of another format ErrFormat. A Pebble that is
// damaged is set aside under another name and a fresh one made: the partitions then have no
// checkpoint, and are restored from the baseline topic.
func Open(cfg Config, window int, log *slog.Logger) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return open(cfg, window, log, vfs.Default)
}

// OpenTemporary opens a store in a new folder below the system's temporary folder, which
// Close removes. cfg.Dir is not used.
func OpenTemporary(cfg Config, window int, log *slog.Logger) (*Store, error) {
	dir, err := os.MkdirTemp("", "prtwatch-state-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary state folder: %w", err)
	}
	cfg.Dir = dir
	s, err := Open(cfg, window, log)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.remove = dir
	return s, nil
}

func open(cfg Config, window int, log *slog.Logger, fs vfs.FS) (*Store, error) {
	l := newLimits(cfg, window)
	if n := l.largestProfile(); n > MaxProfileBytes {
		return nil, fmt.Errorf("a profile could take %d bytes, more than the %d of a record: lower state.max_ips, state.max_asns or state.lateness", n, MaxProfileBytes)
	}
	dir, err := openDirectory(fs, cfg.Dir)
	if err != nil {
		return nil, err
	}
	// A quarter is Pebble's, whose memtables count against its cache. Decoded profiles are
	// what decides the speed: a hit is some ten times cheaper than Pebble's own.
	pebbleBytes := int64(cfg.Cache) / 4
	s := &Store{dir: dir, limits: l, health: newHealth(log), log: log, cacheBytes: int(int64(cfg.Cache) - pebbleBytes)}
	s.leases.of = map[int32]chan struct{}{}
	if err := s.openPebble(pebbleBytes); err != nil {
		return nil, errors.Join(err, dir.lock.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	var flusher sync.WaitGroup
	flusher.Go(func() { s.flushRegularly(ctx) })
	s.stop = func() { cancel(); flusher.Wait() }
	return s, nil
}

// openPebble opens Pebble, a second time where the first finds damage.
func (s *Store) openPebble(cacheBytes int64) error {
	path := s.dir.file("pebble")
	err := s.lostManifest(path)
	if err == nil {
		s.db, err = pebble.Open(path, pebbleOptions(s.dir.fs, cacheBytes, s.health))
	}
	if err == nil {
		return s.health.failed()
	}
	if !damaged(err) {
		return fmt.Errorf("opening the state store %s: %w", path, err)
	}
	aside, renameErr := s.dir.setAside()
	if renameErr != nil {
		return errors.Join(err, renameErr)
	}
	s.log.Warn("the state store was damaged: it is set aside and filled again from the baseline topic", "dir", path, "kept", aside, "error", err)
	s.health = newHealth(s.log)
	if s.db, err = pebble.Open(path, pebbleOptions(s.dir.fs, cacheBytes, s.health)); err != nil {
		return fmt.Errorf("opening a fresh state store %s: %w", path, err)
	}
	return s.health.failed()
}

var errManifest = errors.New("tables but no MANIFEST")

// lostManifest finds a store whose MANIFEST or its marker is gone: Pebble would take the
// folder for a new one and delete the tables.
func (s *Store) lostManifest(path string) error {
	names, err := s.dir.fs.List(path)
	if err != nil {
		return nil // not there yet; anything else Pebble will say
	}
	desc, err := pebble.Peek(path, s.dir.fs)
	if err != nil || desc.Exists {
		return nil
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			return errManifest
		}
	}
	return nil
}

// damaged tells what a lost or altered file makes of Pebble's Open from what the machine
// denies (permission, space, a failing disk), which says nothing about the store. The first
// comes in many shapes, of which Pebble marks some as corruption (a table of another size
// is not); the second always carries the system's error number.
func damaged(err error) bool {
	var denied syscall.Errno
	return pebble.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist) || !errors.As(err, &denied) && !errors.Is(err, os.ErrPermission)
}

func pebbleOptions(fs vfs.FS, cacheBytes int64, h *health) *pebble.Options {
	opts := &pebble.Options{
		FS:         fs,
		DisableWAL: true,
		// Named, not the newest: Pebble cannot go back, so it changes with formatVersion.
		FormatMajorVersion:          pebble.FormatValueSeparation,
		CacheSize:                   cacheBytes,
		MemTableSize:                uint64(min(max(cacheBytes/4, 1<<20), 16<<20)),
		MemTableStopWritesThreshold: 4,
		MaxOpenFiles:                500,
		Logger:                      h,
		EventListener:               h.listener(),
	}
	for i := range opts.Levels {
		// New users are looked up and not found: the filter answers without a read.
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return opts
}

// Instance returns the random name that was made when the folder was.
func (s *Store) Instance() string { return s.dir.instance }

// Lease waits until nobody holds the partition, then hands it out. It returns ctx's error
// if that comes first.
func (s *Store) Lease(ctx context.Context, partition int32) (*Partition, error) {
	s.leases.Lock()
	token := s.leases.of[partition]
	if token == nil {
		token = make(chan struct{}, 1)
		s.leases.of[partition] = token
	}
	s.leases.Unlock()
	select {
	case token <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the lease of partition %d: %w", partition, ctx.Err())
	}
	s.leased.Add(1)
	return newPartition(s, partition, token), nil
}

// cacheShare is what one leased partition may keep decoded, in bytes.
func (s *Store) cacheShare() int { return s.cacheBytes / int(max(s.leased.Load(), 1)) }

// errClosed is what a partition gets that outlived its store.
var errClosed = errors.New("the state store is closed")

// use calls f with the open Pebble. An answer that came while Pebble failed is not
// believed.
func (s *Store) use(f func(*pebble.DB) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return errClosed
	}
	if err := s.health.failed(); err != nil {
		return err
	}
	err := f(s.db)
	if err != nil && pebble.IsCorruptionError(err) {
		s.health.fail(err)
	}
	if broken := s.health.failed(); broken != nil {
		return broken
	}
	return err
}

// apply writes a batch.
func (s *Store) apply(b *pebble.Batch) error {
	return s.use(func(db *pebble.DB) error {
		defer s.written.Add(1)
		return db.Apply(b, pebble.NoSync)
	})
}

// Flush puts what was committed on disk, where it survives the process and the machine (the
// WAL is off). It costs nothing where nothing was written since the last.
func (s *Store) Flush() error {
	if err := s.use(s.flush); err != nil {
		return fmt.Errorf("flushing the state store: %w", err)
	}
	return nil
}

func (s *Store) flush(db *pebble.DB) error {
	written := s.written.Load()
	if written == s.flushed.Load() {
		return nil
	}
	done, err := db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-done:
		s.flushed.Store(written)
		return nil
	case <-s.health.bad: // Pebble tries again for ever, and done never comes
		return nil // use asks
	}
}

func (s *Store) flushRegularly(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = s.Flush() // health has logged it, and the next Commit returns it
		}
	}
}

// Metrics reads the counters.
func (s *Store) Metrics() Metrics {
	m := Metrics{
		CachedProfiles: s.count.profiles.Load(), CachedBytes: s.count.bytes.Load(), CacheLimit: int64(s.cacheBytes),
		Hits: s.count.hits.Load(), Misses: s.count.misses.Load(), Evictions: s.count.evictions.Load(),
		NetworksEvicted: s.count.evictedKnown.Load(), LeasedPartitions: s.leased.Load(),
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db != nil {
		pm := s.db.Metrics()
		m.DiskBytes, m.MemTableBytes = pm.DiskSpaceUsage(), pm.MemTable.Size
	}
	return m
}

// Close flushes, closes, and frees the folder. Partitions that are still leased get an
// error from then on. Closing again does nothing.
func (s *Store) Close() error {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	err := s.health.failed()
	if err == nil {
		err = errors.Join(s.flush(s.db), s.health.failed())
	}
	err = errors.Join(err, s.db.Close())
	s.db = nil
	if s.health.corrupt() {
		aside, renameErr := s.dir.setAside()
		s.log.Warn("the state store is damaged: it is set aside, and the next start fills a fresh one from the baseline topic", "kept", aside)
		err = errors.Join(err, renameErr)
	}
	err = errors.Join(err, s.dir.lock.Close())
	if s.remove != "" {
		err = errors.Join(err, os.RemoveAll(s.remove))
	}
	if err != nil {
		return fmt.Errorf("closing the state store %s: %w", s.dir.path, err)
	}
	return nil
}
