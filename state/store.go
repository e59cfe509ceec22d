package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// flushEvery is how often a store writes its memtable out by itself: what a crash can cost
// is reading that much of the baseline topic again.
const flushEvery = 3 * time.Minute

// The bounds of how much of a partition's restore is written at once, in bytes: a sixteenth of the cache.
const minRestoreBatch, maxRestoreBatch = 1 << 20, 16 << 20

// Store is the one Pebble of a process: the leased partitions share it, and a bounded
// memory. It is safe for use by many goroutines; a Partition is not.
//
// Pebble's WAL is off, for the baseline topic is the log. A commit writes its profiles and
// its checkpoint in one batch, Pebble flushes batches whole and in their order, so what a
// crash leaves on disk is the state at the checkpoint that is found there. Only what a
// restore had read may be newer, which is read again (see Partition.Put).
type Store struct {
	dir        *directory
	limits     *limits
	health     *health
	log        *slog.Logger
	unclean    bool   // the process before this one did not close the folder
	remove     string // a temporary folder, removed by Close
	cacheBytes int    // for decoded profiles
	batchBytes int    // of a restore, that are written at once
	tableBytes int    // of those, from which on they are written as a table
	options    *pebble.Options
	spare      sync.Pool      // of *pending
	stop       func()         // ends flushing regularly, and waits for that
	inside     sync.WaitGroup // calls of Pebble, for some of which nobody waits any longer

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

	Entries           uint64 // of Pebble's tables: profiles, and former versions until they are compacted
	Compactions       uint64
	CompactionDebt    uint64 // bytes that are to be compacted, estimated
	CompactionsActive int64
	ReadAmplification int64 // tables that a look-up may have to ask
	Flushes           uint64
	WrittenBytes      uint64 // by flushes, compactions and restores, which write tables of their own
	BlockCacheHits    uint64
	BlockCacheMisses  uint64
	WriteStalls       uint64 // times that a writer waited for the disk
	WriteStallTime    time.Duration
	PreviousUnclean   bool // the process before this one did not close the folder
}

// of fills in what Pebble says of itself.
func (m *Metrics) of(pm *pebble.Metrics, tables [][]pebble.SSTableInfo) {
	for _, level := range tables {
		for _, table := range level {
			m.Entries += table.TableStats.NumEntries
		}
	}
	m.DiskBytes, m.MemTableBytes = pm.DiskSpaceUsage(), pm.MemTable.Size
	m.Compactions, m.CompactionDebt, m.CompactionsActive = uint64(pm.Compact.Count), pm.Compact.EstimatedDebt, pm.Compact.NumInProgress
	m.ReadAmplification, m.Flushes = int64(pm.ReadAmp()), uint64(pm.Flush.Count)
	total := pm.Total() // its flushed bytes have those of the WAL and of ingested tables in them
	m.WrittenBytes = total.TableBytesFlushed + total.TableBytesCompacted + total.BlobBytesFlushed + total.BlobBytesCompacted
	m.BlockCacheHits, m.BlockCacheMisses = uint64(pm.BlockCache.Hits), uint64(pm.BlockCache.Misses)
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
	// Half is Pebble's, whose memtables count against its cache. Decoded profiles are what
	// decides the speed: a hit is some ten times cheaper than Pebble's own.
	pebbleBytes := int64(cfg.Cache) / 2
	s := &Store{dir: dir, limits: l, health: newHealth(log), log: log, cacheBytes: int(int64(cfg.Cache) - pebbleBytes), batchBytes: min(max(int(cfg.Cache)/16, minRestoreBatch), maxRestoreBatch), tableBytes: tableBytes}
	s.leases.of = map[int32]chan struct{}{}
	s.spare.New = func() any { return new(pending) }
	if err := s.dropTables(); err != nil {
		return nil, errors.Join(err, dir.lock.Close())
	}
	if err := s.openPebble(pebbleBytes); err != nil {
		return nil, errors.Join(err, dir.lock.Close())
	}
	s.unclean = dir.wasLeft()
	if err := dir.enter(); err != nil {
		return nil, errors.Join(err, s.closePebble(), dir.lock.Close())
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
	err := s.tryPebble(path, cacheBytes)
	if err == nil {
		return nil
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
	if err := s.tryPebble(path, cacheBytes); err != nil {
		return fmt.Errorf("opening a fresh state store %s: %w", path, err)
	}
	return nil
}

// tryPebble opens Pebble, which may say so and have failed.
func (s *Store) tryPebble(path string, cacheBytes int64) error {
	if err := s.dropLogs(path); err != nil {
		return err
	}
	opts := pebbleOptions(s.dir, cacheBytes, s.health)
	if err := check(path, *opts); err != nil {
		return err
	}
	var db *pebble.DB
	err := s.patiently(func() (err error) {
		db, err = pebble.Open(path, opts)
		if broken := s.health.failed(); broken != nil && err == nil {
			return errors.Join(broken, db.Close())
		}
		return err
	})
	if err == nil {
		s.db, s.options = db, opts
	}
	return err
}

// dropLogs removes the WALs that Pebble makes though it writes nothing into them: it would
// flush what they hold, nothing, while it opens, and on a full disk it would try that for ever.
func (s *Store) dropLogs(path string) error {
	names, err := s.dir.fs.List(path)
	if err != nil {
		return nil // as above
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			if err := s.dir.fs.Remove(s.dir.fs.PathJoin(path, name)); err != nil {
				return fmt.Errorf("removing an empty log: %w", err)
			}
		}
	}
	return nil
}

var errManifest = errors.New("tables but no MANIFEST")

// check finds what Pebble would not, or too late. Where the MANIFEST or its marker is gone, it
// would take the folder for a new one and delete the tables. And a table of another store, see
// pebbleOptions, it would first meet in the background, and take for a disk that fails.
func check(path string, opts pebble.Options) error {
	names, err := opts.FS.List(path)
	if err != nil {
		return nil // not there yet; anything else Pebble will say
	}
	switch desc, err := pebble.Peek(path, opts.FS); {
	case err != nil:
		return nil // as above
	case !desc.Exists && slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, ".sst") }):
		return errManifest
	case !desc.Exists:
		return nil
	}
	opts.ReadOnly, opts.DisableTableStats = true, true
	db, err := pebble.Open(path, &opts)
	if err != nil {
		return err
	}
	_, err = db.SSTables(pebble.WithProperties())
	return errors.Join(err, db.Close())
}

// damaged tells what a lost or altered file makes of Pebble's Open from what the machine
// denies (permission, space, a failing disk), which says nothing about the store. The first
// comes in many shapes, of which Pebble marks some as corruption (a table of another size
// is not); the second always carries the system's error number, or health took its words.
func damaged(err error) bool {
	var denied syscall.Errno
	return pebble.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist) ||
		!errors.Is(err, errBroken) && !errors.As(err, &denied) && !errors.Is(err, os.ErrPermission)
}

func pebbleOptions(dir *directory, cacheBytes int64, h *health) *pebble.Options {
	opts := &pebble.Options{
		FS: h.guard(dir.fs),
		// Nothing is merged. But Pebble writes the merger's name into every table and into
		// OPTIONS, and refuses what has another; of a table the MANIFEST knows the size alone. So
		// a file of another store is damage, and a folder whose instance was altered answers
		// nothing under the new name.
		Merger:     &pebble.Merger{Name: "prtwatch " + dir.instance, Merge: pebble.DefaultMerger.Merge},
		DisableWAL: true,
		// Named, not the newest: Pebble cannot go back, so it changes with formatVersion.
		FormatMajorVersion:          pebble.FormatValueSeparation,
		CacheSize:                   cacheBytes,
		MemTableSize:                uint64(min(max(cacheBytes/4, 1<<20), 64<<20)),
		MemTableStopWritesThreshold: 4,
		// A look-up asks the filter of each of them, which costs less than compacting twice as often.
		L0CompactionThreshold: 8,
		MaxOpenFiles:          500,
		Logger:                h,
		EventListener:         h.listener(),
	}
	// Profiles are dense: snappy takes a fifth off the disk, and more of the CPU than anything
	// else that is written there.
	opts.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.UniformDBCompressionSettings(block.NoCompression) })
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

// apply writes a batch, which must not be touched again.
func (s *Store) apply(b *pebble.Batch) error {
	return s.use(func(db *pebble.DB) error {
		defer s.written.Add(1)
		return s.unlessBroken(func() error { return db.Apply(b, pebble.NoSync) })
	})
}

// unlessBroken calls f, and does not wait for it any longer when the store breaks: a writer
// for whom the memtables have no room waits for a flush, which Pebble tries for ever.
func (s *Store) unlessBroken(f func() error) error {
	done := make(chan error, 1)
	s.inside.Go(func() { done <- f() })
	select {
	case err := <-done:
		return err
	case <-s.health.bad:
		return s.health.failed()
	}
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
	var done <-chan struct{}
	err := s.unlessBroken(func() (err error) {
		done, err = db.AsyncFlush()
		return err
	})
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
		WriteStalls: s.health.stalls.count.Load(), WriteStallTime: s.health.stalls.sum(), PreviousUnclean: s.unclean,
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil || s.health.failed() != nil {
		return m
	}
	var pm *pebble.Metrics
	var tables [][]pebble.SSTableInfo
	db := s.db
	err := s.unlessBroken(func() (err error) {
		pm = db.Metrics()
		tables, err = db.SSTables() // without properties: it reads no disk
		return err
	})
	if err == nil {
		m.of(pm, tables)
	}
	return m
}

// patience is how long a broken Pebble may take to open or close.
const patience = 2 * time.Second

// patiently calls f, which opens or closes Pebble. A broken one may stand still, or wait for
// ever for a writer that does; it is left alone then, and can do no harm: health lets nothing
// through to its disk.
func (s *Store) patiently(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-s.health.bad:
	}
	select {
	case err := <-done:
		return err
	case <-s.health.still:
	case <-time.After(patience):
	}
	return errors.Join(s.health.failed(), errors.New("pebble waits for the disk, and was left alone"))
}

func (s *Store) closePebble() error {
	db := s.db
	return s.patiently(func() error {
		s.inside.Wait()
		return db.Close()
	})
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
	err = errors.Join(err, s.closePebble())
	s.db = nil
	if err == nil {
		err = s.dir.leave()
	}
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
