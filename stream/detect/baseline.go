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
	retention  time.Duration // of the sign-ins topic; negative: for ever, 0: not known
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
	for _, topic := range []string{topics.Signins, topics.Baseline} { // one at a time: of one answer kadm returns nothing where one topic is refused
		configs, err := admin.DescribeTopicConfigs(ctx, topic)
		if err != nil && kafka.Denied(err) == nil { // which the start has warned of
			return b, fmt.Errorf("reading the settings of topic %s: %w", topic, err)
		}
		for _, resource := range configs {
			b.set(topic == topics.Baseline, resource.Configs)
		}
	}
	return b, nil
}

// set takes from the settings of one of the topics how long what is in it can be read.
func (b *baselineTopic) set(baseline bool, settings []kadm.Config) {
	key, to := "retention.ms", &b.retention
	if baseline {
		key, to = "delete.retention.ms", &b.tombstones
	}
	for _, c := range settings {
		if ms, err := strconv.ParseInt(c.MaybeValue(), 10, 64); err == nil && c.Key == key {
			*to = time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
		}
	}
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
// the baseline topic of an id below offset next, and that the event time of the partition
// had come to hour. A topic that is another, or ends earlier, has lost what users were known
// by; the hour, and heard, how far the sign-ins had come in each source, are nowhere else to be
// had when the partition moves on. With them go the id of the topic that the offset is of, the
// partition count by which users were sent there, and last the offset itself: beside another one a mark is a copy
// that some tool has made, and says nothing.
type mark struct {
	ours       bool // else it is of another tool, or of another offset, and only hour is set
	id         [16]byte
	next       int64
	hour       int32
	signins    [16]byte // all zero where brokers give none
	partitions int32
	heard      string
}

// noHour is the event time of a partition of which nothing is known: before everything.
const noHour = math.MinInt32

// mark returns the text of the mark that goes with offset at.
func (b *baselineTopic) mark(at, next int64, hour int32, heard string) string {
	return fmt.Sprintf("%s %s %d %d %s %d %s %d", markPrefix, hex.EncodeToString(b.id[:]), next, hour,
		hex.EncodeToString(b.signins[:]), b.partitions, heard, at)
}

// parseMark reads what came with offset at.
func parseMark(text string, at int64) mark {
	none := mark{hour: noHour}
	fields := strings.Fields(text)
	if len(fields) != 8 || fields[0] != markPrefix || fields[7] != strconv.FormatInt(at, 10) {
		return none
	}
	id, idErr := parseID(fields[1])
	next, nextErr := strconv.ParseInt(fields[2], 10, 64)
	hour, hourErr := strconv.ParseInt(fields[3], 10, 32)
	signins, signinsErr := parseID(fields[4])
	partitions, partitionsErr := strconv.ParseInt(fields[5], 10, 32)
	if errors.Join(idErr, nextErr, hourErr, signinsErr, partitionsErr) != nil {
		return none
	}
	return mark{ours: true, id: id, next: next, hour: int32(hour), signins: signins, partitions: int32(partitions), heard: fields[6]}
}

func parseID(text string) (id [16]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is no topic id", text)
	}
	return [16]byte(b), nil
}

// holds says whether the baseline partition [start, end) has all that the mark of a
// committed offset promises, and else what is wrong. A mark that is not ours (offsets
// that an operator set) promises that something is there, unless it is said that a loss is accepted: of a partition in
// which nobody was ever known there is nothing.
func (b *baselineTopic) holds(m mark, start, end int64, acceptLoss bool) (wrong string) {
	switch {
	case m.ours && m.id != b.id:
		return "it is not the topic that the group's offsets belong to: it was deleted and made again"
	case m.ours && m.next > end:
		return fmt.Sprintf("it ends at offset %d and should reach %d: it lost records", end, m.next)
	case start == end && (m.next > 0 || !m.ours && !acceptLoss):
		// A compacted partition keeps its last record: this one was emptied.
		return "it is empty though the group has committed offsets"
	case m.ours && m.partitions != b.partitions:
		return fmt.Sprintf("it had %d partitions when the group's offsets were committed and has %d now: "+
			"users would be looked for where they are not", m.partitions, b.partitions)
	}
	return ""
}

// another reports whether the mark of a committed offset says that it is of another topic
// than the sign-ins topic of now.
func (b *baselineTopic) another(m mark) bool {
	return m.ours && m.signins != [16]byte{} && m.signins != b.signins
}
