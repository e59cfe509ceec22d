package detect

import (
	"context"
	"encoding/hex"
	"fmt"
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
	b := baselineTopic{name: topics.Baseline, tombstones: defaultTombstones}
	metadata, err := admin.Metadata(ctx, topics.Baseline)
	if err != nil {
		return b, fmt.Errorf("describing topic %s: %w", topics.Baseline, err)
	}
	topic := metadata.Topics[topics.Baseline]
	if topic.Err != nil {
		return b, fmt.Errorf("describing topic %s: %w; `prtwatch topics --create` makes what is missing", topics.Baseline, topic.Err)
	}
	b.clusterID, b.id, b.partitions = metadata.Cluster, topic.ID, int32(len(topic.Partitions))

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
// the baseline topic of this id below offset next. A topic that is another, or ends earlier,
// has lost what users were known by.
func (b *baselineTopic) mark(next int64) string {
	return markPrefix + " " + hex.EncodeToString(b.id[:]) + " " + strconv.FormatInt(next, 10)
}

// holds says whether the baseline partition that ends at end has all that the mark of a
// committed offset promises, and else what is wrong. A mark that is not ours (offsets
// that an operator set) promises that something is there.
func (b *baselineTopic) holds(mark string, end int64) (wrong string) {
	id, next, ours := parseMark(mark)
	switch {
	case ours && id != b.id:
		return "it is not the topic that the group's offsets belong to: it was deleted and made again"
	case ours && next > end:
		return fmt.Sprintf("it ends at offset %d and should reach %d: it lost records", end, next)
	case !ours && end == 0:
		return "it is empty though the group has committed offsets"
	}
	return ""
}

func parseMark(mark string) (id [16]byte, next int64, ok bool) {
	fields := strings.Fields(mark)
	if len(fields) != 3 || fields[0] != markPrefix {
		return id, 0, false
	}
	if n, err := hex.Decode(id[:], []byte(fields[1])); err != nil || n != len(id) {
		return id, 0, false
	}
	next, err := strconv.ParseInt(fields[2], 10, 64)
	return id, next, err == nil
}
