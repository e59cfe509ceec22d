package split

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

// ends is where the input ended, as far as read committed can see.
type ends struct {
	asked   time.Time // just before the brokers were asked: what came later is not in it
	offsets map[string]map[int32]int64
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
	missed := make(map[string]int)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ask.C:
			s.look(ctx, missed)
			s.ask(ctx)
		}
	}
}

// missedLooks is after how many answers without a topic it is believed to be gone: a broker that has
// just started may not know it yet.
const missedLooks = 4

// look ends the stage where a topic that it reads was deleted: a client goes on asking for one in
// silence. missed counts the answers in a row that were without it.
func (s *Splitter) look(ctx context.Context, missed map[string]int) {
	if len(s.everything()) == 0 {
		clear(missed)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.endsEvery)
	defer cancel()
	there, err := kafka.Identify(ctx, s.admin, s.deps.InputTopics...)
	if err != nil {
		s.deps.Log.Debug("asking for the input topics", "error", err)
		return // who reads them says what there is to say
	}
	for _, topic := range s.deps.InputTopics {
		if there[topic].Partitions > 0 {
			missed[topic] = 0
		} else if missed[topic]++; missed[topic] == missedLooks {
			s.fail(fmt.Errorf("topic %s was deleted while it was in use: what was not split of it is lost; take it out of input.topics, or make it again", topic))
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

// refused calls each for what a commit's answer refuses.
func refused(resp *kmsg.OffsetCommitResponse, each func(topic string, partition int32, err error)) {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				each(t.Topic, p.Partition, fmt.Errorf("topic %s partition %d: %w", t.Topic, p.Partition, err))
			}
		}
	}
}
