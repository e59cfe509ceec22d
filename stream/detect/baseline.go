package detect

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// baselineTopic is which topic the profiles are in: another one under the same name is not
// the truth about anybody.
type baselineTopic struct {
	name       string
	clusterID  string
	id         [16]byte
	signins    [16]byte      // the topic that its profiles are learned from
	partitions int32         // of both
	tombstones time.Duration // delete.retention.ms: how long a deletion can be read
}

// defaultTombstones is Kafka's default of delete.retention.ms.
const defaultTombstones = 24 * time.Hour

// describeBaseline asks the cluster which topic the baseline topic is, and the sign-ins topic.
func describeBaseline(ctx context.Context, admin *kadm.Client, topics kafka.Topics) (baselineTopic, error) {
	b := baselineTopic{name: topics.Baseline, partitions: topics.Partitions, tombstones: defaultTombstones}
	var err error
	if b.clusterID, err = kafka.ClusterID(ctx, admin); err != nil {
		return b, err
	}
	there, err := kafka.Identify(ctx, admin, topics.Signins, topics.Baseline)
	if err != nil {
		return b, err
	}
	for _, topic := range []string{topics.Signins, topics.Baseline} {
		if have := there[topic].Partitions; have != topics.Partitions {
			return b, fmt.Errorf("topic %s has %d partitions, not %d (topics.partitions): `prtwatch topics` says what to do", topic, have, topics.Partitions)
		}
	}
	b.id, b.signins = there[topics.Baseline].ID, there[topics.Signins].ID
	configs, err := admin.DescribeTopicConfigs(ctx, topics.Baseline)
	if err != nil {
		return b, fmt.Errorf("reading the settings of topic %s: %w", topics.Baseline, err)
	}
	for _, resource := range configs {
		for _, c := range resource.Configs {
			if c.Key != "delete.retention.ms" || c.Value == nil {
				continue
			}
			if ms, err := strconv.ParseInt(*c.Value, 10, 64); err == nil {
				b.tombstones = time.Duration(ms) * time.Millisecond
			}
		}
	}
	return b, nil
}

// checkpoint says that profiles are those of the baseline partition below offset next, and
// that they were so at the time of last.
func (b *baselineTopic) checkpoint(next int64, last time.Time) state.Checkpoint {
	return state.Checkpoint{ClusterID: b.clusterID, TopicID: b.id, Partitions: b.partitions, Offset: next, Timestamp: last}
}

// stale says why a checkpoint is of no use for the partition whose offsets are [start, end),
// or "" where it is.
func (b *baselineTopic) stale(cp state.Checkpoint, start, end int64, now time.Time) string {
	switch {
	case cp.Offset == 0:
		return "" // it holds nothing that could be wrong
	case cp.ClusterID != b.clusterID:
		return "it is of another cluster"
	case cp.TopicID != b.id:
		return "it is of another topic"
	case cp.Partitions != b.partitions:
		return "the topic had another partition count"
	case cp.Offset > end:
		return "it is ahead of the topic"
	case cp.Offset < start:
		return "the topic begins after it"
	case cp.Offset < end && now.Sub(cp.Timestamp) > b.tombstones/2:
		// Deletions between it and the end may be gone from the topic.
		return "it is older than half of the topic's delete.retention.ms"
	}
	return ""
}

// markPrefix begins what the group's offsets are committed with.
const markPrefix = "prtwatch/1"

// mark is what the offset of a partition is committed with: that everything before it is in
// the baseline topic of this id below offset next, and that the event time of the partition
// had come to hour. A topic that is another, or ends earlier, has lost what users were known
// by; the hour, and last how far the sign-ins had come in each source, are nowhere else to be
// had when the partition moves on. Between them come the id of the topic that the offset is of, and the
// partition count by which users were sent there.
func (b *baselineTopic) mark(next int64, hour int32, heard string) string {
	return fmt.Sprintf("%s %s %d %d %s %d %s", markPrefix, hex.EncodeToString(b.id[:]), next, hour,
		hex.EncodeToString(b.signins[:]), b.partitions, heard)
}

// holds says whether the baseline partition [start, end) has all that the mark of a
// committed offset promises, and else what is wrong. A mark that is not ours (offsets
// that an operator set) promises that something is there.
func (b *baselineTopic) holds(committed string, start, end int64) (wrong string) {
	m, ours := parseMark(committed)
	switch {
	case ours && m.id != b.id:
		return "it is not the topic that the group's offsets belong to: it was deleted and made again"
	case ours && m.next > end:
		return fmt.Sprintf("it ends at offset %d and should reach %d: it lost records", end, m.next)
	case start == end && (!ours || m.next > 0):
		// A compacted partition keeps its last record: this one was emptied.
		return "it is empty though the group has committed offsets"
	case ours && m.partitions > 0 && m.partitions != b.partitions:
		return fmt.Sprintf("it had %d partitions when the group's offsets were committed and has %d now: "+
			"users would be looked for where they are not", m.partitions, b.partitions)
	}
	return ""
}

// another reports whether the mark of a committed offset says that it is of another topic
// than the sign-ins topic of now.
func (b *baselineTopic) another(committed string) bool {
	m, ours := parseMark(committed)
	return ours && m.signins != [16]byte{} && m.signins != b.signins
}

// mark is a mark taken apart.
type mark struct {
	id         [16]byte
	next       int64
	hour       int32
	signins    [16]byte // all zero where it was not noted
	partitions int32    // 0 where it was not noted
	heard      string
}

// noHour is the event time of a partition of which nothing is known: before everything.
const noHour = math.MinInt32

// parseMark reports false for what a commit of another tool left.
func parseMark(text string) (mark, bool) {
	m := mark{hour: noHour}
	fields := strings.Fields(text)
	if len(fields) != 4 && len(fields) != 6 && len(fields) != 7 || fields[0] != markPrefix {
		return m, false
	}
	id, idErr := parseID(fields[1])
	next, nextErr := strconv.ParseInt(fields[2], 10, 64)
	hour, hourErr := strconv.ParseInt(fields[3], 10, 32)
	if errors.Join(idErr, nextErr, hourErr) != nil {
		return m, false
	}
	m.id, m.next, m.hour = id, next, int32(hour)
	if len(fields) == 4 { // as it was before the rest was noted
		return m, true
	}
	topic, topicErr := parseID(fields[4])
	partitions, partitionsErr := strconv.ParseInt(fields[5], 10, 32)
	if errors.Join(topicErr, partitionsErr) != nil {
		return mark{hour: noHour}, false
	}
	m.signins, m.partitions = topic, int32(partitions)
	if len(fields) == 7 {
		m.heard = fields[6]
	}
	return m, true
}

func parseID(text string) (id [16]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is no topic id", text)
	}
	return [16]byte(b), nil
}
