package detect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/fault"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// stalled is how long a restore waits for the next record before it gives up, at the least.
// The end of a predecessor's undecided transaction has to be awaited.
const stalled = 2 * time.Minute

// sayEvery is how often a restore that takes long says how far it is, waitsEvery how often one that
// cannot begin says why.
const (
	sayEvery   = 5 * time.Second
	waitsEvery = 30 * time.Second
)

// fetched keeps what the group's offsets were committed with, for adjust.
func (m *member) fetched(_ context.Context, _ *kgo.Client, response *kmsg.OffsetFetchResponse) error {
	for _, g := range response.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				text := ""
				if p.Metadata != nil {
					text = *p.Metadata
				}
				m.marks[p.Partition] = parseMark(text, p.Offset)
			}
		}
	}
	return nil
}

// adjust is called by the group once the committed offsets of newly assigned partitions are
// known. It refuses those that do not fit the topics, gives those that have none a start, and
// begins the restores: the end of the baseline partition must be asked for after the offsets. A
// partition whose leaders do not answer is located by itself, and paused until it is restored.
func (m *member) adjust(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	input := offsets[m.deps.Topics.Signins]
	if len(input) == 0 {
		return offsets, nil
	}
	m.tellForeign(input)
	found := m.ends(ctx)
	for partition, offset := range input {
		committed, was := offset.EpochOffset().Offset, m.marks[partition]
		a := m.roster.unread(partition)
		at, ok := found[partition]
		if !ok {
			if committed < 0 {
				input[partition] = kgo.NewOffset().AtStart()
			}
			if a != nil {
				m.restores.Go(func() { m.locate(a, committed, was) })
			}
			continue
		}
		start, err := m.startAt(partition, committed, was, at)
		if err != nil {
			m.fail(err)
			return nil, nil // nothing is read any more; the client would log an error once more
		}
		if start != committed {
			input[partition] = kgo.NewOffset().At(start)
		}
		if a != nil {
			m.restores.Go(func() { m.restore(a, start, committed, was, at) })
		}
	}
	return offsets, nil
}

// tellForeign warns of offsets that somebody else has committed: an operator who set them, or a consumer that was in our
// group and has passed over what lies before.
func (m *member) tellForeign(input map[int32]kgo.Offset) {
	var foreign []int32
	for partition, offset := range input {
		if offset.EpochOffset().Offset >= 0 && !m.marks[partition].ours {
			foreign = append(foreign, partition)
		}
	}
	if len(foreign) > 0 {
		slices.Sort(foreign)
		m.log.Warn("the offset is none that prtwatch has committed: what lies before it is taken for judged; where nobody set it on purpose, another consumer was in this group, and docs/backup.md says how to go back",
			"group", m.cfg.Group, "topic", m.deps.Topics.Signins, "partitions", foreign)
	}
}

// ends is where a partition of the topics begins and ends, high watermarks and not last
// stable offsets: what lies between them may yet be committed.
type ends struct{ signinsStart, signinsEnd, baselineStart, baselineEnd int64 }

// endsWithin is how long the group waits for the leaders of all partitions.
const endsWithin = 2 * time.Second

// ends returns what the leaders of all partitions say in time.
func (m *member) ends(ctx context.Context) map[int32]ends {
	ctx, cancel := context.WithTimeout(ctx, endsWithin)
	defer cancel()
	var starts, lasts kadm.ListedOffsets
	var startErr, lastErr error
	var both sync.WaitGroup
	both.Go(func() {
		starts, startErr = m.admin.ListStartOffsets(ctx, m.deps.Topics.Signins, m.deps.Topics.Baseline)
	})
	both.Go(func() { lasts, lastErr = m.admin.ListEndOffsets(ctx, m.deps.Topics.Signins, m.deps.Topics.Baseline) })
	both.Wait()
	if err := errors.Join(startErr, lastErr, starts.Error(), lasts.Error()); err != nil {
		m.log.Debug("asking where the topics begin and end", "error", err)
	}
	found := make(map[int32]ends)
	for p := range m.deps.Topics.Partitions {
		var at ends
		known := true
		for _, of := range []struct {
			listed kadm.ListedOffsets
			topic  string
			to     *int64
		}{
			{starts, m.deps.Topics.Signins, &at.signinsStart},
			{lasts, m.deps.Topics.Signins, &at.signinsEnd},
			{starts, m.baseline.name, &at.baselineStart},
			{lasts, m.baseline.name, &at.baselineEnd},
		} {
			offset, ok := of.listed.Lookup(of.topic, p)
			known = known && ok && offset.Err == nil
			*of.to = offset.Offset
		}
		if known {
			found[p] = at
		}
	}
	return found
}

// locate asks the leaders of one partition where it begins and ends, again and again while they are
// away, and then restores it. Those of others are not waited for.
func (m *member) locate(a *assignment, committed int64, was mark) {
	var said time.Time
	for {
		at, err := m.endsOf(a.ctx, a.partition)
		if err == nil {
			start, err := m.startAt(a.partition, committed, was, at)
			if err == nil && committed >= 0 && start != committed { // and the client reads from there by now
				err = fmt.Errorf("%w: partition %d is to be read from offset %d, not from %d", errRebuild, a.partition, start, committed)
			}
			if err == nil {
				m.restore(a, start, committed, was, at)
			} else if a.ctx.Err() == nil {
				m.fail(err)
			}
			return
		}
		m.roster.waits(a, fmt.Sprintf("partition %d waits for its leaders: %s", a.partition, brief(err)))
		if now := time.Now(); now.Sub(said) > cmp.Or(m.deps.sayEvery, waitsEvery) && a.ctx.Err() == nil {
			said = now
			m.log.Warn("waiting for the leaders of a partition before it is restored",
				"partition", a.partition, "error", err, "since", now.Sub(a.since).Round(time.Second))
		}
		select {
		case <-a.ctx.Done():
			return
		case <-time.After(rebuildAfter):
		}
	}
}

// brief is an error without the explanation that the client gives with a broker's.
func brief(err error) string {
	var said *kerr.Error
	if errors.As(err, &said) {
		return said.Message
	}
	return err.Error()
}

// endsOf is ends of one partition.
func (m *member) endsOf(ctx context.Context, partition int32) (at ends, err error) {
	ctx, cancel := context.WithTimeout(ctx, endsWithin)
	defer cancel()
	for _, of := range []struct {
		topic     string
		timestamp int64
		to        *int64
	}{
		{m.deps.Topics.Signins, kafka.StartOfLog, &at.signinsStart},
		{m.deps.Topics.Signins, kafka.EndOfLog, &at.signinsEnd},
		{m.baseline.name, kafka.StartOfLog, &at.baselineStart},
		{m.baseline.name, kafka.EndOfLog, &at.baselineEnd},
	} {
		if *of.to, err = kafka.OffsetOf(ctx, m.asking, of.topic, partition, of.timestamp, kgo.ReadUncommitted()); err != nil {
			return at, fmt.Errorf("asking for an end of %s: %w", of.topic, err)
		}
	}
	return at, nil
}

// startAt says at which offset a partition is to be read, given the committed one (negative
// where there is none), or why it must not be.
func (m *member) startAt(partition int32, committed int64, was mark, at ends) (int64, error) {
	start, end := at.signinsStart, at.signinsEnd
	if committed < 0 {
		return start, nil // which is right only where nobody is known: bring looks
	}
	if wrong := m.baseline.holds(was, at.baselineStart, at.baselineEnd, m.deps.AcceptLoss); wrong != "" {
		remedy := ""
		if !was.ours {
			remedy = "pass --accept-loss if nobody was known in this partition, "
		}
		return 0, fmt.Errorf("partition %d of %s: %s; what users are known by is in that topic alone: bring it back, %s"+
			"or delete the offsets of group %s to begin with nobody known; docs/backup.md has how, without alerts coming twice",
			partition, m.baseline.name, wrong, remedy, m.cfg.Group)
	}
	another := m.baseline.another(was)
	switch {
	case another && !m.deps.AcceptLoss:
		return 0, fmt.Errorf("partition %d of %s: offset %d is committed, but the topic was made again since; pass --accept-loss to read it from its beginning",
			partition, m.deps.Topics.Signins, committed)
	case committed < start && !m.deps.AcceptLoss:
		return 0, fmt.Errorf("partition %d of %s: %d sign-ins were deleted before they were judged (offsets %d to %d); pass --accept-loss to go on without them",
			partition, m.deps.Topics.Signins, start-committed, committed, start-1)
	case committed > end && !m.deps.AcceptLoss:
		return 0, fmt.Errorf("partition %d of %s ends at offset %d, but %d is committed: the topic was made again; pass --accept-loss to read it from its beginning",
			partition, m.deps.Topics.Signins, end, committed)
	case another || committed < start || committed > end:
		m.log.Warn("accepting the loss of sign-ins", "partition", partition, "committed", committed, "start", start, "end", end)
		return start, nil
	}
	return committed, nil
}

// restore leases the partition's state, brings it to where the baseline partition ended when
// the assignment began, and hands it to the member. Its sign-ins are read from start; committed is the
// group's offset, negative where there is none, and was what came with it.
func (m *member) restore(a *assignment, start, committed int64, was mark, at ends) {
	if !m.roster.startRestore(a, start, at.baselineEnd, was, cmp.Or(m.deps.heard, maxHeardBytes)) {
		return
	}
	first := committed < 0
	// Whether the state goes with offsets of another topic, or with those that an operator set, it does not say.
	anew := first || !was.ours || m.baseline.another(was)
	if err := m.bring(a, at, first, anew); err != nil && a.ctx.Err() == nil {
		m.fail(err)
	}
}

// bring is restore's work: first says that the group has committed no offset of the partition, anew that
// what is on disk is of no use.
func (m *member) bring(a *assignment, at ends, first, anew bool) error {
	lease, err := m.deps.Store.Lease(a.ctx, a.partition)
	if err != nil {
		return err
	}
	start, end := at.baselineStart, at.baselineEnd
	if anew {
		// What the state holds was judged under offsets that are not there any more.
		if err := lease.Drop(); err != nil {
			return errors.Join(err, lease.Release())
		}
	}
	from, last, err := m.begin(a, lease, start, end)
	upTo := end
	if err == nil {
		upTo, last, err = m.read(a, lease, from, end, last)
	}
	if err == nil && first && !m.deps.AcceptLoss {
		err = m.mayBegin(a, at.signinsStart)
	}
	if err == nil {
		last = time.Now() // as of when nothing is missing
		err = lease.Restored(m.baseline.checkpoint(upTo, last))
	}
	if err == nil {
		fault.Pass(fault.RestoreDone)
		a.next, a.last = end, last
		if m.roster.arrive(a, lease) {
			m.deps.Metrics.restoreSeconds.Observe(time.Since(a.since).Seconds())
			if end-from > 10_000 {
				m.log.Info("partition restored", "partition", a.partition, "records", end-from, "took", time.Since(a.since).Round(time.Millisecond))
			}
			return nil
		}
	}
	lease.Rollback()
	return errors.Join(err, lease.Release())
}

// mayBegin says why a partition of which the group has committed no offset must not be judged from its
// start, the earliest sign-in that is left; nil where it may.
//
// Only what is committed was read: of a predecessor's transaction that was aborted the topic holds
// records too, and no offset. Profiles that carry an offset of this topic say themselves what they have taken in:
// those of a predecessor that wrote its first ones and then died, or whose offsets have expired.
func (m *member) mayBegin(a *assignment, start int64) error {
	const remedy = "set the group's offsets to where it was, or pass --accept-loss to judge from the earliest sign-in that is left"
	switch {
	case a.bare:
		return fmt.Errorf("partition %d of %s: the group %s has committed no offset, but %s has profiles: the offsets expired, the group is another, or the topic was made again; %s",
			a.partition, m.deps.Topics.Signins, m.cfg.Group, m.baseline.name, remedy)
	case 0 < a.carried && a.carried < start:
		return fmt.Errorf("partition %d of %s: the group %s has committed no offset, profiles know what is below offset %d, and sign-ins from there to offset %d are deleted; %s",
			a.partition, m.deps.Topics.Signins, m.cfg.Group, a.carried, start-1, remedy)
	}
	return nil
}

// begin returns from where the baseline partition [start, end) must be read: the checkpoint,
// where it is of use, or the beginning, with nothing kept. It also returns as of when nothing
// below that offset is missing: what is read now is as of now, for a deletion can be read for
// tombstones after the record that it deletes has gone.
func (m *member) begin(a *assignment, lease *state.Partition, start, end int64) (from int64, last time.Time, err error) {
	cp, ok, err := lease.Checkpoint()
	if err != nil {
		return 0, last, err
	}
	if ok {
		why := m.baseline.stale(cp, start, end, time.Now())
		if why == "" {
			return cp.Offset, cp.Timestamp, nil
		}
		m.log.Info("restoring all of a partition: its checkpoint is of no use", "partition", a.partition, "reason", why)
	}
	err = lease.Drop()
	fault.Pass(fault.RestoreDropped)
	return start, time.Now(), err
}

// read puts the committed records of the baseline partition at offsets [from, end) into the
// state. It returns up to which offset, and as of when, the state is what the topic says: short
// of end where it has to be mended (see mend.go). A read that is broken off is gone on with from
// there by the next one.
func (m *member) read(a *assignment, lease *state.Partition, from, end int64, last time.Time) (upTo int64, _ time.Time, err error) {
	at := progress{from: from, at: from, end: end}
	if from >= end {
		m.roster.progress(a, at)
		return end, last, nil
	}
	upTo = from
	said := time.Now()
	m.restoring(a, at)
	defer m.deps.Metrics.restored(a.partition)
	overwritten := make(map[string]bool)
	reading := turns{member: m, of: a, at: &at}
	reading.take = func(r *kgo.Record) error {
		m.deps.Metrics.restoreRecords.Inc()
		if r.Timestamp.After(last) {
			last = r.Timestamp
		}
		offset := m.baseline.carriedBy(r)
		if offset == 0 {
			a.bare = true
			return lease.Put(r.Key, state.Bare(r.Value))
		}
		a.carried = max(a.carried, offset)
		newer, err := lease.PutNewer(r.Key, r.Value, offset)
		if newer {
			delete(overwritten, string(r.Key))
		} else {
			overwritten[string(r.Key)] = true
		}
		return err
	}
	reading.moved = func(next int64) {
		if len(overwritten) == 0 {
			upTo = next
			lease.Advance(m.baseline.checkpoint(upTo, last))
		}
		fault.Pass(fault.RestoreMoved)
		at.at = next
		m.restoring(a, at)
		if now := time.Now(); now.Sub(said) > cmp.Or(m.deps.sayEvery, sayEvery) {
			said = now
			perSecond, left := at.pace(now)
			m.log.Info("restoring a partition", "partition", a.partition, "records", at.done(), "of", end-from,
				"per_second", int64(perSecond), "left", roundUp(left), "since", now.Sub(a.since).Round(time.Second))
		}
	}
	reading.keep = func() error { return lease.Restored(m.baseline.checkpoint(upTo, last)) }
	err = reading.read()
	a.overwritten = overwritten
	return upTo, last, err
}

// restoring notes how far the restore of an assignment is, for all who look.
func (m *member) restoring(a *assignment, at progress) {
	m.roster.progress(a, at)
	m.deps.Metrics.restoring(a.partition, at)
}

// restorePatience is how long a restore waits for the next record before it gives up.
func (m *member) restorePatience() time.Duration {
	if m.deps.patience > 0 {
		return m.deps.patience
	}
	return max(stalled, 2*m.cfg.TransactionTimeout)
}

// errStill is what span gives up with where nothing comes.
var errStill = errors.New("the leader has records there and sends none")

// span reads the committed records of the baseline partition at offsets [from, end), and tells
// moved now and then up to where it has come, until that wants no more. It gives up with errStill when nothing comes for as
// long as patience.
func (m *member) span(ctx context.Context, partition int32, from, end int64, patience time.Duration, take func(*kgo.Record) error, moved func(at int64) (more bool)) error {
	opts := append([]kgo.Opt(nil), m.deps.Client...)
	opts = append(opts,
		kgo.WithContext(ctx), // its Close waits for no broker once the restore is broken off
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{m.baseline.name: {partition: kgo.NewOffset().At(from)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// The position must move over commit markers, or it would never reach an end that they are.
		kgo.KeepControlRecords(),
		kgo.FetchMaxPartitionBytes(fetchBytes), // of one partition; no FetchMaxBytes, see the splitter's reader
	)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("making the client that reads partition %d of %s: %w", partition, m.baseline.name, err)
	}
	defer client.Close()

	var silent time.Duration
	var reason error
	for at, more := from, true; more && at < end; more = moved(at) {
		asked := time.Now()
		pollCtx, cancel := context.WithTimeout(ctx, min(sayEvery, patience-silent))
		fetches := client.PollFetches(pollCtx)
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, failed := range fetches.Errors() {
			if !errors.Is(failed.Err, context.DeadlineExceeded) {
				reason = failed.Err
				m.log.Debug("restoring", "partition", partition, "error", failed.Err)
			}
		}
		if fetches.NumRecords() > 0 {
			silent = 0
		} else if silent += time.Since(asked); silent >= patience {
			if reason != nil {
				return fmt.Errorf("%w: %w", errStill, reason)
			}
			return errStill
		}
		for records := fetches.RecordIter(); !records.Done(); {
			r := records.Next()
			if r.Offset >= end {
				at = end
				break
			}
			at = r.Offset + 1
			if r.Attrs.IsControl() {
				continue
			}
			if err := take(r); err != nil {
				return err
			}
		}
	}
	return nil
}
