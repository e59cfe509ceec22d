package redrive_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/redrive"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// shelf is a dead-letter topic and a sign-ins topic beside it.
type shelf struct {
	*testing.T
	b     *brokertest.Broker
	deps  redrive.Deps
	which redrive.Selection
}

func newShelf(t *testing.T, b *brokertest.Broker) *shelf {
	topics := kafka.DefaultTopics()
	topics.Signins, topics.DeadLetter, topics.Partitions = b.Name("signins"), b.Name("dead-letter"), 3
	b.CreateTopic(topics.Signins, 3, nil)
	b.CreateTopic(topics.DeadLetter, 1, nil)
	return &shelf{T: t, b: b, deps: redrive.Deps{
		Client: []kgo.Opt{kgo.SeedBrokers(b.Addrs()...)}, Topics: topics, Kept: 16 * 24 * time.Hour,
		UserKey: func(s *detector.SignIn) string { return strings.ToLower(s.UPN) },
	}, which: redrive.Selection{Group: b.Name("redrive"), From: redrive.FromPosition}}
}

// put writes dead letters of records of the input.
func (s *shelf) put(reason string, values ...string) {
	s.Helper()
	for i, v := range values {
		s.b.Produce(kafka.DeadLetter(s.deps.Topics.DeadLetter, &kgo.Record{Topic: "input"}, i, reason, []byte(v)))
	}
}

func record(id string) string {
	return fmt.Sprintf(`{"time":%q,"category":"NonInteractiveUserSignInLogs","properties":{"id":%q,"userPrincipalName":"Ada@example.com"}}`,
		time.Now().UTC().Format(time.RFC3339), id)
}

func (s *shelf) run(which redrive.Selection) redrive.Report {
	s.Helper()
	report, err := redrive.New(s.deps, which).Run(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return report
}

// sent returns the ids of the sign-ins that are there, in order, and wants all on their user's partition, without an origin.
func (s *shelf) sent() (ids []string) {
	s.Helper()
	for _, r := range s.b.ReadAll(s.deps.Topics.Signins) {
		var in detector.SignIn
		if err := signins.Decode(r.Value, &in); err != nil {
			s.Fatal(err)
		}
		if want := kafka.Partition([]byte("ada@example.com"), 3); string(r.Key) != "ada@example.com" || r.Partition != want || signins.OriginOf(r.Value) != (signins.Origin{}) || in.Arrived.IsZero() {
			s.Errorf("key %q in partition %d, origin %+v, arrived %s", r.Key, r.Partition, signins.OriginOf(r.Value), in.Arrived)
		}
		ids = append(ids, in.ID)
	}
	return ids
}

func (s *shelf) wantSent(want ...string) {
	s.Helper()
	if got := s.sent(); !slices.Equal(got, want) {
		s.Errorf("sent were %q, want %q", got, want)
	}
}

// What the brokers do not take is not passed.
func TestThePositionMovesOnlyOverWhatWasSent(t *testing.T) {
	b := brokertest.Fake(t)
	s := newShelf(t, b)
	s.put("wrong_type", record("1"), record("2"))
	refused := b.Embedded().Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	report, err := redrive.New(s.deps, s.which).Run(t.Context())
	if !errors.Is(err, kerr.TopicAuthorizationFailed) || report.Position != 0 {
		t.Errorf("%v, %+v", err, report)
	}
	refused.Remove()
	if report = s.run(s.which); report.SignIns != 2 || report.Position != 2 {
		t.Errorf("%+v", report)
	}
	s.wantSent("1", "2")
}

func TestACommitThatIsRefusedIsSaid(t *testing.T) {
	b := brokertest.Fake(t)
	s := newShelf(t, b)
	s.put("wrong_type", record("1"))
	b.Embedded().Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.GroupAuthorizationFailed, Count: -1})
	if _, err := redrive.New(s.deps, s.which).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "committing offsets of group "+s.which.Group) {
		t.Error(err)
	}
	s.wantSent("1") // which comes again
}

func TestASignalEndsItBetweenTwoFetches(t *testing.T) {
	s := newShelf(t, brokertest.Fake(t))
	s.put("wrong_type", record("1"))
	ctx, stop := context.WithCancelCause(t.Context())
	signal := errors.New("a signal")
	stop(signal)
	if _, err := redrive.New(s.deps, s.which).Run(ctx); err == nil {
		t.Error("it went on")
	}
	s.wantSent()
}

// Brokers may keep the offsets of a topic that was made again: a position behind its end says nothing.
func TestAPositionOfAnotherTopicIsNone(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		s := newShelf(t, b)
		var offsets kadm.Offsets
		offsets.AddOffset(s.deps.Topics.DeadLetter, 0, 3, -1)
		if err := b.Admin().CommitAllOffsets(t.Context(), s.which.Group, offsets); err != nil {
			t.Fatal(err)
		}
		s.put("wrong_type", record("1"))
		if report := s.run(s.which); report.From != 0 || report.SignIns != 1 || report.Position != 1 {
			t.Errorf("%+v", report)
		}
		s.wantSent("1")
	})
}

// One of the detecting stage holds the bytes of a sign-ins record. Its origin is left out, or it would be taken for a copy.
func TestALetterOfTheDetectingStageIsSentAnew(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		s := newShelf(t, b)
		from := signins.Origin{Source: signins.Source{Number: 7}, Place: signins.Place{Offset: 3}}
		in := detector.SignIn{ID: "1", UPN: "ada@example.com", Generated: time.Now(), Arrived: time.Now()}
		large := in
		large.UserAgent = strings.Repeat("x", signins.MaxValue)
		for _, value := range [][]byte{signins.Append(nil, &in, from), signins.Append(nil, &large, from), []byte("no sign-in")} {
			b.Produce(kafka.DeadLetter(s.deps.Topics.DeadLetter, &kgo.Record{Topic: s.deps.Topics.Signins}, -1, "sign_in", value))
		}
		if report := s.run(s.which); report.Read != 3 || report.SignIns != 1 || report.Unreadable["sign_in"] != 2 {
			t.Errorf("%+v", report)
		}
		s.wantSent("1")
	})
}

// Transactions leave markers, the last of which may be the end; what was aborted is not there.
func TestMarkersAtTheEndAreNotWaitedFor(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		s := newShelf(t, b)
		client := b.Client(kgo.TransactionalID(b.Name("writer")), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
			if err := client.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			letter := kafka.DeadLetter(s.deps.Topics.DeadLetter, &kgo.Record{Topic: "input"}, 0, "wrong_type", []byte(record(fmt.Sprint(i))))
			if err := client.ProduceSync(t.Context(), letter).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := client.EndTransaction(t.Context(), end); err != nil {
				t.Fatal(err)
			}
		}
		if report := s.run(s.which); report.Read != 1 || report.SignIns != 1 {
			t.Errorf("%+v", report)
		}
		s.wantSent("0")
		if report := s.run(s.which); report.Read != 0 {
			t.Errorf("again: %+v", report)
		}
	})
}

func TestWithoutIdempotence(t *testing.T) {
	b := brokertest.Fake(t)
	s := newShelf(t, b)
	s.deps.AtLeastOnce = true
	s.put("wrong_type", record("1"))
	b.RefuseProducerIDs(kerr.ClusterAuthorizationFailed)
	if report := s.run(s.which); report.SignIns != 1 {
		t.Errorf("%+v", report)
	}
	s.wantSent("1")
}
