package round

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/faults/plan"
)

// tombstones is how long a deletion can be read in a baseline topic that is compacted at once:
// longer than any instance is frozen while it reads.
const tombstones = 40 * time.Second

// tight reports whether this is a round whose baseline topic is compacted at once, and keeps
// deletions for seconds instead of days: one of two, and each where that fault was asked for by name.
func (s *scene) tight() bool {
	named := len(s.Faults) < len(plan.Faults) && slices.ContainsFunc(s.Faults, func(f plan.Fault) bool { return f.Name == plan.Compacted })
	return named || plan.Random(s.Seed, s.Turn, "baseline").IntN(2) == 0
}

// tighten gives the baseline topic the settings of a tight round.
func (s *scene) tighten(ctx context.Context) error {
	if !s.tight() {
		return nil
	}
	var settings []kadm.AlterConfig
	for name, value := range map[string]string{
		"delete.retention.ms": strconv.FormatInt(tombstones.Milliseconds(), 10), "segment.ms": "3000", "min.cleanable.dirty.ratio": "0.01",
	} {
		settings = append(settings, kadm.AlterConfig{Name: name, Value: &value})
	}
	altered, err := s.admin.AlterTopicConfigs(ctx, settings, s.names["baseline"])
	if err == nil {
		_, err = altered.On(s.names["baseline"], func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		return fmt.Errorf("setting how topic %s is compacted: %w", s.names["baseline"], err)
	}
	return nil
}

// compacted keeps an instance away until what was deleted when it went is gone from the baseline
// topic, and gives it the oldest state that there is of it.
func (s *scene) compacted(r *rand.Rand) *injection {
	if !s.tight() {
		return nil
	}
	i := s.claim(r, nil)
	if i == nil {
		return nil
	}
	away := tombstones + plan.Between(r, 5*time.Second, 20*time.Second)
	return &injection{i.Name, func(ctx context.Context) (bool, string) {
		defer i.Busy.Unlock()
		defer s.start(i)
		i.Kill()
		before, err := s.profiles(ctx)
		if err != nil {
			return false, err.Error()
		}
		pause(ctx, away)
		after, err := s.profiles(ctx)
		if err != nil {
			return false, err.Error()
		}
		gone := 0
		for at := range before {
			if !after[at] {
				gone++
			}
		}
		_ = putBack(i.Dir) // where there is none, its own is the oldest
		return gone > 0 && ctx.Err() == nil, fmt.Sprintf("away for %s, %d of %d records gone", away.Round(time.Millisecond), gone, len(before))
	}}
}

// place is where a record is.
type place struct {
	partition int32
	offset    int64
}

// profiles reads which records the baseline topic has.
func (s *scene) profiles(ctx context.Context) (map[place]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(s.Cluster.Addrs()...), kgo.ConsumeTopics(s.names["baseline"]),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found := make(map[place]bool)
	for {
		// What ends a partition may be compacted away: silence is the end.
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		fetches := client.PollFetches(one)
		cancel()
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("reading topic %s: %w", s.names["baseline"], err)
		}
		if fetches.NumRecords() == 0 && len(found) > 0 {
			return found, nil
		}
		fetches.EachRecord(func(r *kgo.Record) { found[place{r.Partition, r.Offset}] = true })
	}
}
