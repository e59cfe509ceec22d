package detect_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// ada is at home at 192.0.2.1; a thief of hers comes from elsewhere.
const ada = "ada@example.com"

// compacted is what the baseline topic must be.
var compacted = map[string]string{"cleanup.policy": "compact"}

// lossy accepts losses as `--accept-loss` does.
func lossy(_ *detect.Config, d *detect.Deps) { d.AcceptLoss = true }

// What happens to topics and offsets while no instance runs: an instance that comes back says
// what is wrong and what to do, and that then helps; or it goes on as though nothing were.
func TestTopicsAndOffsetsThatChangedWhileAwayAreRefusedWithARemedyThatHelps(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(h *house)
		want   string // what it says; nothing where it goes on
		remedy func(h *house) stageOption
		alerts []string // of a known sign-in and a thief's, once it goes on
	}{
		{"sign-ins made again", func(h *house) {
			h.recreate(h.topics.Signins, nil)
		}, "pass --accept-loss", func(*house) stageOption { return lossy }, []string{"first", "thief"}},
		{"sign-ins made again, and longer than before", func(h *house) {
			offsets := h.offsets()
			h.recreate(h.topics.Signins, nil)
			h.tick(0)
			h.tick(1)
			h.commit(offsets) // some brokers forget offsets with the topic, others do not
		}, "the topic was made again since; pass --accept-loss", func(*house) stageOption { return lossy }, []string{"first", "thief"}},
		{"sign-ins deleted before they were judged", func(h *house) {
			h.produce(signIn("lost", ada, "203.0.113.7", "64502", 1))
			h.empty(h.topics.Signins)
		}, "1 sign-ins were deleted before they were judged (offsets 1 to 1); pass --accept-loss", func(*house) stageOption { return lossy }, []string{"first", "thief"}},
		{"a baseline made again", func(h *house) {
			h.recreate(h.topics.Baseline, compacted)
		}, "made again; what users are known by is in that topic alone: bring it back, or delete the offsets of group", (*house).forget, []string{"first", "first", "thief"}},
		{"a baseline that was emptied", func(h *house) {
			h.empty(h.topics.Baseline)
		}, "it is empty though the group has committed offsets; what users are known by is in that topic alone", (*house).forget, []string{"first", "first", "thief"}},
		{"the group's offsets expired", func(h *house) {
			h.forget()
		}, "set the group's offsets to where it was, or pass --accept-loss", func(*house) stageOption { return lossy }, []string{"first", "thief"}},
		{"the offset of one partition expired, and set again", func(h *house) {
			var one kadm.TopicsSet
			one.Add(h.topics.Signins, kafka.Partition([]byte(ada), partitions))
			h.until("the offset to be deleted", func() bool { // nobody may be subscribed any more
				deleted, err := h.b.Admin().DeleteOffsets(context.Background(), h.group, one)
				return err == nil && deleted.Error() == nil
			})
		}, "set the group's offsets to where it was, or pass --accept-loss", func(h *house) stageOption {
			offsets := make(kadm.Offsets)
			offsets.AddOffset(h.topics.Signins, kafka.Partition([]byte(ada), partitions), 1, -1)
			h.commit(offsets)
			return nothing
		}, []string{"first", "thief"}},
		{"the group's offsets expired, and all set again", func(h *house) {
			h.tick(1) // so that there are offsets where nobody lives
			one := h.start("one", h.t.TempDir())
			h.judged()
			if err := one.stop(); err != nil {
				h.t.Fatal(err)
			}
			h.forget()
		}, "set the group's offsets to where it was, or pass --accept-loss", func(h *house) stageOption {
			ends, err := h.b.Admin().ListEndOffsets(h.t.Context(), h.topics.Signins)
			if err != nil {
				h.t.Fatal(err)
			}
			h.commit(ends.Offsets())
			h.start("one", h.t.TempDir()).expect("bring it back, pass --accept-loss if nobody was known in this partition, or delete")
			return lossy
		}, []string{"first", "thief"}},
		{"all topics given more partitions, and the configuration too", func(h *house) {
			h.widen(h.topics.Signins, h.topics.Baseline, h.topics.Alerts)
			h.topics.Partitions += 2
		}, "users would be looked for where they are not", nil, nil},
		{"more partitions than the configuration says", func(h *house) {
			h.widen(h.topics.Signins)
		}, "has 6 partitions, not 4 (topics.partitions)", nil, nil},
		{"alerts made again", func(h *house) { h.recreate(h.topics.Alerts, nil) }, "", nil, []string{"thief"}},
		{"dead letters made again", func(h *house) { h.recreate(h.topics.DeadLetter, nil) }, "", nil, []string{"first", "thief"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h, dir := newHouse(t, b), t.TempDir()
				h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
				one := h.start("one", dir)
				h.judged()
				if err := one.stop(); err != nil {
					t.Fatal(err)
				}
				test.spoil(h)
				option := stageOption(nothing)
				if test.want != "" {
					var said warnings
					h.start("one", dir, said.ofClients).expect(test.want)
					h.start("two", t.TempDir(), said.ofClients).expect(test.want)
					said.without(t, test.want) // who ends with it says it
				}
				if test.remedy != nil {
					option = test.remedy(h)
				} else if test.want != "" {
					return
				}
				last := h.start("one", dir, option)
				h.until("the stage to be ready", func() bool { ready, _ := last.Ready(); return ready })
				h.produce(signIn("known", ada, "192.0.2.1", "64500", 2), signIn("thief", ada, "203.0.113.9", "64511", 3))
				h.judged()
				h.wantCounts(test.alerts...)
			})
		})
	}
}

// warnings are what clients warn of.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

func (w *warnings) ofClients(_ *detect.Config, d *detect.Deps) {
	d.Client = append(d.Client, kgo.WithLogger(w))
}

func (w *warnings) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (w *warnings) Log(_ kgo.LogLevel, message string, fields ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprint(message, fields))
}

// without checks that no warning says something.
func (w *warnings) without(t *testing.T, text string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.lines {
		if strings.Contains(line, text) {
			t.Errorf("a client warned: %s", line)
		}
	}
}

// What happens to topics under a running instance: it ends with a message that says what to
// do, or goes on. It never falls silent, and never judges with an empty past.
func TestTopicsThatChangeUnderARunningInstance(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(h *house)
		want   string
		alerts []string // of a known sign-in and a thief's; where it must end, of what it may judge until then
	}{
		{"sign-ins made again", func(h *house) {
			h.recreate(h.topics.Signins, nil)
		}, "was deleted and made again while it was in use: sign-ins that were not judged yet are lost; start again with --accept-loss", nil},
		{"sign-ins deleted", func(h *house) { h.remove(h.topics.Signins) }, "was deleted while it was in use", nil},
		{"a baseline made again", func(h *house) {
			h.recreate(h.topics.Baseline, compacted)
			h.produce(signIn("known", ada, "192.0.2.1", "64500", 2))
		}, "what users are known by is in that topic alone", nil},
		{"a baseline deleted", func(h *house) { h.remove(h.topics.Baseline) }, "was deleted while it was in use: what users are known by is in that topic alone", nil},
		{"more partitions of the sign-ins", func(h *house) { h.widen(h.topics.Signins) }, "has 6 partitions now, not 4", nil},
		{"more partitions of the baseline", func(h *house) { h.widen(h.topics.Baseline) }, "has 6 partitions now, not 4", nil},
		{"a baseline that was emptied", func(h *house) { h.empty(h.topics.Baseline) }, "", []string{"first", "thief"}},
		{"alerts made again", func(h *house) { h.recreate(h.topics.Alerts, nil) }, "", []string{"thief"}},
		{"dead letters made again", func(h *house) { h.recreate(h.topics.DeadLetter, nil) }, "", []string{"first", "thief"}},
		{"alerts deleted", func(h *house) {
			h.remove(h.topics.Alerts)
			h.produce(signIn("thief", ada, "203.0.113.9", "64511", 3))
		}, "producing to", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHouse(t, b)
				h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
				h.garbage()
				one := h.start("one", t.TempDir())
				h.judged()
				test.spoil(h)
				if test.want != "" {
					one.expect(test.want)
					if strings.HasPrefix(test.name, "alerts") {
						return // there is nowhere to look
					}
					h.wantAlerts("first")
					return
				}
				h.produce(signIn("known", ada, "192.0.2.1", "64500", 2), signIn("thief", ada, "203.0.113.9", "64511", 3))
				h.garbage()
				h.judged()
				h.wantCounts(test.alerts...)
				if err := one.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Brokers that know no ids of topics do not say that the baseline topic is another one now; that a profile
// is written where there were others already does.
func TestABaselineTopicThatIsMadeAgainIsFoundWithoutIdsToo(t *testing.T) {
	classicOnly(t) // such brokers know no other
	old := func(_ *detect.Config, d *detect.Deps) {
		d.Client = append(d.Client, kgo.MaxVersions(kversion.V2_7_0()))
	}
	for _, delivery := range deliveries {
		t.Run(delivery.name, func(t *testing.T) {
			t.Parallel()
			h, dir := newHouse(t, brokertest.Fake(t)), t.TempDir()
			one := h.start("one", dir, old, delivery.option)
			h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
			h.judged()
			if err := one.stop(); err != nil {
				t.Fatal(err)
			}
			// A producer that has not written there yet: of another's record the new topic misses the one before.
			one = h.start("one", dir, old, delivery.option)
			h.until("the stage to be ready", func() bool { ready, _ := one.Ready(); return ready })
			h.recreate(h.topics.Baseline, compacted)
			h.produce(signIn("known", ada, "192.0.2.1", "64500", 2))
			one.expect("the topic is another one")
			h.wantAlerts("first")
		})
	}
}

// A broker that has just started may not know a topic yet.
func TestATopicThatABrokerDoesNotKnowForAMomentIsNotTakenForDeleted(t *testing.T) {
	t.Parallel()
	h := newHouse(t, brokertest.Fake(t))
	one := h.start("one", t.TempDir())
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
	h.judged()
	var looks atomic.Int32
	cluster := h.b.Embedded().Cluster
	cluster.ControlKey(int16(kmsg.Metadata), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked := request.(*kmsg.MetadataRequest)
		if !asked.IncludeTopicAuthorizedOperations || looks.Add(1) != 1 {
			return nil, nil, false
		}
		response := asked.ResponseKind().(*kmsg.MetadataResponse)
		for _, topic := range asked.Topics {
			unknown := kmsg.NewMetadataResponseTopic()
			unknown.Topic, unknown.ErrorCode = topic.Topic, kerr.UnknownTopicOrPartition.Code
			response.Topics = append(response.Topics, unknown)
		}
		return response, nil, true
	})
	h.until("the stage to have looked once more", func() bool { return looks.Load() > 2 || len(one.ended) > 0 })
	h.produce(signIn("thief", ada, "203.0.113.9", "64511", 3))
	h.judged()
	if err := one.stop(); err != nil {
		t.Error(err)
	}
	h.wantAlerts("first", "thief")
}

// A broker that hangs up amid what is asked before anything is judged is asked again.
func TestABrokerThatHangsUpAtTheStartIsAskedAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t, brokertest.Fake(t))
	var asked atomic.Int32
	cluster := h.b.Embedded().Cluster
	cluster.ControlKey(int16(kmsg.DescribeConfigs), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if asked.Add(1) > 1 {
			return nil, nil, false
		}
		return nil, errors.New("hanging up"), true
	})
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
	h.start("one", t.TempDir(), func(_ *detect.Config, d *detect.Deps) {
		d.Client = append(d.Client, kgo.RequestRetries(0)) // the client alone would ask again, a while
	})
	h.judged()
	h.wantAlerts("first")
	if n := asked.Load(); n < 2 {
		t.Errorf("it was asked %d times", n)
	}
}

// Offsets in profiles are those of one sign-ins topic: where it was made again they silence nobody, and a
// loss is refused first, wherever it shows.
func TestAtLeastOnceASigninsTopicThatIsMadeAgainSilencesNobody(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(h *house)
		want  string // what it says; nothing where it goes on
	}{
		{"made again", func(h *house) { h.recreate(h.topics.Signins, nil) }, "pass --accept-loss"},
		{"made again, and the offsets kept", func(h *house) {
			offsets := h.offsets()
			h.recreate(h.topics.Signins, nil)
			h.commit(offsets)
		}, "the topic was made again"},
		{"made again, and the offsets gone", func(h *house) {
			h.forget()
			h.recreate(h.topics.Signins, nil)
		}, "the topic was made again"},
		{"made again and longer, and the offsets gone", func(h *house) {
			h.forget()
			h.recreate(h.topics.Signins, nil)
			for hour := range 40 {
				h.tick(hour)
			}
		}, "the topic was made again"},
		{"offsets expired, and a sign-in deleted that nobody judged", func(h *house) {
			h.produce(signIn("lost", ada, "203.0.113.7", "64502", 20))
			h.forget()
			h.empty(h.topics.Signins)
		}, "profiles know what is below offset 20, and sign-ins from there to offset 20 are deleted"},
		{"offsets expired, and nothing lost", func(h *house) { h.forget() }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h, dir := newHouse(t, b), t.TempDir()
				for i := range 20 {
					h.produce(signIn(fmt.Sprint("known", i), ada, "192.0.2.1", "64500", i))
				}
				one := h.start("one", dir, atLeastOnce)
				h.judged()
				if err := one.stop(); err != nil {
					t.Fatal(err)
				}
				test.spoil(h)
				option := stageOption(nothing)
				if test.want != "" {
					h.start("one", dir, atLeastOnce).expect(test.want)
					h.start("two", t.TempDir(), atLeastOnce).expect(test.want)
					option = lossy
				}
				last := h.start("one", dir, atLeastOnce, option)
				h.until("the stage to be ready", func() bool { ready, _ := last.Ready(); return ready })
				h.produce(signIn("known", ada, "192.0.2.1", "64500", 22), signIn("thief", ada, "203.0.113.9", "64511", 23))
				// The group may have committed more than the new topic has: h.judged would not wait.
				h.until("the thief's alert", func() bool { return h.alerts()["thief"] > 0 })
				h.wantCounts("known0", "thief")
			})
		})
	}
}

// Somebody else in the group commits what he has read. What that passes over nobody judges: it is said at least, and not
// of offsets that are ours.
func TestAnOffsetThatSomebodyElseHasCommittedIsTold(t *testing.T) {
	t.Parallel()
	h, dir := newHouse(t, brokertest.Fake(t)), t.TempDir()
	h.produce(signIn("first", ada, "192.0.2.1", "64500", 0))
	one := h.start("one", dir)
	h.judged()
	if err := one.stop(); err != nil {
		t.Fatal(err)
	}
	h.produce(signIn("passed over", ada, "203.0.113.9", "64511", 1))
	for _, foreign := range []bool{false, true} {
		if foreign {
			offsets := make(kadm.Offsets)
			offsets.AddOffset(h.topics.Signins, kafka.Partition([]byte(ada), partitions), 2, -1)
			h.commit(offsets)
		}
		said := sentences{message: "the offset is none that prtwatch has committed: what lies before it is taken for judged; where nobody set it on purpose, another consumer was in this group, and docs/backup.md says how to go back"}
		last := h.start("one", dir, func(_ *detect.Config, d *detect.Deps) { d.Log = slog.New(&said) })
		h.until("the stage to be ready", func() bool { ready, _ := last.Ready(); return ready })
		if err := last.stop(); err != nil {
			t.Fatal(err)
		}
		said.mu.Lock()
		if told := len(said.said) > 0; told != foreign {
			t.Errorf("with an offset of somebody else's: %t, told: %t", foreign, told)
		}
		said.mu.Unlock()
	}
}

// garbage appends a record that nobody can read.
func (h *house) garbage() {
	h.t.Helper()
	h.b.Produce(&kgo.Record{Topic: h.topics.Signins, Partition: kafka.Partition([]byte(ada), partitions), Key: []byte(ada), Value: []byte("garbage")})
}

// offsets returns what the group has committed.
func (h *house) offsets() kadm.Offsets {
	h.t.Helper()
	fetched, err := h.b.Admin().FetchOffsets(context.Background(), h.group)
	if err != nil {
		h.t.Fatal(err)
	}
	return fetched.Offsets()
}

// commit sets offsets of the group, which must have no members.
func (h *house) commit(offsets kadm.Offsets) {
	h.t.Helper()
	h.until("the offsets to be set", func() bool {
		return h.b.Admin().CommitAllOffsets(context.Background(), h.group, offsets) == nil
	})
}

// forget deletes the group.
func (h *house) forget() stageOption {
	h.t.Helper()
	h.until("the group to be deleted", func() bool {
		deleted, err := h.b.Admin().DeleteGroups(context.Background(), h.group)
		return err == nil && deleted.Error() == nil
	})
	return nothing
}

// empty deletes all records of a topic. Kafka does so only where the policy is to delete.
func (h *house) empty(topic string) {
	h.t.Helper()
	ctx := context.Background()
	policy := func(value string) {
		_, err := h.b.Admin().AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &value}}, topic)
		if err != nil {
			h.t.Fatal(err)
		}
	}
	if topic == h.topics.Baseline {
		policy("delete")
		defer policy("compact")
	}
	ends, err := h.b.Admin().ListEndOffsets(ctx, topic)
	if err != nil {
		h.t.Fatal(err)
	}
	h.until("the records to be deleted", func() bool { // a setting takes a moment to arrive
		deleted, err := h.b.Admin().DeleteRecords(ctx, ends.Offsets())
		return err == nil && deleted.Error() == nil
	})
}

// widen gives topics two more partitions.
func (h *house) widen(topics ...string) {
	h.t.Helper()
	widened, err := h.b.Admin().CreatePartitions(context.Background(), 2, topics...)
	if err == nil {
		err = widened.Error()
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// remove deletes a topic.
func (h *house) remove(topic string) {
	h.t.Helper()
	if _, err := h.b.Admin().DeleteTopics(context.Background(), topic); err != nil {
		h.t.Fatal(err)
	}
}

// wantCounts checks the committed alerts: as many of each sign-in as it is named.
func (h *house) wantCounts(want ...string) {
	h.t.Helper()
	left := make(map[string]int)
	for _, id := range want {
		left[id]++
	}
	if got := h.alerts(); !maps.Equal(got, left) {
		h.t.Errorf("alerts are %v, want %v", got, left)
	}
}
