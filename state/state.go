// Package state keeps one profile a user in Pebble: in which hours he was seen from which
// address and network, and which alerts he caused lately. It owns the encoding of a
// profile, the store with its directory, cache and checkpoints, and the bounds. It knows
// nothing of Kafka, of rules or of clocks. Start at Partition.
package state

import (
	"context"
	"iter"
	"log/slog"
	"time"
)

// Config is the `state` section.
type Config struct{}

// Store is one Pebble for the process.
type Store struct{}

// Open opens or makes the store. window is the number of hours a verdict looks back.
func Open(cfg Config, window int, log *slog.Logger) (*Store, error) { panic("stub") }

// Instance returns the random name that was made when the directory was.
func (s *Store) Instance() string { panic("stub") }

// Lease waits until nobody holds the partition, then hands it out.
func (s *Store) Lease(ctx context.Context, partition int32) (*Partition, error) { panic("stub") }

// Flush makes what was committed survive a crash of the process (the WAL is off).
func (s *Store) Flush() error { panic("stub") }

// Close flushes and closes.
func (s *Store) Close() error { panic("stub") }

// Checkpoint says up to where of which baseline topic a partition's profiles are.
type Checkpoint struct {
	ClusterID  string
	TopicID    [16]byte
	Partitions int32
	Offset     int64     // the next offset of the baseline partition to read
	Timestamp  time.Time // of the last record that is in; zero where there is none
}

// Partition is the leased range of one partition. It belongs to one goroutine.
type Partition struct{}

// Profile returns the user's profile, an empty one where there is none. Changes to it are
// seen by later calls and stay out of Pebble until Commit.
func (p *Partition) Profile(user string) (*Profile, error) { panic("stub") }

// Changes yields the user and the encoded profile of each profile that changed since the
// last Commit or Rollback.
func (p *Partition) Changes() iter.Seq2[string, []byte] { panic("stub") }

// Commit writes the changes and the checkpoint in one batch.
func (p *Partition) Commit(cp Checkpoint) error { panic("stub") }

// Rollback forgets the changes.
func (p *Partition) Rollback() { panic("stub") }

// Checkpoint returns the checkpoint, and whether there is one.
func (p *Partition) Checkpoint() (Checkpoint, bool, error) { panic("stub") }

// Put takes one record of the baseline topic (a nil value deletes) while the partition is
// restored; it batches. SetCheckpoint ends a batch.
func (p *Partition) Put(user, value []byte) error { panic("stub") }

// Restored writes what Put has left, and the checkpoint.
func (p *Partition) Restored(cp Checkpoint) error { panic("stub") }

// Drop deletes all of the partition, its checkpoint too.
func (p *Partition) Drop() error { panic("stub") }

// Release flushes and gives the lease back.
func (p *Partition) Release() error { panic("stub") }

// Profile is what is known of one user. It satisfies detector.History.
type Profile struct{}
