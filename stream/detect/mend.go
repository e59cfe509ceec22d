package detect

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/state"
)

// Without transactions nothing keeps a member that was taken for dead from writing what it had
// in hand: profiles which know less than those that its successor has written since. The owner
// of a baseline partition alone should write to it, so it notices: its records do not follow
// each other without a gap, or the partition ends behind its last one. It then reads what is
// there, and writes its own version of the users whose last record carries a lower offset than
// the profile that it holds.
//
// A record that carries an offset further than we have judged knows more of the same log than
// we, and will to whoever restores. It was left by a member that was ahead of us when it lost
// the partition, and then we come to write the same; or it is we who lost it, be it that nobody
// told us yet, and the owner's. Until we have judged as far, a checkpoint that lay behind
// it would claim what our state does not hold. So it stays before it; and with work in hand, which
// may not go into Pebble without it, the member starts over from its checkpoint.

// lookEvery is how often a member looks for records of others where it does not write itself.
const lookEvery = 10 * time.Second

// offsetHeader is the header, a decimal number, that carries the offset of a deletion, which
// has no profile to carry it.
const offsetHeader = "offset"

// topicHeader is the header that names, by its id in hex, the topic of which a record carries an offset: of a
// sign-ins topic that was made again since it says nothing.
const topicHeader = "topic"

// carriedBy returns the offset of the sign-ins topic that a record of the baseline topic carries; 0 is none.
func (b *baselineTopic) carriedBy(r *kgo.Record) (offset int64) {
	if r.Value != nil {
		offset = state.Carried(r.Value)
	}
	for _, h := range r.Headers {
		switch h.Key {
		case topicHeader:
			if string(h.Value) != hex.EncodeToString(b.signins[:]) {
				return 0
			}
		case offsetHeader:
			if at, err := strconv.ParseInt(string(h.Value), 10, 64); err == nil && r.Value == nil {
				offset = max(at, 0)
			}
		}
	}
	return offset
}

// carries returns the headers of a record that carries an offset: in its profile, or where that is nil in
// a header.
func (b *baselineTopic) carries(profile []byte, offset int64) (headers []kgo.RecordHeader) {
	if b.signins != [16]byte{} { // of brokers that name topics by ids
		headers = append(headers, kgo.RecordHeader{Key: topicHeader, Value: hex.AppendEncode(nil, b.signins[:])})
	}
	if profile == nil {
		headers = append(headers, kgo.RecordHeader{Key: offsetHeader, Value: strconv.AppendInt(nil, offset, 10)})
	}
	return headers
}

// interrupted reports whether the baseline partition has records behind next that are not ours.
func (a *assignment) interrupted() bool {
	return a.produced > 0 && a.produced-a.next != a.wrote
}

// look commits what could not be committed, mends what the restores found to be overwritten,
// and from time to time looks for more of it.
func (d *atLeastOnce) look() error {
	ctx, cancel := context.WithTimeout(d.limit, d.cfg.TransactionTimeout)
	defer cancel()
	if err := d.acknowledge(ctx); err != nil {
		return err
	}
	due := time.Since(d.looked) >= d.deps.lookEvery()
	if due {
		d.looked = time.Now()
	}
	for _, a := range d.running {
		if (!due && len(a.overwritten) == 0) || d.roster.lost(a) {
			continue
		}
		if err := d.rewrite(ctx, a, a.overwritten); err != nil {
			return err
		}
		if due || a.interrupted() {
			if err := d.survey(ctx, a); err != nil {
				return err
			}
		}
		if a.produced > a.next {
			a.next, a.last, a.wrote = a.produced, a.producedLast, 0
			if err := a.state.Commit(d.baseline.checkpoint(a.next, a.last)); err != nil {
				return err
			}
		}
	}
	return nil
}

// survey reads what the baseline partition holds behind next, if it is not ours alone, and
// mends what is overwritten. What it cannot read now, or holds more than we have judged, is left
// to the next time: the checkpoint stays before it.
func (d *atLeastOnce) survey(ctx context.Context, a *assignment) error {
	ends, err := d.admin.ListEndOffsets(ctx, d.baseline.name)
	end, ok := ends.Lookup(d.baseline.name, a.partition)
	if err == nil {
		err = end.Err
	}
	if err != nil || !ok {
		return d.postpone(a, err)
	}
	if end.Offset-a.next == a.wrote {
		return nil
	}
	latest := make(map[string]*kgo.Record)
	var last time.Time
	ahead := false
	err = d.span(ctx, a.partition, a.next, end.Offset, d.cfg.TransactionTimeout, func(r *kgo.Record) error {
		latest[string(r.Key)], last = r, r.Timestamp
		ahead = ahead || d.baseline.carriedBy(r) > a.judged
		return nil
	}, func(int64) bool { return true })
	if err != nil || ahead {
		return d.postpone(a, err)
	}
	stale := make(map[string]bool)
	for user, r := range latest {
		held, err := a.state.Encoded(user)
		if err != nil {
			return err
		}
		switch offset := d.baseline.carriedBy(r); {
		case held != nil && offset < state.Carried(held), held == nil && r.Value != nil && offset <= a.judged:
			stale[user] = true
		}
	}
	a.next, a.produced, a.wrote = end.Offset, end.Offset, 0
	if !last.IsZero() {
		a.last, a.producedLast = last, last
	}
	return d.rewrite(ctx, a, stale)
}

// postpone leaves what others wrote to the next look.
func (d *atLeastOnce) postpone(a *assignment, err error) error {
	d.log.Debug("looking for records of others in the baseline topic", "partition", a.partition, "error", err)
	a.produced = 0
	d.looked = time.Time{}
	return nil
}

// rewrite writes what we hold of users once more.
func (d *atLeastOnce) rewrite(ctx context.Context, a *assignment, users map[string]bool) error {
	if len(users) == 0 {
		return nil
	}
	err := d.produce(ctx, func(ctx context.Context, failed func(*kgo.Record, error)) {
		for user := range users {
			profile, err := a.state.Encoded(user)
			if err != nil {
				failed(&kgo.Record{Topic: d.baseline.name}, err)
				return
			}
			d.produceProfile(ctx, a, user, profile, a.judged, failed)
		}
	})
	if err != nil {
		return fmt.Errorf("mending profiles of partition %d: %w", a.partition, err)
	}
	d.deps.Metrics.mended.Add(float64(len(users)))
	d.log.Warn("an instance that had lost a partition overwrote newer profiles in the baseline topic; they are written again",
		"partition", a.partition, "profiles", len(users))
	a.overwritten = nil
	if a.interrupted() {
		return d.postpone(a, nil)
	}
	return nil
}
