package detect

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

const (
	// watchEvery is how often the stage asks whether its topics are those that it began with.
	// A client goes on asking for a topic that was deleted, in silence.
	watchEvery = 2 * time.Second
	// missedLooks is after how many answers without a topic it is believed to be gone: a broker
	// that has just started may not know it yet.
	missedLooks = 4
)

// watch returns an error that names the remedy when the sign-ins topic or the baseline topic is
// deleted, made again or given more partitions while the stage runs; nil when ctx is done.
// Both are one with what is in memory and in Pebble, while alerts may go to any topic.
func (s *Stage) watch(ctx context.Context, admin *kadm.Client, began baselineTopic) error {
	missed := make(map[string]int)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		now, err := kafka.Identify(asking, admin, s.deps.Topics.Signins, s.deps.Topics.Baseline)
		cancel()
		if err != nil {
			s.deps.Log.Debug("asking for the topics", "error", err)
			continue // who reads and writes them says what there is to say
		}
		for _, topic := range []string{s.deps.Topics.Baseline, s.deps.Topics.Signins} {
			if _, there := now[topic]; there {
				missed[topic] = 0
			} else if missed[topic]++; missed[topic] < missedLooks {
				continue
			}
			if err := s.changed(topic, began, now[topic]); err != nil {
				return err
			}
		}
	}
}

// changed says what happened to a topic that is not as it was when the stage began; nil where it is.
func (s *Stage) changed(topic string, began baselineTopic, now kafka.Identity) error {
	id, remedy := began.signins, "sign-ins that were not judged yet are lost; start again with --accept-loss to read it from its beginning"
	if topic == began.name {
		id, remedy = began.id, "what users are known by is in that topic alone: bring it back, "+
			"or delete the offsets of group "+s.cfg.Group+" to begin with nobody known; docs/backup.md has how, without alerts coming twice"
	}
	switch {
	case now.Partitions == 0:
		return fmt.Errorf("topic %s was deleted while it was in use: %s", topic, remedy)
	case now.ID != id:
		return fmt.Errorf("topic %s was deleted and made again while it was in use: %s", topic, remedy)
	case now.Partitions != began.partitions:
		return fmt.Errorf("topic %s has %d partitions now, not %d: users would be looked for where they are not; "+
			"the count of a topic in use cannot change: name other topics, or make these again with %d",
			topic, now.Partitions, began.partitions, began.partitions)
	}
	return nil
}
