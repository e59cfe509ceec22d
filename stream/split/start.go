package split

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

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

// begin decides where those of the lanes begin that have no committed offset. One that was added to its topic is
// read from its beginning, and so is one, but for the first, that had no leader when the others began and was given
// to somebody anew before it had: the two look the same. input.start decides where nothing was split yet, and where
// the topic is new among those of the input. Everywhere else offsets expired, or another tool has set only some: to
// read what the input still has would have old sign-ins judged again, by profiles that have forgotten their hours,
// so it ends the stage.
func (s *Splitter) begin(ctx context.Context, lanes []*lane) error {
	lanes = slices.DeleteFunc(slices.Clone(lanes), func(l *lane) bool { return l.committed >= 0 })
	split := true
	if slices.ContainsFunc(lanes, s.unsaid) {
		var err error
		if split, err = s.askGroup(ctx); err != nil {
			return err
		}
	}
	var open, expired []*lane
	for _, l := range lanes {
		switch begun, untold, joins := s.knownOf(l.topic); {
		case untold && (!split || joins), !untold && begun == 0:
			open = append(open, l)
		case untold, l.partition < begun:
			expired = append(expired, l)
		}
	}
	if len(expired) > 0 && !s.deps.AcceptLoss {
		err := s.expired(expired)
		s.fail(err)
		return err
	}
	if len(expired) > 0 {
		s.deps.Log.Warn("accepting that sign-ins may be lost, or judged again", "group", s.cfg.Group, "partitions", namesOf(expired))
	}
	if len(open) > 0 {
		s.deps.Log.Info("the group has committed nothing yet: reading from input.start", "group", s.cfg.Group, "partitions", namesOf(open))
	}
	for _, l := range slices.Concat(open, expired) {
		l.start = s.deps.Start
	}
	return nil
}

// unsaid reports whether nothing in hand says of how many partitions of the lane's topic there were offsets.
func (s *Splitter) unsaid(l *lane) bool {
	_, untold, _ := s.knownOf(l.topic)
	return untold
}

// knownOf returns of how many partitions of a topic there were offsets, whether nothing says so, and whether the topic
// joins others that were split: it has no offset, they have some of ours.
func (s *Splitter) knownOf(topic string) (begun int32, untold, joins bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	begun = s.begun(topic)
	_, told := s.mu.commits.begun[topic]
	others := slices.ContainsFunc(s.deps.InputTopics, func(t string) bool { return len(s.mu.commits.tags[t]) > 0 })
	return begun, !told, others && !s.mu.commits.any[topic]
}

// askGroup asks for all offsets of the group, and whether anything was split.
//
// Who splits has committed where it begins before its first sign-in goes out. So the sign-ins are asked
// for first: of what another process has split by then, the offsets are there.
func (s *Splitter) askGroup(ctx context.Context) (split bool, err error) {
	ends, err := kadm.NewClient(s.producer).ListEndOffsets(ctx, s.deps.Topics.Signins)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return false, fmt.Errorf("asking whether %s is empty: %w", s.deps.Topics.Signins, err)
	}
	ends.Each(func(o kadm.ListedOffset) { split = split || o.Offset > 0 })
	committed, err := s.admin.FetchOffsets(ctx, s.cfg.Group)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return false, fmt.Errorf("asking for the offsets of group %s: %w", s.cfg.Group, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	committed.Each(func(o kadm.OffsetResponse) { s.mu.commits.note(o.Topic, o.Partition, o.At, o.Metadata) })
	return split, nil
}

// expired says why the lanes must not be read from anywhere, and what to do.
func (s *Splitter) expired(lanes []*lane) error {
	l := slices.MinFunc(lanes, byName)
	_, untold, _ := s.knownOf(l.topic)
	reading, why, names := fmt.Sprintf("topic %s partition %d", l.topic, l.partition), "has committed offsets of it, but there is none any more: it expired or was deleted", namesOf(lanes)
	switch {
	case !s.hasOffsets():
		reading, names = strings.Join(s.deps.InputTopics, ", "), s.deps.InputTopics
		why = fmt.Sprintf("has committed no offset of it, but %s has sign-ins: the offsets expired, or the group or the topic is another", s.deps.Topics.Signins)
	case untold:
		why = fmt.Sprintf("has no offset of it, but %s has sign-ins: it expired or was deleted, and another tool has set those of others", s.deps.Topics.Signins)
	}
	return fmt.Errorf("reading %s: the group %s %s; "+
		"set it to where it was (kafka-consumer-groups.sh --group %s --topic %s --reset-offsets --to-datetime ... --execute), "+
		"or set input.start to that time and pass --accept-loss",
		reading, s.cfg.Group, why, s.cfg.Group, strings.Join(names, " --topic "))
}

// hasOffsets reports whether the group is known to have any of the input.
func (s *Splitter) hasOffsets() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.deps.InputTopics, func(t string) bool { return s.mu.commits.any[t] })
}

// namesOf returns topic:partition,partition of each topic, as kafka-consumer-groups.sh takes it.
func namesOf(lanes []*lane) (names []string) {
	topic := ""
	for _, l := range slices.SortedFunc(slices.Values(lanes), byName) {
		if l.topic == topic {
			names[len(names)-1] += fmt.Sprintf(",%d", l.partition)
			continue
		}
		topic = l.topic
		names = append(names, fmt.Sprintf("%s:%d", topic, l.partition))
	}
	return names
}

func byName(a, b *lane) int {
	return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
}
