package split

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

// tagPrefix begins what an input offset is committed with. The id of its topic follows: one that
// is deleted and made again has another id, and its offsets mean other messages; some brokers
// forget the group's with the topic, others do not. Then comes of how many of its partitions,
// from the first on, the group had committed offsets by then: so one whose offset expired is told from
// one that was added. Last comes the number of the source that its sign-ins are of, see signins.Source.
const tagPrefix = "prtwatch/1 "

// noID stands for the id of a topic where brokers give none.
const noID = "-"

// fetched keeps what the group's offsets were committed with, for adopt.
func (s *Splitter) fetched(_ context.Context, _ *kgo.Client, response *kmsg.OffsetFetchResponse) error {
	tags, sources, begun := make(map[string]map[int32]string), make(map[string]map[int32]uint32), make(map[string]int)
	for _, g := range response.Groups {
		for _, t := range g.Topics {
			tags[t.Topic], sources[t.Topic] = make(map[int32]string), make(map[int32]uint32)
			for _, p := range t.Partitions {
				if p.Metadata == nil || !strings.HasPrefix(*p.Metadata, tagPrefix) {
					continue
				}
				fields := strings.Fields(strings.TrimPrefix(*p.Metadata, tagPrefix))
				if len(fields) > 0 && fields[0] != noID {
					tags[t.Topic][p.Partition] = tagPrefix + fields[0]
				}
				if len(fields) > 1 {
					n, _ := strconv.Atoi(fields[1])
					begun[t.Topic] = max(begun[t.Topic], n)
				}
				if len(fields) == 3 {
					number, _ := strconv.ParseUint(fields[2], 10, 32)
					sources[t.Topic][p.Partition] = uint32(number)
				}
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.tags, s.mu.sources, s.mu.begun = tags, sources, begun
	return nil
}

// source returns the number that came with the committed offset of a partition, 0 for none: nothing is committed, or
// another tool has set the offset.
func (s *Splitter) source(topic string, partition int32) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.sources[topic][partition]
}

// expired says why a partition without an offset must not be read from anywhere: it had one. It is nil
// where the partition is new.
func (s *Splitter) expired(l *lane) error {
	s.mu.Lock()
	begun := s.mu.begun[l.topic]
	s.mu.Unlock()
	if l.committed >= 0 || int(l.partition) >= begun {
		return nil
	}
	if s.deps.AcceptLoss {
		s.deps.Log.Warn("accepting that sign-ins may be lost, or judged again", "group", s.cfg.Group, "topic", l.topic, "partition", l.partition)
		l.start = s.deps.Start
		return nil
	}
	return fmt.Errorf("reading topic %s partition %d: the group %s has committed offsets of it, but there is none any more: it expired or was deleted; "+
		"set it to where it was (kafka-consumer-groups.sh --group %s --topic %s:%d --reset-offsets --to-datetime ... --execute), "+
		"or set input.start to that time and pass --accept-loss",
		l.topic, l.partition, s.cfg.Group, s.cfg.Group, l.topic, l.partition)
}

// begun is of how many partitions of a topic, from the first on, offsets are committed. The caller holds
// the lock.
func (s *Splitter) begun(topic string) (n int32) {
	for {
		if l := s.mu.merge.find(topic, n); l == nil || l.committed < 0 {
			return n
		}
		n++
	}
}

// committedWith is what goes with an offset.
func (l *lane) committedWith(begun int32) string {
	return fmt.Sprintf("%s %d %d", cmp.Or(l.tag, tagPrefix+noID), begun, l.source)
}

// identify asks which topic a lane is of. It ends the stage where that is not the one that it was of
// before, or that its committed offset is of. Brokers without ids say nothing.
func (s *Splitter) identify(ctx context.Context, l *lane) error {
	ctx, cancel := context.WithTimeout(ctx, locateWithin)
	defer cancel()
	there, err := kafka.Identify(ctx, s.admin, l.topic)
	if err != nil {
		return err
	}
	id := there[l.topic].ID
	if id == [16]byte{} {
		return nil
	}
	tag := tagPrefix + hex.EncodeToString(id[:])
	s.mu.Lock()
	before := cmp.Or(l.tag, l.was)
	l.tag = tag
	s.mu.Unlock()
	if before != "" && before != tag {
		err := fmt.Errorf("reading topic %s partition %d: it was deleted and made again: what was not split of it is lost; %s",
			l.topic, l.partition, s.resetting(l))
		s.fail(err)
		return err
	}
	return nil
}

// mayBegin is asked where the group has committed nothing of the input: it ends the stage where
// sign-ins have been split all the same. To read all that the input still has would have old ones
// judged again, by profiles that have forgotten their hours.
//
// Who splits has committed where it begins before its first sign-in goes out. So the sign-ins are asked
// for first: of what another process has split by then, the offsets are there.
func (s *Splitter) mayBegin(ctx context.Context) error {
	ends, err := kadm.NewClient(s.producer).ListEndOffsets(ctx, s.deps.Topics.Signins)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("asking whether %s is empty: %w", s.deps.Topics.Signins, err)
	}
	split := false
	ends.Each(func(o kadm.ListedOffset) { split = split || o.Offset > 0 })
	if !split {
		return nil
	}
	committed, err := s.admin.FetchOffsetsForTopics(ctx, s.cfg.Group, s.deps.InputTopics...)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return fmt.Errorf("asking for the offsets of group %s: %w", s.cfg.Group, err)
	}
	begun := false
	committed.Each(func(o kadm.OffsetResponse) { begun = begun || o.At >= 0 })
	switch {
	case begun:
		return nil
	case s.deps.AcceptLoss:
		s.deps.Log.Warn("accepting that sign-ins may be lost, or judged again", "group", s.cfg.Group)
		return nil
	}
	topics := strings.Join(s.deps.InputTopics, ", ")
	err = fmt.Errorf("reading %s: the group %s has committed no offset of it, but %s has sign-ins: the offsets expired, or the group or the topic is another; "+
		"set the group's offsets to where it was (kafka-consumer-groups.sh --group %s --topic %s --reset-offsets --to-datetime ... --execute), "+
		"or set input.start to that time and pass --accept-loss",
		topics, s.cfg.Group, s.deps.Topics.Signins, s.cfg.Group, s.deps.InputTopics[0])
	s.fail(err)
	return err
}
