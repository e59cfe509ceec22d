package detect

import (
	"context"
	"encoding/hex"
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
	partitions int32
	tombstones time.Duration // delete.retention.ms: how long a deletion can be read
}

// defaultTombstones is Kafka's default of delete.retention.ms.
const defaultTombstones = 24 * time.Hour

// describeBaseline asks the cluster which topic the baseline topic is.
func describeBaseline(ctx context.Context, admin *kadm.Client, topics kafka.Topics) (baselineTopic, error) {
	b := baselineTopic{name: topics.Baseline, partitions: topics.Partitions, tombstones: defaultTombstones}
	var err error
	if b.clusterID, err = kafka.ClusterID(ctx, admin); err != nil {
		return b, err
	}
	if b.id, err = kafka.TopicID(ctx, admin, topics.Baseline); err != nil {
		return b, err
	}
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
// by; the hour is nowhere else to be had when the partition moves on.
func (b *baselineTopic) mark(next int64, hour int32) string {
	return fmt.Sprintf("%s %s %d %d", markPrefix, hex.EncodeToString(b.id[:]), next, hour)
}

// holds says whether the baseline partition that ends at end has all that the mark of a
// committed offset promises, and else what is wrong. A mark that is not ours (offsets
// that an operator set) promises that something is there.
func (b *baselineTopic) holds(committed string, end int64) (wrong string) {
	m, ours := parseMark(committed)
	switch {
	case ours && m.id != b.id:
		return "it is not the topic that the group's offsets belong to: it was deleted and made again"
	case ours && m.next > end:
		return fmt.Sprintf("it ends at offset %d and should reach %d: it lost records", end, m.next)
	case !ours && end == 0:
		return "it is empty though the group has committed offsets"
	}
	return ""
}

// mark is a mark taken apart.
type mark struct {
	id   [16]byte
	next int64
	hour int32
}

// noHour is the event time of a partition of which nothing is known: before everything.
const noHour = math.MinInt32

// parseMark reports false for what a commit of another tool left.
func parseMark(text string) (mark, bool) {
	none := mark{hour: noHour}
	fields := strings.Fields(text)
	if len(fields) != 4 || fields[0] != markPrefix {
		return none, false
	}
	var m mark
	if n, err := hex.Decode(m.id[:], []byte(fields[1])); err != nil || n != len(m.id) {
		return none, false
	}
	next, nextErr := strconv.ParseInt(fields[2], 10, 64)
	hour, hourErr := strconv.ParseInt(fields[3], 10, 32)
	if nextErr != nil || hourErr != nil {
		return none, false
	}
	m.next, m.hour = next, int32(hour)
	return m, true
}
