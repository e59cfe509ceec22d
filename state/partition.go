package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// The kinds of keys. A key is the partition (four bytes, big endian), the kind, and for a
// profile the user key: so a partition is one range, and its users follow each other.
const (
	kindCheckpoint = 0
	kindProfile    = 1
)

// Partition is the leased range of one partition. It belongs to one goroutine.
//
// Profile hands out the decoded profile of a user, to be read and changed in place. What is
// unchanged lives in a bounded cache. What the open transaction has changed is held apart
// from it, so that it cannot be evicted and read back old, until Commit has written it
// (after the broker's transaction has committed) or Rollback has dropped it.
type Partition struct {
	store  *Store
	number int32
	token  chan struct{} // of the lease; nil once released
	cache  cache
	last   *entry            // handed out by the last Profile: it may have changed since
	open   map[string]*entry // changed by the open transaction
	order  []*entry          // the same, in the order of their first change
	opened int               // bytes that they take, see OpenBytes
	key    []byte            // scratch

	swept     []byte           // the user at which the next Sweep begins
	restoring *pending         // of Put; nil where there is nothing
	carried   map[string]int64 // the offsets that the users in restoring carry; nil before the first PutNewer in it
	advanced  *Checkpoint      // holds once restoring is written
}

func newPartition(s *Store, number int32, token chan struct{}) *Partition {
	return &Partition{store: s, number: number, token: token, cache: newCache(s), open: map[string]*entry{}}
}

var errReleased = errors.New("the lease was given back")

// Profile returns the user's profile, an empty one where there is none. Changes to it are
// seen by later calls and stay out of Pebble until Commit. It may be used until the next
// call of any method of the partition.
func (p *Partition) Profile(user string) (*Profile, error) {
	p.settle()
	e, ok := p.open[user]
	if !ok {
		e, ok = p.cache.get(user)
	}
	if ok && p.token != nil {
		p.store.count.hits.Add(1)
	} else {
		profile, err := p.load(user)
		if err != nil {
			return nil, fmt.Errorf("reading a profile of partition %d: %w", p.number, err)
		}
		p.store.count.misses.Add(1)
		// The caller's text may be a piece of a whole Kafka message.
		e = &entry{user: strings.Clone(user), profile: profile}
		p.cache.add(e)
	}
	p.last = e
	return e.profile, nil
}

// Encoded returns the user's profile as Changes would, changes of the open transaction with
// it, and nil where there is none. The bytes must not be altered.
func (p *Partition) Encoded(user string) (value []byte, err error) {
	p.settle()
	if e := p.open[user]; e != nil {
		return e.encode(), nil
	}
	if p.token == nil {
		return nil, errReleased
	}
	_, err = p.get(p.profileKey(user), func(held []byte) error {
		value = slices.Clone(held)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading a profile of partition %d: %w", p.number, err)
	}
	return value, nil
}

// ProfileAt returns what Profile does, but for a user of whom nothing was seen in the hours
// that are kept before now, the event time of the partition as an hour: of him nothing is
// known any more, be he swept yet or not. So what a sweep has come to cannot be seen. What is
// asked of him for an hour further back than the lateness is Late.
func (p *Partition) ProfileAt(user string, now int32) (*Profile, error) {
	return p.ProfileFor(user, now, math.MaxInt64)
}

// ProfileFor returns what ProfileAt does for what the log holds at offset, and nil where the
// profile carries a higher offset: then it knows that already.
func (p *Partition) ProfileFor(user string, now int32, offset int64) (*Profile, error) {
	profile, err := p.Profile(user)
	if err != nil || offset < profile.offset {
		return nil, err
	}
	horizon := int32(max(int64(now)-int64(p.store.limits.lateness), noHorizon))
	if !profile.expired(now) {
		profile.horizon = horizon
		return profile, nil
	}
	// Begun anew among the changed ones, so that a rollback finds the old one again.
	p.cache.remove(user)
	e := &entry{user: strings.Clone(user), profile: newProfile(p.store.limits)}
	e.profile.changed, e.profile.horizon = true, horizon
	if open := p.open[user]; open != nil {
		open.profile = e.profile
		e = open
	}
	p.last = e
	return e.profile, nil
}

// Sweep deletes, among the next most users in the order of their keys, those of whom nothing
// was seen in the hours that are kept before now. Deletions are changes like others: Changes
// yields them without a value. It reports true when it has come to the partition's end; the
// next call begins at its start, as does the first after a Rollback, for what that took back.
func (p *Partition) Sweep(now int32, most int) (ended bool, err error) {
	p.settle()
	if p.token == nil {
		return false, errReleased
	}
	prefix := len(p.prefix(kindProfile))
	lower := append(slices.Clone(p.key), p.swept...)
	upper := append(slices.Clone(p.key[:prefix-1]), kindProfile+1)
	ended = true
	err = p.store.use(func(db *pebble.DB) error {
		iter, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return err
		}
		for ok := iter.First(); ok; ok = iter.Next() {
			user := iter.Key()[prefix:]
			if most == 0 {
				ended = false
				p.swept = append(p.swept[:0], user...)
				break
			}
			most--
			if p.open[string(user)] != nil {
				continue
			}
			value, err := iter.ValueAndErr()
			if err != nil {
				return errors.Join(err, iter.Close())
			}
			// Nearly everyone was here lately, which is seen without reading all of his profile.
			if newest, err := newestOf(value); err == nil && !p.store.limits.expired(newest, now) {
				continue
			}
			profile, err := decodeProfile(value, p.store.limits)
			if err != nil {
				return errors.Join(err, iter.Close())
			}
			if profile.expired(now) {
				p.delete(string(user))
			}
		}
		return iter.Close()
	})
	if err != nil {
		return false, fmt.Errorf("sweeping partition %d: %w", p.number, err)
	}
	if ended {
		p.swept = p.swept[:0]
	}
	return ended, nil
}

// delete adds the deletion of a user to the changes.
func (p *Partition) delete(user string) {
	p.cache.remove(user)
	p.hold(&entry{user: user, profile: newProfile(p.store.limits)})
}

// hold takes an entry in among the changed ones.
func (p *Partition) hold(e *entry) {
	p.open[e.user] = e
	p.order = append(p.order, e)
	e.size = 0 // what it took in the cache
	p.opened += e.weigh()
}

// settle moves the profile that was handed out last to the changed ones if it has changed.
func (p *Partition) settle() {
	e := p.last
	p.last = nil
	if e == nil || !e.profile.changed {
		return
	}
	e.profile.offset = e.profile.carry
	e.encoded = nil
	if p.open[e.user] == e {
		p.opened += e.weigh()
		return
	}
	p.cache.remove(e.user)
	p.hold(e)
}

// OpenBytes returns about how many bytes of memory the changes of the open transaction take,
// as decoded profiles; Changes adds their encodings, which take no more than that again. It
// counts changes by the networks that their users have, so who ends a transaction when this
// is too much bounds its memory whatever the users are like, which a number of records does
// not. It costs no look at the profiles.
func (p *Partition) OpenBytes() int {
	p.settle()
	return p.opened
}

func (p *Partition) load(user string) (*Profile, error) {
	if p.token == nil {
		return nil, errReleased
	}
	var profile *Profile
	found, err := p.get(p.profileKey(user), func(value []byte) (err error) {
		profile, err = decodeProfile(value, p.store.limits)
		return err
	})
	if err == nil && !found {
		profile = newProfile(p.store.limits)
	}
	return profile, err
}

// get hands the value of a key to decode, and reports whether there is one.
func (p *Partition) get(key []byte, decode func([]byte) error) (found bool, err error) {
	err = p.store.use(func(db *pebble.DB) error {
		value, closer, err := db.Get(key)
		switch {
		case errors.Is(err, pebble.ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		found = true
		return errors.Join(decode(value), closer.Close())
	})
	return found, err
}

func (p *Partition) prefix(kind byte) []byte {
	p.key = binary.BigEndian.AppendUint32(p.key[:0], uint32(p.number))
	p.key = append(p.key, kind)
	return p.key
}

func (p *Partition) profileKey(user string) []byte {
	p.key = append(p.prefix(kindProfile), user...)
	return p.key
}

// Changes yields the user and the encoded profile, nil where nothing is left of it, of each
// profile that changed since the last Commit or Rollback, in the order of their first change.
// The bytes must not be altered; they stay as they are, also when the profile changes again.
func (p *Partition) Changes() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		p.settle()
		for _, e := range p.order {
			if !yield(e.user, e.encode()) {
				return
			}
		}
	}
}

// encode returns the bytes of a profile, and nil for one that says nothing: a sweep leaves
// those, and so does who asks for a user whose time is up and then teaches nothing.
func (e *entry) encode() []byte {
	if e.encoded == nil && !e.profile.empty() {
		const more = 2 * maxKey // a new network or two
		e.encoded = e.profile.appendTo(make([]byte, 0, e.profile.encoded+more))
		e.profile.encoded = len(e.encoded)
	}
	return e.encoded
}

// Commit writes the changes and the checkpoint in one batch. After an error nothing of them
// is written, and the store is broken.
func (p *Partition) Commit(cp Checkpoint) error {
	p.settle()
	if err := p.commit(cp); err != nil {
		return fmt.Errorf("committing partition %d: %w", p.number, err)
	}
	for _, e := range p.order {
		p.store.count.evictedKnown.Add(e.profile.evictions)
		if e.profile.empty() {
			continue
		}
		e.profile.changed, e.profile.evictions, e.encoded = false, 0, nil
		p.cache.add(e)
	}
	p.forget()
	return nil
}

func (p *Partition) commit(cp Checkpoint) error {
	if p.token == nil {
		return errReleased
	}
	batch := new(pebble.Batch)
	for _, e := range p.order {
		var err error
		if value := e.encode(); value == nil {
			err = batch.Delete(p.profileKey(e.user), nil)
		} else {
			err = batch.Set(p.profileKey(e.user), value, nil)
		}
		if err != nil {
			return err
		}
	}
	if err := batch.Set(p.prefix(kindCheckpoint), cp.append(nil), nil); err != nil {
		return err
	}
	return p.store.apply(batch)
}

// Rollback forgets the changes: the next Profile reads what is committed.
func (p *Partition) Rollback() {
	p.settle()
	p.forget()
	p.swept = p.swept[:0]
}

func (p *Partition) forget() {
	clear(p.open)
	clear(p.order)
	p.order, p.opened = p.order[:0], 0
}

// Checkpoint returns the checkpoint, and whether there is one.
func (p *Partition) Checkpoint() (Checkpoint, bool, error) {
	p.settle()
	var cp Checkpoint
	found, err := p.get(p.prefix(kindCheckpoint), func(value []byte) (err error) {
		cp, err = decodeCheckpoint(value)
		return err
	})
	if err != nil {
		return Checkpoint{}, false, fmt.Errorf("reading the checkpoint of partition %d: %w", p.number, err)
	}
	return cp, found, nil
}

// PutNewer does what Put does, unless the partition holds a profile of the user that carries
// a higher offset: then it reports false. Offset is what the record carries. Of a user who was
// deleted nothing is held.
func (p *Partition) PutNewer(user, value []byte, offset int64) (bool, error) {
	if p.carried == nil {
		// What Put left cannot be read there.
		if p.restoring != nil {
			if err := p.write(); err != nil {
				return false, fmt.Errorf("restoring partition %d: %w", p.number, err)
			}
		}
		p.carried = make(map[string]int64)
	}
	held, ok := p.carried[string(user)]
	if !ok {
		_, err := p.get(p.profileKey(string(user)), func(value []byte) error {
			held = Carried(value)
			return nil
		})
		if err != nil {
			return false, fmt.Errorf("restoring partition %d: %w", p.number, err)
		}
	}
	if offset < held {
		return false, nil
	}
	p.carried[string(user)] = offset
	return true, p.put(user, value)
}

// Put takes one record of the baseline topic (a nil value deletes) while the partition is
// restored. Records are written some MiB at a time (a sixteenth of the cache, 16 MiB at most). The caller must not have changes open.
//
// A restore may be broken off at any time: the checkpoint only says what is in for certain,
// and Pebble may hold more of the committed topic. Reading that part again is idempotent,
// for the last record of a user wins; and nothing is judged before the restore has come
// to its end, so that a profile is newer than the checkpoint can be seen by nobody.
func (p *Partition) Put(user, value []byte) error {
	if p.carried != nil {
		p.carried[string(user)] = 0
	}
	return p.put(user, value)
}

func (p *Partition) put(user, value []byte) error {
	p.settle()
	p.cache.remove(string(user))
	if p.restoring == nil {
		p.restoring = p.store.spare.Get().(*pending)
	}
	p.restoring.add(p.profileKey(string(user)), value)
	if p.restoring.bytes() < p.store.batchBytes {
		return nil
	}
	if err := p.write(); err != nil {
		return fmt.Errorf("restoring partition %d: %w", p.number, err)
	}
	return nil
}

// Advance notes the checkpoint that holds for all that was Put so far. It is written with
// the next batch, so a restore that is broken off goes on from there.
func (p *Partition) Advance(cp Checkpoint) { p.advanced = &cp }

// Restored writes what Put has left, and the checkpoint.
func (p *Partition) Restored(cp Checkpoint) error {
	p.advanced = &cp
	if err := p.write(); err != nil {
		return fmt.Errorf("restoring partition %d: %w", p.number, err)
	}
	return nil
}

func (p *Partition) write() error {
	if p.token == nil {
		return errReleased
	}
	restoring, advanced := p.restoring, p.advanced
	p.restoring, p.advanced, p.carried = nil, nil, nil
	batch, asTable := new(pebble.Batch), false
	var err error
	if restoring != nil {
		defer p.store.spared(restoring)
		if asTable = restoring.bytes() >= p.store.tableBytes; asTable {
			err = p.store.ingest(p.number, restoring)
		} else {
			err = restoring.into(batch)
		}
	}
	if err == nil && advanced != nil {
		err = batch.Set(p.prefix(kindCheckpoint), advanced.append(nil), nil)
	}
	if err == nil {
		err = p.store.apply(batch)
	}
	if err == nil && asTable {
		// The checkpoint would lie in a memtable that nothing fills.
		err = p.store.Flush()
	}
	return err
}

// Drop deletes all of the partition: profiles, checkpoint, and what is open.
func (p *Partition) Drop() error {
	p.abandon()
	batch := new(pebble.Batch)
	from := binary.BigEndian.AppendUint32(nil, uint32(p.number))
	to := binary.BigEndian.AppendUint32(nil, uint32(p.number)+1)
	err := batch.DeleteRange(from, to, nil)
	if err == nil && p.token == nil {
		err = errReleased
	}
	if err == nil {
		err = p.store.apply(batch)
	}
	if err != nil {
		return fmt.Errorf("dropping partition %d: %w", p.number, err)
	}
	return nil
}

// abandon lets go of all that is in memory only.
func (p *Partition) abandon() {
	p.Rollback()
	p.cache.clear()
	if p.restoring != nil {
		p.store.spared(p.restoring)
	}
	p.restoring, p.advanced, p.carried = nil, nil, nil
}

// Release flushes, gives the lease back, and forgets what was not committed. The lease is
// free also when the flush fails. Releasing again does nothing.
func (p *Partition) Release() error {
	if p.token == nil {
		return nil
	}
	p.abandon()
	err := p.store.Flush()
	p.store.leased.Add(-1)
	token := p.token
	p.token = nil
	<-token
	if err != nil {
		return fmt.Errorf("releasing partition %d: %w", p.number, err)
	}
	return nil
}
