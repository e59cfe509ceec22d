package split

import (
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// tag is what an input offset is committed with. It says the offset itself too: beside another one it is a copy
// that some tool has made, and says nothing.
type tag struct {
	// id is that of the topic, "" where brokers give none: one that is deleted and made again has another, and its
	// offsets mean other messages; some brokers forget the group's with the topic, others do not.
	id        string
	beginning beginning // on the topic
	topics    topics    // that there were offsets of by then
	keying    string    // by which sign-ins were sent, see Splitter.keying
	source    uint32    // the number of the source that the sign-ins are of, see signins.Source
}

const (
	tagPrefix = "prtwatch/1 "
	// none stands for the id of a topic where brokers give none, and for no topics.
	none = "-"
)

// String is a tag but for the offset.
func (t tag) String() string {
	return fmt.Sprintf("%s%s %s %s %s %d", tagPrefix, cmp.Or(t.id, none), t.beginning, t.topics, t.keying, t.source)
}

// text is what goes with offset at.
func (t tag) text(at int64) string { return fmt.Sprintf("%s %d", t, at) }

// parseTag reads what came with an offset. It is false where we would not have written that, or not with this offset.
func parseTag(text string, at int64) (t tag, ours bool) {
	fields := strings.Fields(strings.TrimPrefix(text, tagPrefix))
	if len(fields) != 7 {
		return tag{}, false
	}
	if fields[0] != none {
		t.id = fields[0]
	}
	partitions, _ := strconv.ParseInt(fields[1], 10, 32)
	offsets, _ := new(big.Int).SetString(fields[2], 16)
	t.beginning = beginning{int32(partitions), offsets}
	if fields[3] != none {
		t.topics = strings.Split(fields[3], ",")
	}
	source, _ := strconv.ParseUint(fields[5], 10, 32)
	t.keying, t.source = fields[4], uint32(source)
	if offsets == nil || offsets.Sign() < 0 || t.beginning.partitions < 1 || t.text(at) != text {
		return tag{}, false
	}
	return t, true
}

// beginning is what is known of how the group began on a topic. It is a value: nothing in it changes.
type beginning struct {
	// partitions is how many the topic had then; 0 where nothing says so. What lies above was added later.
	partitions int32
	// offsets has a bit for each partition of which offsets are or were committed. Where one of these has none, it
	// expired; where another of the first partitions has none, it had no leader yet.
	offsets *big.Int
}

// String is what a tag says of it.
func (b beginning) String() string {
	if b.partitions == 0 {
		return ""
	}
	return fmt.Sprintf("%d %x", b.partitions, b.offsets)
}

func (b beginning) has(partition int32) bool { return b.offsets.Bit(int(partition)) == 1 }

func (b beginning) with(partition int32) beginning {
	return beginning{b.partitions, new(big.Int).SetBit(b.offsets, int(partition), 1)}
}

// and joins what two say. A topic never has fewer partitions than it had.
func (b beginning) and(other beginning) beginning {
	return beginning{max(b.partitions, other.partitions), new(big.Int).Or(b.offsets, other.offsets)}
}

// topics are those that the group has or had offsets of, each by the sum of its name, in order. It is a value: nothing in
// it changes. So one whose offsets have all expired is told from one that is new among the input.
type topics []string

// String is what a tag says of them.
func (t topics) String() string { return cmp.Or(strings.Join(t, ","), none) }

func sumOf(topic string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(topic))) }

func (t topics) has(topic string) bool { return slices.Contains(t, sumOf(topic)) }

func (t topics) with(names ...string) topics {
	for _, topic := range names {
		t = t.and(topics{sumOf(topic)})
	}
	return t
}

func (t topics) and(other topics) topics {
	all := slices.Concat(t, other)
	slices.Sort(all)
	return slices.Compact(all)
}

// beginning returns how the group began on a topic, as far as is known. The caller holds the lock.
func (s *Splitter) beginning(topic string) beginning {
	if b, known := s.mu.beginnings[topic]; known {
		return b
	}
	return beginning{offsets: new(big.Int)}
}

// note takes in one offset, below 0 for none, and what it came with. The caller holds the lock.
func (s *Splitter) note(topic string, partition int32, at int64, metadata string) {
	if at < 0 {
		return
	}
	b := s.beginning(topic).with(partition)
	if t, ours := parseTag(metadata, at); ours {
		b = b.and(t.beginning)
		s.mu.topics = s.mu.topics.and(t.topics).with(topic)
		if s.mu.tags[topic] == nil {
			s.mu.tags[topic] = make(map[int32]tag)
		}
		s.mu.tags[topic][partition] = t
	}
	s.mu.beginnings[topic] = b
}

// fetched keeps what the group's offsets were committed with, for adopt.
func (s *Splitter) fetched(_ context.Context, _ *kgo.Client, response *kmsg.OffsetFetchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.tags = make(map[string]map[int32]tag)
	for _, g := range response.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				metadata := ""
				if p.Metadata != nil {
					metadata = *p.Metadata
				}
				s.note(t.Topic, p.Partition, p.Offset, metadata)
			}
		}
	}
	return nil
}

// tagFor is what goes with the next offset of a lane. The caller holds the lock.
func (s *Splitter) tagFor(l *lane) tag {
	return tag{cmp.Or(l.id, l.was), s.beginning(l.topic), s.mu.topics, s.keying(), l.source}
}

// tagOf returns what came with the committed offset of a partition: nothing where none is, or another tool has
// set it. Where users were in other partitions, it has no source: what was in the air and never landed now goes to a
// partition that may have passed its place. So the source is another, and what is split again is judged.
func (s *Splitter) tagOf(topic string, partition int32) tag {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.mu.tags[topic][partition]
	if t.keying != s.keying() {
		t.source = 0
	}
	return t
}

// keying is what decides to which partition a user's sign-ins go.
func (s *Splitter) keying() string {
	return fmt.Sprintf("%s/%d", s.deps.Identity, s.deps.Topics.Partitions)
}
