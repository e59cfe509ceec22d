package round

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
)

// askWithin bounds a question to the brokers.
const askWithin = 5 * time.Second

// standing is where a group is with each partition of a topic.
type standing map[int32]struct{ committed, end int64 }

// done reports whether the group has nothing left to do.
func (s standing) done() bool {
	for _, p := range s {
		if p.committed < p.end {
			return false
		}
	}
	return true
}

// String lists the partitions of which something is left.
func (s standing) String() string {
	var left []string
	for _, p := range slices.Sorted(maps.Keys(s)) {
		if at := s[p]; at.committed < at.end {
			left = append(left, fmt.Sprintf("%d of %d of partition %d", at.committed, at.end, p))
		}
	}
	return strings.Join(left, ", ")
}

// ends lists where the partitions of topics end: for all, or for who reads only what is decided.
type ends func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error)

// standing compares what a group has committed of a topic with where the topic ends.
func (s *scene) standing(ctx context.Context, list ends, topic, group string) (standing, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	ends, err := list(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, err
	}
	offsets, err := s.admin.FetchOffsets(ctx, group)
	if err != nil {
		return nil, err
	}
	at := make(standing)
	ends.Each(func(o kadm.ListedOffset) {
		committed, _ := offsets.Lookup(topic, o.Partition)
		at[o.Partition] = struct{ committed, end int64 }{max(committed.At, 0), o.Offset}
	})
	return at, nil
}

// split reports whether all of the input has been split.
func (s *scene) split(ctx context.Context) bool {
	at, err := s.standing(ctx, s.admin.ListEndOffsets, s.names["input"], s.names["split"])
	return err == nil && at.done()
}

// judged reports whether all that has been split is judged.
func (s *scene) judged(ctx context.Context) bool {
	at, err := s.standing(ctx, s.admin.ListEndOffsets, s.names["signins"], s.names["detect"])
	return err == nil && at.done()
}

// decided reports whether no transaction of the input is open.
func (s *scene) decided(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	ends, err := s.admin.ListEndOffsets(ctx, s.names["input"])
	if err != nil || ends.Error() != nil {
		return false
	}
	stable, err := s.admin.ListCommittedOffsets(ctx, s.names["input"])
	if err != nil || stable.Error() != nil {
		return false
	}
	all := true
	ends.Each(func(o kadm.ListedOffset) {
		at, ok := stable.Lookup(o.Topic, o.Partition)
		all = all && ok && at.Offset >= o.Offset
	})
	return all
}

// until asks again and again until it is so or ctx is done.
func until(ctx context.Context, every time.Duration, so func(context.Context) bool) bool {
	for !so(ctx) {
		if ctx.Err() != nil {
			return false
		}
		pause(ctx, every)
	}
	return true
}

// watchProgress measures for how long a partition stands still, of either group, until ctx is done.
// What is in an open transaction is nothing to do yet.
func (s *scene) watchProgress(ctx context.Context) {
	var splitting, judging stillness
	for ctx.Err() == nil {
		if at, err := s.standing(ctx, s.admin.ListCommittedOffsets, s.names["input"], s.names["split"]); err == nil {
			still := splitting.see(time.Now(), at)
			s.update(func(r *Result) { r.Still.Splitting = r.Still.Splitting.longer(still) })
		}
		if at, err := s.standing(ctx, s.admin.ListCommittedOffsets, s.names["signins"], s.names["detect"]); err == nil {
			now, open := time.Now(), judging.inHandNow(at)
			still := judging.see(now, at)
			s.update(func(r *Result) {
				r.Still.Detecting = r.Still.Detecting.longer(still)
				s.mu.hands = append(s.mu.hands, inHand{now, open})
			})
		}
		pause(ctx, time.Second)
	}
}

// watchUsage measures what the instances take.
func (s *scene) watchUsage(ctx context.Context) {
	for ctx.Err() == nil {
		for _, i := range s.instances {
			if !i.Busy.TryLock() { // a frozen process does not answer
				continue
			}
			u, ok := i.Usage(ctx)
			i.Busy.Unlock()
			if ok {
				s.update(func(r *Result) { r.Usage = r.Usage.Most(u) })
			}
		}
		pause(ctx, 5*time.Second)
	}
}

// The most that an instance may take. In hours of faults none took more than 134 MiB and 164
// goroutines, and a store of 280 KiB for 60 users: what grows with each fault or hour passes
// these bounds within a run, what a busy machine adds does not.
const (
	mostMemory     = 300 << 20
	mostGoroutines = 400
	mostState      = 1 << 20  // whatever there is in it: tables that are not compacted yet
	mostStateUser  = 16 << 10 // and for each user: a profile takes some KiB, and there are old ones of it
)

// grown says what of the most that an instance took is more than it may take.
func grown(u fleet.Usage, users int) (found []string) {
	for _, of := range []struct {
		what       string
		took, most int64
	}{
		{"bytes of memory", u.Memory, mostMemory},
		{"goroutines", int64(u.Goroutines), mostGoroutines},
		{"bytes of state", u.State, mostState + mostStateUser*int64(users)},
	} {
		if of.took > of.most {
			found = append(found, fmt.Sprintf("an instance had %d %s, and may have %d", of.took, of.what, of.most))
		}
	}
	return found
}
