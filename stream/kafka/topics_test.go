package kafka_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

func topicsOf(b *brokertest.Broker) kafka.Topics {
	return kafka.Topics{
		Signins: b.Name("signins"), Baseline: b.Name("baseline"), Alerts: b.Name("alerts"), DeadLetter: b.Name("dead-letter"),
		Partitions: 3, Replication: 1,
	}
}

func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustCreate(t *testing.T, b *brokertest.Broker, topics kafka.Topics) []string {
	t.Helper()
	created, err := kafka.Create(limit(t), b.Admin(), topics)
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func check(t *testing.T, b *brokertest.Broker, topics kafka.Topics, input ...string) []kafka.Difference {
	t.Helper()
	differences, err := kafka.Check(limit(t), b.Admin(), topics, b.Admin(), input)
	if err != nil {
		t.Fatal(err)
	}
	return differences
}

func TestCreateMakesWhatCheckWants(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		topics := topicsOf(b)
		if created := mustCreate(t, b, topics); len(created) != 4 {
			t.Errorf("created %v", created)
		}
		if differences := check(t, b, topics); len(differences) != 0 {
			t.Errorf("what was just created differs: %v", differences)
		}
		if again := mustCreate(t, b, topics); len(again) != 0 {
			t.Errorf("created %v a second time", again)
		}
	})
}

func TestMissingTopicsAreFatalAndNameTheRemedy(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		topics := topicsOf(b)
		differences := check(t, b, topics, b.Name("export"))
		if len(differences) != 5 {
			t.Fatalf("%d differences: %v", len(differences), differences)
		}
		for _, d := range differences {
			if !d.Fatal || d.Setting != kafka.Existence || !strings.Contains(d.String(), "prtwatch topics --create") {
				t.Errorf("%+v", d)
			}
		}
		err := kafka.Fatal(differences)
		if err == nil || strings.Count(err.Error(), "\n") != 4 {
			t.Errorf("Fatal: %v", err)
		}
	})
}

func TestInputTopicsAreOnlyAskedFor(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		topics, input := topicsOf(b), b.Name("export")
		mustCreate(t, b, topics)
		created, err := kafka.CreateInput(limit(t), b.Admin(), []string{input}, 8, 1)
		if err != nil || !slices.Equal(created, []string{input}) {
			t.Fatalf("created %v, %v", created, err)
		}
		if differences := check(t, b, topics, input); len(differences) != 0 {
			t.Errorf("%v", differences)
		}
	})
}

func TestEveryWrongSettingIsNamed(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		topics := topicsOf(b)
		b.CreateTopic(topics.Signins, 3, map[string]string{"retention.ms": "3600000", "message.timestamp.type": "CreateTime"})
		b.CreateTopic(topics.Baseline, 4, map[string]string{"cleanup.policy": "delete", "delete.retention.ms": "60000"})
		b.CreateTopic(topics.Alerts, 3, map[string]string{"retention.ms": "-1", "message.timestamp.type": "LogAppendTime", "max.message.bytes": "1000"})
		b.CreateTopic(topics.DeadLetter, 2, map[string]string{"retention.ms": "99999999999"})

		type key struct {
			topic, setting string
			fatal          bool
		}
		var got []key
		for _, d := range check(t, b, topics) {
			got = append(got, key{strings.TrimPrefix(d.Topic, b.Name("")), d.Setting, d.Fatal})
			if strings.Contains(d.String(), "\n") || !strings.Contains(d.String(), d.Want) || d.Remedy == "" {
				t.Errorf("line %q", d)
			}
		}
		want := []key{
			{"baseline", "partitions", true},
			{"dead-letter", "partitions", true},
			{"signins", "retention.ms", false},
			{"signins", "message.timestamp.type", false},
			{"baseline", "cleanup.policy", true},
			{"baseline", "delete.retention.ms", false},
			{"alerts", "max.message.bytes", false},
		}
		if !slices.Equal(got, want) {
			t.Errorf("differences\n%v, want\n%v", got, want)
		}
	})
}

func TestABaselineThatIsCompactedAndDeletedIsFatal(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		topics := topicsOf(b)
		b.CreateTopic(topics.Baseline, 3, map[string]string{"cleanup.policy": "compact,delete", "delete.retention.ms": "604800000"})
		mustCreate(t, b, topics)
		differences := check(t, b, topics)
		if len(differences) != 1 || !differences[0].Fatal || differences[0].Have != "compact,delete" {
			t.Errorf("%v", differences)
		}
	})
}

func TestTooManyReplicasAreRefusedInOneLine(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		topics := topicsOf(b)
		topics.Replication = 3
		created, err := kafka.Create(limit(t), b.Admin(), topics)
		if err == nil || len(created) != 0 || !strings.Contains(err.Error(), "topics.replication is 3") || strings.Contains(err.Error(), "\n") {
			t.Errorf("created %v, %v", created, err)
		}
	})
}

func TestFewerReplicasThanConfiguredAreWarnedAbout(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		topics := topicsOf(b)
		mustCreate(t, b, topics)
		topics.Replication = 3
		differences := check(t, b, topics)
		if len(differences) != 4 {
			t.Fatalf("%v", differences)
		}
		for _, d := range differences {
			if d.Fatal || d.Setting != kafka.Replication {
				t.Errorf("%+v", d)
			}
		}
	})
}

// The real broker of these tests is one, and copies need three.
func TestTwoOfThreeCopiesAcknowledgeWhatIsCreated(t *testing.T) {
	for copies, want := range map[int16]string{1: "", 2: "", 3: "2"} {
		b := brokertest.Fake(t, kfake.NumBrokers(3))
		topics := topicsOf(b)
		topics.Replication = copies
		created := mustCreate(t, b, topics)
		if differences := check(t, b, topics); len(created) != 4 || len(differences) != 0 {
			t.Errorf("%d copies: created %v, which differ: %v", copies, created, differences)
		}
		configs, err := b.Admin().DescribeTopicConfigs(limit(t), created...)
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range configs {
			own := ""
			for _, c := range topic.Configs {
				if c.Key == "min.insync.replicas" && c.Source == kmsg.ConfigSourceDynamicTopicConfig {
					own = c.MaybeValue()
				}
			}
			if own != want {
				t.Errorf("%d copies: %s was made with min.insync.replicas %q, want %q", copies, topic.Name, own, want)
			}
		}
	}
}

func TestOneOfThreeCopiesThatAcknowledgesIsWarnedAbout(t *testing.T) {
	one := "1"
	clusters, own, untold := kadm.AlterConfig{Op: kadm.DeleteConfig}, kadm.AlterConfig{Value: &one}, kadm.AlterConfig{}
	for name, test := range map[string]struct {
		copies, configured int16
		cluster            string
		topic              kadm.AlterConfig
		warned             bool
	}{
		"the cluster's 1":        {3, 3, "1", clusters, true},
		"the topic's 1":          {3, 3, "2", own, true},
		"copies that others set": {3, 1, "1", own, true},
		"the cluster's 2":        {3, 3, "2", clusters, false},
		"a broker without it":    {3, 3, "1", untold, false},
		"two copies":             {2, 3, "1", own, false}, // that they are too few is another warning
	} {
		t.Run(name, func(t *testing.T) {
			b := brokertest.Fake(t, kfake.NumBrokers(3), kfake.BrokerConfigs(map[string]string{"min.insync.replicas": test.cluster}))
			topics := topicsOf(b)
			topics.Replication = test.copies
			created := mustCreate(t, b, topics)
			test.topic.Name = "min.insync.replicas"
			if _, err := b.Admin().AlterTopicConfigs(limit(t), []kadm.AlterConfig{test.topic}, created...); err != nil {
				t.Fatal(err)
			}
			topics.Replication = test.configured
			warned := make(map[string]bool)
			for _, d := range check(t, b, topics) {
				if d.Setting == kafka.Replication {
					continue
				}
				warned[d.Topic] = true
				want := "topic " + d.Topic + ": min.insync.replicas is 1, not at least 2: "
				if line := d.String(); d.Fatal || !strings.HasPrefix(line, want) || !strings.Contains(line, "--add-config min.insync.replicas=2`") || strings.Contains(line, "\n") {
					t.Errorf("fatal %v: %s", d.Fatal, line)
				}
			}
			if all := len(warned) == len(created); all != test.warned || !all && len(warned) != 0 {
				t.Errorf("warned about %v of %v", warned, created)
			}
		})
	}
}

func TestATopicThatIsMadeAnewHasAnotherID(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		ctx, topic := limit(t), b.Name("baseline")
		id := func() [16]byte {
			t.Helper()
			b.CreateTopic(topic, 1, nil)
			there, err := kafka.Identify(ctx, b.Admin(), topic)
			if err != nil || there[topic].ID == [16]byte{} || there[topic].Partitions != 1 {
				t.Fatalf("%+v, %v", there, err)
			}
			return there[topic].ID
		}
		first := id()
		if _, err := b.Admin().DeleteTopic(ctx, topic); err != nil {
			t.Fatal(err)
		}
		for gone := false; !gone; {
			topics, err := b.Admin().ListTopics(ctx)
			if err != nil {
				t.Fatal(err)
			}
			gone = !topics.Has(topic)
		}
		if second := id(); first == second {
			t.Errorf("both are %x", first)
		}
		if cluster, err := kafka.ClusterID(ctx, b.Admin()); err != nil || cluster == "" {
			t.Errorf("cluster id %q, %v", cluster, err)
		}
		if there, err := kafka.Identify(ctx, b.Admin(), b.Name("nobody")); err != nil || len(there) != 0 {
			t.Errorf("a topic that is not there is %v, %v", there, err)
		}
	})
}

func TestTopicsAreValidated(t *testing.T) {
	if err := kafka.DefaultTopics().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	bad := kafka.Topics{Signins: "a topic", Baseline: "same", Alerts: "same", DeadLetter: "..", Partitions: 0, Replication: -1}
	err := bad.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, key := range []string{"topics.signins", "topics.alerts", "topics.dead_letter", "topics.partitions", "topics.replication"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], key+": ") {
			t.Fatalf("line %d is not of %s:\n%v", i, key, err)
		}
	}
}
