package detect

import (
	"strings"
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/state"
)

func TestACheckpointIsUsedOnlyWhereItFitsTheTopic(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	topic := baselineTopic{name: "baseline", clusterID: "c", id: [16]byte{1}, partitions: 8, tombstones: 7 * 24 * time.Hour}
	for _, test := range []struct {
		name   string
		spoil  func(*state.Checkpoint)
		start  int64
		usable bool
	}{
		{"as it was written", func(*state.Checkpoint) {}, 0, true},
		{"of a partition that was empty", func(cp *state.Checkpoint) { *cp = state.Checkpoint{} }, 0, true},
		{"of another cluster", func(cp *state.Checkpoint) { cp.ClusterID = "d" }, 0, false},
		{"of another topic", func(cp *state.Checkpoint) { cp.TopicID = [16]byte{2} }, 0, false},
		{"of another partition count", func(cp *state.Checkpoint) { cp.Partitions = 4 }, 0, false},
		{"ahead of the topic", func(cp *state.Checkpoint) { cp.Offset = 101 }, 0, false},
		{"before the topic's beginning", func(*state.Checkpoint) {}, 60, false},
		{"so old that deletions may be gone", func(cp *state.Checkpoint) { cp.Timestamp = now.Add(-topic.tombstones/2 - 1) }, 0, false},
		{"just young enough", func(cp *state.Checkpoint) { cp.Timestamp = now.Add(-topic.tombstones / 2) }, 0, true},
		{"old, at the end", func(cp *state.Checkpoint) { cp.Offset, cp.Timestamp = 100, now.AddDate(-1, 0, 0) }, 0, true},
	} {
		cp := topic.checkpoint(50, now)
		test.spoil(&cp)
		if why := topic.stale(cp, test.start, 100, now); (why == "") != test.usable {
			t.Errorf("%s: %q", test.name, why)
		}
	}
}

func TestAMarkIsReadBesideItsOffsetAlone(t *testing.T) {
	topic := baselineTopic{id: [16]byte{1}, signins: [16]byte{3}, partitions: 8}
	text := topic.mark(9, 50, 7, "AAAA")
	want := mark{ours: true, id: topic.id, next: 50, hour: 7, signins: topic.signins, partitions: 8, heard: "AAAA"}
	if got := parseMark(text, 9); got != want {
		t.Errorf("%q was read as %+v", text, got)
	}
	for _, of := range []struct {
		text string
		at   int64
	}{{text, 8}, {text, -1}, {"", 9}, {"member-1", 9}, {text + " 9", 9}, {"x" + text, 9}, {strings.Replace(text, " 50 ", " fifty ", 1), 9}} {
		if got := parseMark(of.text, of.at); got != (mark{hour: noHour}) {
			t.Errorf("%q beside offset %d was read as %+v", of.text, of.at, got)
		}
	}
}

func TestACommittedOffsetSaysWhatTheTopicMustHold(t *testing.T) {
	topic := baselineTopic{id: [16]byte{1}, signins: [16]byte{3}, partitions: 8}
	other := baselineTopic{id: [16]byte{2}, signins: [16]byte{3}, partitions: 8}
	grown := baselineTopic{id: [16]byte{1}, signins: [16]byte{3}, partitions: 4}
	for _, test := range []struct {
		name, mark string
		start, end int64
		acceptLoss bool
		holds      bool
	}{
		{"the topic as it was", topic.mark(9, 50, 7, nothingHeard), 0, 50, false, true},
		{"a partition that has seen ticks only", topic.mark(9, 0, 7, nothingHeard), 0, 0, false, true},
		{"a topic that was made again", other.mark(9, 50, 7, nothingHeard), 0, 100, false, false},
		{"a topic that was made again before anything was learned", other.mark(9, 0, 7, nothingHeard), 0, 0, false, false},
		{"a topic that lost its end", topic.mark(9, 50, 7, nothingHeard), 0, 49, false, false},
		{"offsets that an operator set", "", 0, 50, false, true},
		{"offsets that an operator set, and nobody known", "member-1", 0, 0, false, false},
		{"offsets that an operator set, nobody known, and that is accepted", "member-1", 0, 0, true, true},
		{"a topic that was emptied, which cannot be accepted", topic.mark(9, 50, 7, nothingHeard), 60, 60, true, false},
		{"a topic that was emptied", topic.mark(9, 50, 7, nothingHeard), 60, 60, false, false},
		{"a topic that was emptied, and offsets that an operator set", "", 60, 60, false, false},
		{"a topic that was compacted", topic.mark(9, 50, 7, nothingHeard), 50, 51, false, true},
		{"a mark of another offset, and one of another topic", other.mark(8, 50, 7, nothingHeard), 0, 50, false, true},
		{"a topic of another partition count", grown.mark(9, 50, 7, nothingHeard), 0, 50, false, false},
	} {
		if wrong := topic.holds(parseMark(test.mark, 9), test.start, test.end, test.acceptLoss); (wrong == "") != test.holds {
			t.Errorf("%s: %q", test.name, wrong)
		}
	}
}
