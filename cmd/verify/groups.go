package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// checkGroups finds what the groups have not taken. It returns the event time of each
// partition of the sign-ins topic, as the hour that the detecting group committed.
func (j *judge) checkGroups(ctx context.Context) (map[int32]int64, error) {
	for _, topic := range j.input {
		if _, err := j.checkGroup(ctx, j.splitGroup, topic); err != nil {
			return nil, err
		}
	}
	marks, err := j.checkGroup(ctx, j.detectGroup, j.signIns)
	if err != nil {
		return nil, err
	}
	events := map[int32]int64{}
	for p, of := range marks {
		m, err := parseMark(of.Metadata, of.At)
		if err == nil {
			events[p] = m.hour
			err = j.refute(p, m)
		}
		if errors.Is(err, errFuture) {
			delete(events, p) // or everyone would be expired
		}
		if err != nil {
			j.MarksWrong++
			j.find("marks_wrong", "group %s, partition %d of %s, %.200q: %v", j.detectGroup, p, j.signIns, of.Metadata, err)
		}
	}
	return events, nil
}

// errFuture marks an event time that cannot be.
var errFuture = errors.New("its event time is in the future")

// refute says what the mark of a partition says that is not so.
func (j *judge) refute(partition int32, m mark) error {
	switch end := j.brokers.end(j.baseline, partition); {
	case m.hour > hourOf(time.Now())+1:
		return fmt.Errorf("%w: %s", errFuture, hourText(m.hour))
	case m.baseline != j.brokers.topics[j.baseline].ID:
		return errors.New("it is of another baseline topic")
	case m.next > end:
		return fmt.Errorf("what was taught reaches offset %d of the baseline topic, which ends at %d", m.next, end)
	case m.signIns != j.brokers.topics[j.signIns].ID:
		return errors.New("it is of another sign-ins topic")
	case m.partitions != int64(j.brokers.partitions(j.signIns)):
		return fmt.Errorf("it is of %d partitions", m.partitions)
	}
	return nil
}

// mark is what an offset of the detecting group is committed with.
type mark struct {
	baseline   kadm.TopicID
	next       int64 // up to where of the baseline topic what was judged has taught
	hour       int64 // the event time
	signIns    kadm.TopicID
	partitions int64
}

// parseMark reads "prtwatch/1 BASELINE-ID NEXT HOUR SIGN-INS-ID PARTITIONS HEARD OFFSET", which came with an offset.
func parseMark(text string, at int64) (m mark, err error) {
	fields := strings.Fields(text)
	if len(fields) != 8 || fields[0] != "prtwatch/1" {
		return m, errors.New("it is no mark")
	}
	if fields[7] != strconv.FormatInt(at, 10) {
		return m, fmt.Errorf("it is of another offset than %d", at)
	}
	number := func(text string) int64 {
		n, failed := strconv.ParseInt(text, 10, 64)
		err = errors.Join(err, failed)
		return n
	}
	id := func(text string) (id kadm.TopicID) {
		b, failed := hex.DecodeString(text)
		if copy(id[:], b) != len(id) {
			failed = errors.Join(failed, fmt.Errorf("%q is no topic id", text))
		}
		err = errors.Join(err, failed)
		return id
	}
	m = mark{id(fields[1]), number(fields[2]), number(fields[3]), id(fields[4]), number(fields[5])}
	return m, err
}

// isTick reports whether a record of the sign-ins topic is one of those that the splitter writes
// each minute: one that came after the last sign-in may be there when the instances are stopped.
func isTick(r *kgo.Record) bool {
	return slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "control" && string(h.Value) == "tick" })
}

// checkGroup counts the records beyond the group's offsets. Markers, ticks, and what was aborted
// are none: an offset may stop before them. It returns the offsets with what they were committed with.
func (j *judge) checkGroup(ctx context.Context, group, topic string) (map[int32]kadm.OffsetResponse, error) {
	asked, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	committed, err := j.brokers.admin.FetchOffsets(asked, group)
	if err == nil {
		err = committed.Error()
	}
	if errors.Is(err, kerr.GroupIDNotFound) {
		committed, err = nil, nil // it has taken nothing
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the offsets of group %s: %w", group, err)
	}
	marks := map[int32]kadm.OffsetResponse{}
	from := map[int32]int64{}
	for p, end := range j.brokers.ends[topic] {
		start, _ := j.brokers.starts.Lookup(topic, p)
		from[p] = start.Offset
		o, ok := committed.Lookup(topic, p)
		if !ok || o.At < 0 {
			continue
		}
		marks[p] = o
		from[p] = max(o.At, start.Offset)
		if o.At > end.Offset {
			// The group may have moved since the ends were asked for: then it runs, which it must not.
			j.Stuck++
			j.find("stuck", "group %s is at offset %d of partition %d of %s, which ends at %d", group, o.At, p, topic, end.Offset)
		}
	}
	left := map[int32]int64{}
	err = j.brokers.readFrom(ctx, topic, from, func(r *kgo.Record) {
		if !r.Attrs.IsControl() && !isTick(r) {
			left[r.Partition]++
		}
	})
	if err != nil {
		return nil, err
	}
	for p, n := range left {
		j.Stuck += n
		j.find("stuck", "group %s has not taken %d records of partition %d of %s, from offset %d on", group, n, p, topic, from[p])
	}
	return marks, nil
}
