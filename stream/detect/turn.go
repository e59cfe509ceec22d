package detect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

// restoresAtOnce is how many restores of a process read at the same time. Each has a client that buffers twice
// fetchBytes and a batch for Pebble: 32 of them took a gigabyte, and were no faster. One that waits, for its lease, its
// turn, a leader or the end of a transaction, has neither, and keeps no other from reading.
const restoresAtOnce = 4

// turnWithin is for how long nothing may come in a restore's turn before it is another's. Each turn that ends
// so makes the next one twice as long, for what comes slowly has to come at last; up to turnGrowth times as long, 16 s: a
// client gives an answer up after 15 s (kgo.FetchMaxWait and kgo.RequestTimeoutOverhead, as they are in the client).
const (
	turnWithin = 2 * time.Second
	turnGrowth = 8
)

// turnSlice is how long a turn may be in which something comes: who is not through by then asks for another one,
// which is after those who wait.
const turnSlice = 10 * time.Second

// askAfter is when a restore that waits asks the leader once more; each time later, up to rebuildAfter. Most
// transactions end within some milliseconds.
const askAfter = 10 * time.Millisecond

// errUndecided is why a restore waits though its next record has come.
var errUndecided = errors.New("a transaction that began there has not ended")

// turns is the reading of a baseline partition by a restore: a turn for each stretch of it that is decided,
// or some of it.
type turns struct {
	*member
	of *assignment
	at *progress
	// take and moved are span's, and moved moves at. keep is called at the end of each turn but the last, and
	// leaves nothing of what was taken in memory.
	take  func(*kgo.Record) error
	moved func(next int64)
	keep  func() error

	within time.Duration // of the next turn
	since  time.Time     // since when nothing moved, though the leader answers and nobody else was waited for
	pause  time.Duration // until the leader is asked again
	said   time.Time     // when the log was last told that it waits
}

// read reads from at.at to at.end. A leader that is away is waited for without limit. Where it answers, and
// nothing moves for as long as restorePatience, somebody has to look: that is an error.
func (t *turns) read() error {
	t.within, t.pause, t.since, t.said = cmp.Or(t.deps.turn, turnWithin), askAfter, time.Now(), time.Now()
	for t.at.at < t.at.end {
		decided, why := t.decided()
		if why == nil {
			why = t.turn(min(decided, t.at.end))
			if why != nil && !errors.Is(why, errStill) {
				return why
			}
		}
		if why != nil {
			if err := t.wait(why); err != nil {
				return err
			}
		}
	}
	return nil
}

// decided asks the leader up to where no transaction is undecided: errUndecided where that is no further than
// we are.
func (t *turns) decided() (int64, error) {
	ctx, cancel := context.WithTimeout(t.of.ctx, endsWithin)
	defer cancel()
	decided, err := kafka.OffsetOf(ctx, t.asking, t.baseline.name, t.of.partition, kafka.EndOfLog, kgo.ReadCommitted())
	if err == nil && decided <= t.at.at {
		err = errUndecided
	}
	return decided, err
}

// turn reads up to an offset while few others read, or as far as it comes in turnSlice, and gives up with errStill.
func (t *turns) turn(upTo int64) error {
	asked := time.Now()
	if err := t.deps.restores.Acquire(t.of.ctx, 1); err != nil {
		return err
	}
	defer t.deps.restores.Release(1)
	t.since = t.since.Add(time.Since(asked))
	if t.at.waits = ""; t.at.began.IsZero() {
		t.at.began = time.Now()
	}
	before, began := t.at.at, time.Now()
	err := t.span(t.of.ctx, t.of.partition, before, upTo, min(t.within, t.restorePatience()), t.take, func(next int64) bool {
		t.moved(next)
		return next == before || time.Since(began) < cmp.Or(t.deps.slice, turnSlice)
	})
	if t.at.at > before {
		t.since, t.pause = time.Now(), askAfter
	}
	if errors.Is(err, errStill) {
		t.within = min(2*t.within, turnGrowth*cmp.Or(t.deps.turn, turnWithin))
	}
	if t.at.at < t.at.end && (err == nil || errors.Is(err, errStill) || t.of.ctx.Err() != nil) {
		err = errors.Join(err, t.keep())
	}
	return err
}

// wait says why the restore waits, and waits a little; or it says that nothing moves.
func (t *turns) wait(why error) error {
	now := time.Now()
	if away(why) {
		t.since = now
	} else if patience := t.restorePatience(); now.Sub(t.since) >= patience {
		return fmt.Errorf("restoring partition %d of %s: nothing came for %s at offset %d of %d: %w",
			t.of.partition, t.baseline.name, patience, t.at.at, t.at.end, why)
	}
	t.at.waits = fmt.Sprintf("partition %d waits amid its restore: %s", t.of.partition, brief(why))
	t.restoring(t.of, *t.at)
	if now.Sub(t.said) > cmp.Or(t.deps.sayEvery, waitsEvery) && t.of.ctx.Err() == nil {
		t.said = now
		t.log.Warn("a restore stands still", "partition", t.of.partition, "offset", t.at.at, "of", t.at.end,
			"reason", why, "since", now.Sub(t.of.since).Round(time.Second))
	}
	select {
	case <-t.of.ctx.Done():
		return t.of.ctx.Err()
	case <-time.After(t.pause):
		t.pause = min(2*t.pause, rebuildAfter)
		return nil
	}
}

// away reports whether a restore waits for a leader that will be back, be it another broker.
func away(why error) bool {
	if errors.Is(why, errUndecided) || errors.Is(why, errStill) {
		return false
	}
	var said *kerr.Error
	return !errors.As(why, &said) || said.Retriable && !errors.Is(why, kerr.UnknownTopicOrPartition)
}
