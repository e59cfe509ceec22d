package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// store is all that the state folder of one instance holds.
type store struct {
	dir        string
	partitions map[int32]*storedPartition
}

// storedPartition is the range of one partition: its checkpoint (nil where there is none) and
// the value of each user.
type storedPartition struct {
	checkpoint *checkpoint
	users      map[string][]byte
}

// quietLogger keeps Pebble's own words off the terminal.
type quietLogger struct{}

func (quietLogger) Infof(string, ...any)  {}
func (quietLogger) Errorf(string, ...any) {}

func (quietLogger) Fatalf(format string, args ...any) {
	panic("pebble: " + fmt.Sprintf(format, args...)) // it must not return, says Pebble
}

// readStore reads a state folder, DIR/format, DIR/instance and DIR/pebble, without changing it. A
// key is the partition (four bytes, big endian), 0 for the checkpoint or 1 for a profile, and the
// user. The instance is in the merger's name.
func readStore(dir string) (s *store, err error) {
	format, err := os.ReadFile(filepath.Join(dir, "format"))
	if err != nil {
		return nil, fmt.Errorf("reading the format of state folder %s: %w", dir, err)
	}
	if text := strings.TrimSpace(string(format)); text != "1" {
		return nil, fmt.Errorf("state folder %s has format %.20q, not 1", dir, text)
	}
	instance, err := os.ReadFile(filepath.Join(dir, "instance"))
	if err != nil {
		return nil, fmt.Errorf("reading the instance of state folder %s: %w", dir, err)
	}
	merger := &pebble.Merger{Name: "prtwatch " + strings.TrimSpace(string(instance)), Merge: pebble.DefaultMerger.Merge}
	defer func() {
		if err != nil {
			err = fmt.Errorf("reading the Pebble of state folder %s: %w", dir, err)
		}
	}()
	db, err := pebble.Open(filepath.Join(dir, "pebble"), &pebble.Options{ReadOnly: true, Logger: quietLogger{}, ErrorIfNotExists: true, Merger: merger})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	keys, err := db.NewIter(nil)
	if err != nil {
		return nil, err
	}
	s = &store{dir: dir, partitions: map[int32]*storedPartition{}}
	for ok := keys.First(); ok; ok = keys.Next() {
		value, err := keys.ValueAndErr()
		if err == nil {
			err = s.add(keys.Key(), value)
		}
		if err != nil {
			return nil, errors.Join(err, keys.Close())
		}
	}
	return s, keys.Close()
}

func (s *store) add(key, value []byte) error {
	if len(key) < 5 || key[4] > 1 || key[4] == 0 && len(key) > 5 {
		return fmt.Errorf("key %x is neither a checkpoint's nor a profile's", key)
	}
	number := int32(binary.BigEndian.Uint32(key))
	p := s.partitions[number]
	if p == nil {
		p = &storedPartition{users: map[string][]byte{}}
		s.partitions[number] = p
	}
	if key[4] == 1 {
		p.users[string(key[5:])] = append([]byte{}, value...)
		return nil
	}
	cp, err := decodeCheckpoint(value)
	if err != nil {
		return fmt.Errorf("the checkpoint of partition %d: %w", number, err)
	}
	p.checkpoint = &cp
	return nil
}

// checkStore holds what an instance keeps against the baseline topic: at the checkpoint of a
// partition it must have what the committed records below have, byte for byte.
func (j *judge) checkStore(s *store, topic *topicProfiles) {
	for number, p := range s.partitions {
		where := fmt.Sprintf("%s, partition %d", s.dir, number)
		j.PebbleProfiles += len(p.users)
		offset := int64(0)
		if p.checkpoint != nil {
			j.PebblePartitions++
			offset = p.checkpoint.offset
		}
		if offset > j.brokers.end(j.baseline, number) {
			j.PebbleAhead++
			j.find("pebble_ahead", "%s: its checkpoint is %d, and the topic ends at %d", where, offset, j.brokers.end(j.baseline, number))
			continue
		}
		if offset > 0 && !j.brokers.isOf(j.baseline, p.checkpoint) {
			j.PebbleWrong++
			j.find("pebble_wrong", "%s: its checkpoint is of another cluster, topic or partition count", where)
			continue
		}
		j.checkStored(where, offset, p.users, &replay{
			topic: topic, users: topic.partitions[number], mayHaveBeen: j.mayHaveBeen, expired: func(user string) bool { return j.expired[user] },
		})
	}
}

// isOf reports whether a checkpoint is of the topic.
func (b *brokers) isOf(topic string, cp *checkpoint) bool {
	detail := b.topics[topic]
	return cp.cluster == b.cluster && cp.topic == detail.ID && cp.partitions == int64(len(detail.Partitions))
}

// replay is a partition of the baseline topic, to be looked at as of any offset.
type replay struct {
	topic       *topicProfiles
	users       map[string]*history
	mayHaveBeen func(user string, value []byte) bool
	expired     func(user string) bool
}

// checkStored compares a partition with the topic at its checkpoint.
//
// A restore that was broken off may have written more than its checkpoint says: all of the
// topic up to some later record, for batches are written whole and in their order. So where
// anything is newer than the checkpoint, the whole must be the topic at the newest record
// that is there; then nothing leads. A mixture of times is ahead.
func (j *judge) checkStored(where string, offset int64, stored map[string][]byte, r *replay) {
	differ := r.differences(offset, stored)
	if len(differ) == 0 {
		return
	}
	reached := offset
	for user, d := range differ {
		if h := r.users[user]; h != nil && !d.missing {
			reached = max(reached, h.foundFrom(offset, digestOf(stored[user]))+1)
		}
	}
	if reached > offset && len(r.differences(reached, stored)) == 0 {
		return
	}
	for user, d := range differ {
		h := r.users[user]
		if h != nil && (d.missing && h.deletedFrom(offset) || !d.missing && h.foundFrom(offset, digestOf(stored[user])) >= 0) {
			j.PebbleAhead++
			j.find("pebble_ahead", "%s: user %q is newer than the checkpoint %d", where, user, offset)
			continue
		}
		j.PebbleWrong++
		j.find("pebble_wrong", "%s: user %q: %s at offset %d", where, user, d.what, offset)
	}
}

// difference is what is not alike of one user.
type difference struct {
	missing bool // Pebble has nothing of him
	what    string
}

// differences returns the users of whom Pebble has something else than the topic below
// offset has.
func (r *replay) differences(offset int64, stored map[string][]byte) map[string]difference {
	differ := map[string]difference{}
	for user, value := range stored {
		h := r.users[user]
		if h == nil {
			// Swept after the checkpoint, and compaction has taken all that was said of him.
			if offset == 0 || !r.expired(user) || !r.mayHaveBeen(user, value) {
				differ[user] = difference{what: "the topic has no record of him"}
			}
			continue
		}
		want, known := r.topic.below(h, offset)
		switch {
		case want != nil && want.bytes == digestOf(value):
		case want != nil:
			differ[user] = difference{what: "his profile is not that of the topic"}
		case !known && h.superseded(offset, value) && r.mayHaveBeen(user, value):
		case !known:
			differ[user] = difference{what: "the topic has no record of him"}
		default:
			differ[user] = difference{what: "the topic has him deleted"}
		}
	}
	for user, h := range r.users {
		if want, _ := r.topic.below(h, offset); want != nil && stored[user] == nil {
			differ[user] = difference{missing: true, what: "he is missing"}
		}
	}
	return differ
}

// superseded reports whether value may have been in a record below offset that compaction has
// taken away: there is a later one, and it is none of those.
func (h *history) superseded(offset int64, value []byte) bool {
	return len(h.versions) > 0 && h.versions[0].offset >= offset && h.foundFrom(offset, digestOf(value)) < 0
}

// mayHaveBeen reports whether value is a profile that the user may have had once: all that is in
// it was so. What is not in it had yet to come, or to be restored.
func (j *judge) mayHaveBeen(user string, value []byte) bool {
	p, err := decode(value)
	want := j.taught[user]
	if err != nil || want == nil {
		return false
	}
	const none = math.MaxInt64
	oldest := p.newest - j.span()
	return compareNetworks(p.ips, want.ips, oldest, none) == "" && compareNetworks(p.asns, want.asns, oldest, none) == ""
}

// foundFrom returns the first offset, from offset on, of a record with these bytes; -1 where
// there is none.
func (h *history) foundFrom(offset int64, bytes digest) int64 {
	for _, v := range h.versions {
		if v.offset >= offset && !v.deleted && v.bytes == bytes {
			return v.offset
		}
	}
	return -1
}

func (h *history) deletedFrom(offset int64) bool {
	for _, v := range h.versions {
		if v.offset >= offset && v.deleted {
			return true
		}
	}
	return false
}
