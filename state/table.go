package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A restore of many users is sorted and handed to Pebble as tables: that costs half of what
// batches do, which go through memtables and are then compacted again and again.

// tableBytes is from how much on that is worth a file.
const tableBytes = 1 << 20

// pending is what a restore has read of a partition and not written yet.
type pending struct {
	text []byte
	list []pendingRecord
}

// pendingRecord is a key and its value, in pending.text.
type pendingRecord struct {
	key, value, end int // where they begin, and where the value ends; a deletion has end < 0
}

// bytes is about how much memory they take.
func (p *pending) bytes() int { return len(p.text) + 32*len(p.list) }

// add takes a record in; a nil value deletes.
func (p *pending) add(key, value []byte) {
	r := pendingRecord{key: len(p.text), value: len(p.text) + len(key), end: -1}
	p.text = append(append(p.text, key...), value...)
	if value != nil {
		r.end = len(p.text)
	}
	p.list = append(p.list, r)
}

// spared gives the memory to whoever restores next: what is allocated anew for each partition is not collected as
// fast as they are restored.
func (s *Store) spared(p *pending) {
	p.text, p.list = p.text[:0], p.list[:0]
	s.spare.Put(p)
}

func (p *pending) keyOf(r pendingRecord) []byte { return p.text[r.key:r.value:r.value] }

// writeTo calls set and remove with each key once, in their order, for what came last.
func (p *pending) writeTo(set func(key, value []byte) error, remove func(key []byte) error) error {
	slices.SortStableFunc(p.list, func(a, b pendingRecord) int { return bytes.Compare(p.keyOf(a), p.keyOf(b)) })
	for i, r := range p.list {
		key := p.keyOf(r)
		if i+1 < len(p.list) && bytes.Equal(key, p.keyOf(p.list[i+1])) {
			continue
		}
		var err error
		if r.end < 0 {
			err = remove(key)
		} else {
			err = set(key, p.text[r.value:r.end])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// into puts all into a batch.
func (p *pending) into(b *pebble.Batch) error {
	return p.writeTo(
		func(key, value []byte) error { return b.Set(key, value, nil) },
		func(key []byte) error { return b.Delete(key, nil) })
}

// tablePrefix begins the name of a table that is not Pebble's yet.
const tablePrefix = "restored-"

// ingest makes a table of what is pending of a partition, and gives it to Pebble: the next Flush at the latest has it
// on disk. After an error the store is broken.
func (s *Store) ingest(partition int32, p *pending) error {
	path := s.dir.file(fmt.Sprintf("%s%d.sst", tablePrefix, partition))
	return s.use(func(db *pebble.DB) error {
		err := s.writeTable(path, db.TableFormat(), p)
		if err == nil {
			err = s.unlessBroken(func() error { return db.Ingest(context.Background(), []string{path}) })
		}
		if err != nil {
			err = fmt.Errorf("writing the table %s: %w", path, err)
			s.health.fail(err)
		}
		return err
	})
}

func (s *Store) writeTable(path string, format sstable.TableFormat, p *pending) error {
	file, err := s.options.FS.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(file), s.options.MakeWriterOptions(0, format))
	return errors.Join(p.writeTo(w.Set, w.Delete), w.Close())
}

// dropTables removes the tables that a process left which ended before Pebble had them.
func (s *Store) dropTables() error {
	names, err := s.dir.fs.List(s.dir.path)
	if err != nil {
		return fmt.Errorf("looking into the state folder: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, tablePrefix) {
			if err := s.dir.fs.Remove(s.dir.file(name)); err != nil {
				return fmt.Errorf("removing a table that was not finished: %w", err)
			}
		}
	}
	return nil
}
