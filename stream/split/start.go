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
	name := hex.EncodeToString(id[:])
	s.mu.Lock()
	before := cmp.Or(l.id, l.was, name)
	if before == name {
		l.id = name // and else nothing is committed under another one than before
	}
	s.mu.Unlock()
	if before != name {
		err := fmt.Errorf("reading topic %s partition %d: it was deleted and made again: what was not split of it is lost; %s",
			l.topic, l.partition, s.resetting(l.topic))
		s.fail(err)
		return err
	}
	return nil
}

// begin decides where those of the lanes begin that have no committed offset. One that was added to its topic since
// the group began on it is read from its beginning. For one that was there and had no leader yet, input.start decides,
// as where nothing was split, and where the topic is new among those of the input. Everywhere else offsets
// expired, or another tool has set only some: to read what the input still has would have old sign-ins judged
// again, by profiles that have forgotten their hours, so it ends the stage.
func (s *Splitter) begin(ctx context.Context, lanes []*lane) error {
	if err := s.learn(ctx, lanes); err != nil {
		return err
	}
	open, expired := s.without(lanes)
	if len(expired) > 0 && !s.deps.AcceptLoss {
		err := s.expired(expired, len(expired) == len(lanes) && len(s.everything()) == 0)
		s.fail(err)
		return err
	}
	if len(expired) > 0 {
		s.deps.Log.Warn("accepting that sign-ins may be lost, or judged again", "group", s.cfg.Group, "partitions", namesOf(expired))
	}
	if foreign := s.foreign(lanes); len(foreign) > 0 {
		s.deps.Log.Warn("the offset is none that prtwatch has committed: what lies before it is taken for split; where nobody set it on purpose, another consumer was in this group, and docs/backup.md says how to go back",
			"group", s.cfg.Group, "partitions", namesOf(foreign))
	}
	if len(open) > 0 {
		s.deps.Log.Info("the group has committed nothing of these yet: reading from input.start", "group", s.cfg.Group, "partitions", namesOf(open))
	}
	for _, l := range slices.Concat(open, expired) {
		l.start = s.deps.Start
	}
	return nil
}

// foreign returns those of the lanes whose offset somebody else has committed: an operator, or a consumer that was in
// our group and has passed over what lies before.
func (s *Splitter) foreign(lanes []*lane) (foreign []*lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lanes {
		if _, ours := s.mu.tags[l.topic][l.partition]; !ours && l.committed >= 0 {
			foreign = append(foreign, l)
		}
	}
	return foreign
}

// without returns those of the lanes without a committed offset that never had one, and those that had.
func (s *Splitter) without(lanes []*lane) (open, expired []*lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lanes {
		switch known := s.beginning(l.topic); {
		case l.committed >= 0:
		case known.has(l.partition):
			expired = append(expired, l)
		case l.partition < known.partitions:
			open = append(open, l)
		}
	}
	return open, expired
}

// learn sees to it that of each lane's topic is known how the group began on it. Where no offset says so, it begins
// now, on as many partitions as it was given; but where the group is known to have had offsets of the topic, each of
// these had one. Where sign-ins were split and nothing says of which topics, it was all of the input.
func (s *Splitter) learn(ctx context.Context, lanes []*lane) error {
	split := false
	if slices.ContainsFunc(lanes, s.unsaid) {
		var err error
		if split, err = s.askGroup(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if split && len(s.mu.topics) == 0 {
		s.mu.topics = s.mu.topics.with(s.deps.InputTopics...)
	}
	given := make(map[string]int32)
	for _, l := range lanes {
		if s.beginning(l.topic).partitions == 0 {
			given[l.topic] = max(given[l.topic], l.partition+1)
		}
	}
	for topic, partitions := range given {
		now := beginning{partitions, s.beginning(topic).offsets}
		if s.mu.topics.has(topic) {
			for p := range partitions {
				now = now.with(p)
			}
		}
		s.mu.beginnings[topic] = now
	}
	return nil
}

// unsaid reports whether nothing in hand says how the group began on a lane's topic.
func (s *Splitter) unsaid(l *lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beginning(l.topic).partitions == 0
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
	committed.Each(func(o kadm.OffsetResponse) { s.note(o.Topic, o.Partition, o.At, o.Metadata) })
	return split, nil
}

// expired says why the lanes must not be read from anywhere, and what to do. They may be all of the input.
func (s *Splitter) expired(lanes []*lane, all bool) error {
	l := slices.MinFunc(lanes, byName)
	reading, names := fmt.Sprintf("topic %s partition %d", l.topic, l.partition), namesOf(lanes)
	why := "has no offset of it, but it was split: that expired or was deleted, or another tool has set only those of others, or it is new and no offset that is left says so"
	if all {
		reading, names = strings.Join(s.deps.InputTopics, ", "), s.deps.InputTopics
		why = fmt.Sprintf("has committed no offset of it, but %s has sign-ins: the offsets expired, or the group or the topic is another", s.deps.Topics.Signins)
	}
	return fmt.Errorf("reading %s: the group %s %s; "+
		"set it to where it was (kafka-consumer-groups.sh --bootstrap-server INPUT_BROKERS --group %s --topic %s --reset-offsets --to-datetime YYYY-MM-DDThh:mm:ss.000 --execute), "+
		"or set input.start to that time and pass --accept-loss; docs/backup.md has which time",
		reading, s.cfg.Group, why, s.cfg.Group, strings.Join(names, " --topic "))
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
