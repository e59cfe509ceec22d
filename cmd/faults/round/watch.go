package round

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// askWithin bounds a question to the brokers.
const askWithin = 5 * time.Second

// reached compares what a group has committed of a topic with where the topic ends: the sum of
// both, and whether all of it is committed.
func (s *scene) reached(ctx context.Context, topic, group string) (committed, end int64, all bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	ends, err := s.admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, 0, false, err
	}
	offsets, err := s.admin.FetchOffsets(ctx, group)
	if err != nil {
		return 0, 0, false, err
	}
	all = true
	ends.Each(func(o kadm.ListedOffset) {
		at, ok := offsets.Lookup(topic, o.Partition)
		if ok && at.At > 0 {
			committed += at.At
		}
		end += o.Offset
		all = all && (o.Offset == 0 || ok && at.At >= o.Offset)
	})
	return committed, end, all, nil
}

// split reports whether all of the input has been split.
func (s *scene) split(ctx context.Context) bool {
	_, _, all, err := s.reached(ctx, s.names["input"], s.names["split"])
	return err == nil && all
}

// judged reports whether all that has been split is judged.
func (s *scene) judged(ctx context.Context) bool {
	_, _, all, err := s.reached(ctx, s.names["signins"], s.names["detect"])
	return err == nil && all
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

// watchProgress measures for how long the detecting group stands still with work to do.
func (s *scene) watchProgress(ctx context.Context) {
	var last int64
	moved := time.Now()
	for ctx.Err() == nil {
		committed, _, all, err := s.reached(ctx, s.names["signins"], s.names["detect"])
		if err == nil {
			if still := time.Since(moved); committed == last && !all {
				s.update(func(r *Result) { r.Recovery = max(r.Recovery, still) })
			} else {
				moved = time.Now()
			}
			last = committed
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
