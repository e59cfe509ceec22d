package split

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// tagPrefix begins what an input offset is committed with. The id of its topic follows: one that
// is deleted and made again has another id, and its offsets mean other messages; some brokers
// forget the group's with the topic, others do not. Then comes of how many of its partitions,
// from the first on, the group had committed offsets by then: so one whose offset expired is told from
// one that was added. Then comes the number of the source that its sign-ins are of, see signins.Source, and last the
// offset itself: beside another one it is a copy that some tool has made, and says nothing.
const tagPrefix = "prtwatch/1 "

// noID stands for the id of a topic where brokers give none.
const noID = "-"

// tag is what an offset of ours came with.
type tag struct {
	id     string // of the topic, behind the prefix; "" where brokers give none
	counts bool   // begun is said
	begun  int32
	source uint32
}

// parseTag reads what came with an offset. It is false where that is not of ours, or of another offset.
func parseTag(s string, at int64) (t tag, ours bool) {
	rest, ours := strings.CutPrefix(s, tagPrefix)
	fields := strings.Fields(rest)
	if !ours || len(fields) == 0 || len(fields) > 3 && fields[3] != strconv.FormatInt(at, 10) {
		return tag{}, false
	}
	if fields[0] != noID {
		t.id = tagPrefix + fields[0]
	}
	if len(fields) > 1 {
		n, _ := strconv.ParseInt(fields[1], 10, 32)
		t.counts, t.begun = true, int32(n)
	}
	if len(fields) > 2 {
		n, _ := strconv.ParseUint(fields[2], 10, 32)
		t.source = uint32(n)
	}
	return t, true
}

// commits is what is known of the group's offsets.
type commits struct {
	any  map[string]bool          // topics with an offset
	tags map[string]map[int32]tag // of those offsets that are ours
	// begun is of how many partitions of a topic, from the first on, there were any; a topic of which nothing
	// says so is not in it.
	begun map[string]int32
}

func newCommits() *commits {
	return &commits{any: make(map[string]bool), tags: make(map[string]map[int32]tag), begun: make(map[string]int32)}
}

// note takes in one offset, below 0 for none, and what it came with.
func (c *commits) note(topic string, partition int32, at int64, metadata string) {
	if at < 0 {
		return
	}
	c.any[topic] = true
	t, ours := parseTag(metadata, at)
	if !ours {
		return
	}
	if c.tags[topic] == nil {
		c.tags[topic] = make(map[int32]tag)
	}
	c.tags[topic][partition] = t
	if t.counts {
		c.begun[topic] = max(c.begun[topic], t.begun)
	}
}

// fetched keeps what the group's offsets were committed with, for adopt.
func (s *Splitter) fetched(_ context.Context, _ *kgo.Client, response *kmsg.OffsetFetchResponse) error {
	c := newCommits()
	for _, g := range response.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				metadata := ""
				if p.Metadata != nil {
					metadata = *p.Metadata
				}
				c.note(t.Topic, p.Partition, p.Offset, metadata)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.commits = c
	return nil
}

// tagOf returns what came with the committed offset of a partition: nothing where none is, or another tool has
// set it.
func (s *Splitter) tagOf(topic string, partition int32) tag {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.commits.tags[topic][partition]
}

// begun is of how many partitions of a topic, from the first on, offsets are or were committed. The caller holds
// the lock.
func (s *Splitter) begun(topic string) int32 {
	begun := s.mu.commits.begun
	for {
		if l := s.mu.merge.find(topic, begun[topic]); l == nil || l.committed < 0 {
			return begun[topic]
		}
		begun[topic]++
	}
}

// committedWith is what goes with offset at.
func (l *lane) committedWith(begun int32, at int64) string {
	return fmt.Sprintf("%s %d %d %d", cmp.Or(l.tag, l.was, tagPrefix+noID), begun, l.source, at)
}
