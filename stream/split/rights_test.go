package split

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

func TestARightThatIsMissingEndsTheStage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		key kmsg.Key
		err *kerr.Error
	}{
		{kmsg.FindCoordinator, kerr.GroupAuthorizationFailed},
		{kmsg.JoinGroup, kerr.GroupAuthorizationFailed},
		{kmsg.OffsetFetch, kerr.GroupAuthorizationFailed},
		{kmsg.OffsetCommit, kerr.GroupAuthorizationFailed},
		{kmsg.OffsetCommit, kerr.TopicAuthorizationFailed},
		{kmsg.ListOffsets, kerr.TopicAuthorizationFailed},
		{kmsg.Fetch, kerr.TopicAuthorizationFailed},
	} {
		t.Run(kmsg.NameForKey(int16(test.key))+" "+test.err.Message, func(t *testing.T) {
			t.Parallel()
			h := newHub(t, brokertest.Fake(t), 2)
			h.b.Produce(h.record(0, 0, message(numbers(ada, 0, 3)...)))
			fault := kfake.Fault{Keys: []kmsg.Key{test.key}, Err: test.err, Count: -1}
			if test.key == kmsg.ListOffsets { // not of the sign-ins
				fault.Topic = h.raw
			}
			h.b.Embedded().Cluster.Fault(fault)
			h.refused("group "+h.cfg.Group, test.err.Message, "grant the right to this user")
		})
	}
}

func TestTagsThatAreTooLongEndTheStage(t *testing.T) {
	t.Parallel()
	for refused, remedy := range map[*kerr.Error]string{
		kerr.OffsetMetadataTooLarge:  "set offset.metadata.max.bytes of the brokers to 4096",
		kerr.InvalidCommitOffsetSize: "set max.message.bytes of topic __consumer_offsets",
	} {
		h := newHub(t, brokertest.Fake(t), 1)
		h.b.Embedded().Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: h.cfg.Group, Err: refused, Count: -1})
		h.refused("committing offsets of group "+h.cfg.Group, remedy)
	}
}

// It is not ready, and says so once, not with each commit; and is, as soon as a commit is taken.
func TestACommitThatIsRefusedForGoodIsTold(t *testing.T) {
	t.Parallel()
	h := newHub(t, brokertest.Fake(t), 2)
	h.b.Produce(h.record(0, 0, message(numbers(ada, 0, 3)...)))
	refused := h.b.Embedded().Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: h.cfg.Group, Err: kerr.UnknownServerError, Count: -1})
	var said bytes.Buffer
	h.log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))
	r := h.run()
	h.eventually("commits are refused", func() bool { return count(r.deps.Metrics.commitErrors) > 2 })
	if ok, why := r.Ready(); ok || !strings.Contains(why, "committing offsets of group "+h.cfg.Group) {
		t.Errorf("ready: %v, %q", ok, why)
	}
	refused.Remove()
	h.drained()
	h.eventually("it is ready", func() bool { ok, _ := r.Ready(); return ok })
	if err := h.halt(r); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(said.String(), "\n"); n != 1 || !strings.Contains(said.String(), "the broker refuses to commit input offsets") {
		t.Errorf("it said %q", said.String())
	}
}

// A member that the group has moved on without hears of it so.
func TestACommitThatIsRefusedAmidARebalanceIsNoNews(t *testing.T) {
	t.Parallel()
	h := newHub(t, brokertest.Fake(t), 2)
	h.b.Produce(h.record(0, 0, message(numbers(ada, 0, 3)...)))
	for _, err := range []*kerr.Error{kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.GroupIDNotFound, kerr.NotCoordinator} {
		h.b.Embedded().Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: h.cfg.Group, Err: err, Count: 1})
	}
	var said bytes.Buffer
	h.log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))
	h.splitAll()
	if said.Len() > 0 {
		t.Errorf("it said %q", said.String())
	}
}

// It lost its partitions while its commits were refused, and has them again when nothing is left to commit.
func TestWhoHasPartitionsAgainIsReadyWhateverWasRefusedBefore(t *testing.T) {
	t.Parallel()
	h := newHub(t, brokertest.Fake(t), 2)
	first := h.run()
	h.settled(first)
	refused := h.b.Embedded().Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: h.cfg.Group, Err: kerr.UnknownServerError, Count: -1})
	h.b.Produce(h.record(0, 0, message(numbers(ada, 0, 3)...)))
	h.eventually("commits are refused", func() bool { ok, _ := first.Ready(); return !ok })
	second := h.run()
	h.eventually("the second has joined", func() bool { ok, _ := second.Ready(); return ok })
	member, _ := first.group.GroupMetadata()
	h.expel(member)
	h.eventually("the second is active", second.active)
	refused.Remove()
	h.settled(second)
	h.eventually("the first has joined again", func() bool { ok, _ := first.Ready(); return ok && !first.active() })
	if err := h.halt(second); err != nil {
		t.Fatal(err)
	}
	h.eventually("the first is active", first.active)
	h.eventually("it is ready", func() bool { ok, _ := first.Ready(); return ok })
}

// Somebody else in the group commits what he has read. What that passes over nobody splits: it is said at least.
func TestAnOffsetThatSomebodyElseHasCommittedIsTold(t *testing.T) {
	t.Parallel()
	h := newHub(t, brokertest.Fake(t), 1)
	h.b.Produce(h.record(0, 0, message(numbers(ada, 0, 3)...)), h.record(0, 1, message(numbers(ada, 3, 4)...)))
	for _, foreign := range []bool{false, true} {
		if foreign {
			h.set(h.at(1))
		}
		var said bytes.Buffer
		h.log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))
		h.splitAll()
		if told := strings.Contains(said.String(), "the offset is none that prtwatch has committed"); told != foreign {
			t.Errorf("with an offset of somebody else's: %t, said: %q", foreign, said.String())
		}
	}
}
