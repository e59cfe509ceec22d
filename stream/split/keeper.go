package split

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ends is where the input ended, as far as read committed can see.
type ends struct {
	asked   time.Time // just before the brokers were asked: what came later is not in it
	offsets map[string]map[int32]int64
	ticked  bool // it was asked for a tick already
}

// keep commits each second, and sooner where that is wanted, until ctx is done.
func (s *Splitter) keep(ctx context.Context) {
	commit := time.NewTicker(s.commitEvery)
	defer commit.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-commit.C:
		case <-s.due:
		}
		s.commit(nil)
	}
}

// hurry asks the keeper for a commit.
func (s *Splitter) hurry() {
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// watch asks for the ends of the input until ctx is done. It is not the keeper who does: an
// answer may take long, and commits must not.
func (s *Splitter) watch(ctx context.Context) {
	ask := time.NewTicker(s.endsEvery)
	defer ask.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ask.C:
			s.ask(ctx)
		}
	}
}

// ask notes where the input ends, if we are the one who reads it. An answer that does not
// come leaves the last one, whose age is a metric.
func (s *Splitter) ask(ctx context.Context) {
	if len(s.everything()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.endsEvery)
	defer cancel()
	e := &ends{asked: time.Now(), offsets: make(map[string]map[int32]int64)}
	listed, err := s.admin.ListCommittedOffsets(ctx, s.deps.InputTopics...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		s.deps.Log.Debug("asking for the ends of the input", "error", err)
		return
	}
	listed.Each(func(o kadm.ListedOffset) {
		if e.offsets[o.Topic] == nil {
			e.offsets[o.Topic] = make(map[int32]int64)
		}
		e.offsets[o.Topic][o.Partition] = o.Offset
	})
	s.mu.Lock()
	s.mu.ends = e
	s.mu.Unlock()
	s.rouse()
}

// commitError returns the first error of a commit's answer.
func commitError(resp *kmsg.OffsetCommitResponse) error {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("topic %s partition %d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}
