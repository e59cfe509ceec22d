// What the documents tell an operator to type is given to Kafka's own tools, on the real broker that PRTWATCH_TEST_BROKERS names: a
// runbook is read at night, and is not to be wrong then. Start at TestKafkaTakesTheCommandsOfTheDocuments.
package kafka_test

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// instance is the name of members in their groups.
const instance = "prtwatch-0"

// tools are the classes that Kafka's scripts run; there is nothing else in those (bin of its source).
var tools = map[string]string{
	"kafka-acls.sh":             "org.apache.kafka.tools.AclCommand",
	"kafka-configs.sh":          "kafka.admin.ConfigCommand",
	"kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
	"kafka-consumer-groups.sh":  "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
	"kafka-delete-records.sh":   "org.apache.kafka.tools.DeleteRecordsCommand",
	"kafka-topics.sh":           "org.apache.kafka.tools.TopicCommand",
	"kafka-transactions.sh":     "org.apache.kafka.tools.TransactionsCommand",
}

// shown is what a page says that a command shows: what it prints matches, where the command has all the words.
var shown = []struct {
	words  string
	prints string
}{
	{"kafka-consumer-groups.sh --describe -split --members", `(?m)^GROUP .* GROUP-INSTANCE-ID .* CLIENT-ID +#PARTITIONS\s[^#]* 2\s*$`},
	{"kafka-consumer-groups.sh --describe --state", `ASSIGNMENT-STRATEGY`},
	{"kafka-configs.sh --describe INPUT", `(?m)^ *retention\.ms=`},
	{"kafka-transactions.sh describe-producers", `CurrentTransactionStartOffset\s*\n[^\n]*\s0\s*$`},
	{"kafka-console-consumer.sh print.timestamp", `CreateTime:\d+`},
	{"kafka-topics.sh __transaction_state", `Leader: `},
}

// command is one of a page.
type command struct{ page, text string }

// changes reports whether it takes from a group what others of the commands look at, and needs it without members.
func (c command) changes() bool {
	return strings.Contains(c.text, "--reset-offsets") || strings.Contains(c.text, "consumer-groups.sh") && strings.Contains(c.text, "--delete ")
}

var (
	fence     = regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```")
	span      = regexp.MustCompile("`([^`\n]+)`")
	called    = regexp.MustCompile(`kafka-[a-z-]+\.sh +[a-z-]`)
	calledOne = regexp.MustCompile(`^kafka-[a-z-]+\.sh +[a-z-]`)
)

// commands are those of the documents: a block of a shell's as a whole, what is indented by its lines, and what stands within a line.
func commands(t *testing.T) (all []command) {
	t.Helper()
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "target"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".md"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		page, found := strings.TrimPrefix(path, root+"/"), 0
		take := func(text string) {
			all, found = append(all, command{page, text}), found+len(called.FindAllString(text, -1))
		}
		for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
			if called.MatchString(block[2]) {
				take(block[2])
			}
		}
		for _, line := range strings.Split(fence.ReplaceAllString(string(text), ""), "\n") {
			if inner := strings.TrimLeft(line, " "); strings.HasPrefix(line, "    ") && calledOne.MatchString(inner) {
				take(inner)
				continue
			}
			for _, inner := range span.FindAllStringSubmatch(line, -1) {
				if calledOne.MatchString(inner[1]) {
					take(inner[1])
				}
			}
		}
		if want := len(called.FindAllString(string(text), -1)); found != want {
			t.Errorf("%s: %d commands of %d are found: put each between backquotes, in a line of its own that is indented by 4, or in a block of a shell", page, found, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestKafkaTakesTheCommandsOfTheDocuments(t *testing.T) {
	all := commands(t)
	if len(all) < 15 {
		t.Errorf("only %d commands", len(all))
	}
	if os.Getenv(brokertest.Env) == "" {
		t.Skip(brokertest.Env + " names no Kafka: the commands were NOT tried")
	}
	jars, err := filepath.Abs("target/lib")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(jars, ".fetched")); err != nil {
		t.Skip("deploy/kafka/kafka has not fetched Kafka's tools: the commands were NOT tried")
	}
	s := newShell(t, jars)
	for _, changing := range []bool{false, true} {
		if changing {
			s.leave(t)
		}
		for _, c := range all {
			if c.changes() == changing {
				t.Run(fmt.Sprintf("%s: %.60s", c.page, c.text), func(t *testing.T) { s.takes(t, c) })
			}
		}
	}
}

// shell is where commands are run: the names of the pages stand for what belongs to this test, on its broker.
type shell struct {
	b       *brokertest.Broker
	dir     string                 // the scripts, and the file that the pages call FILE
	members map[string]*kgo.Client // by group
}

// newShell makes what the commands look at: topics, a member of each group, and a transaction that does not end.
func newShell(t *testing.T, jars string) *shell {
	t.Helper()
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skip("there is no java: the commands were NOT tried")
	}
	s := &shell{b: brokertest.Start(t), dir: t.TempDir(), members: map[string]*kgo.Client{}}
	for script, class := range tools {
		text := fmt.Sprintf("#!/bin/sh\nexec '%s' -Xmx128m -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp '%s/*' %s \"$@\"\n", java, jars, class)
		if err := os.WriteFile(filepath.Join(s.dir, script), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for topic, partitions := range map[string]int32{"INPUT": 2, "prtwatch.signins": 2, "prtwatch.baseline": 1} {
		s.b.CreateTopic(s.named(topic), partitions, nil)
	}
	s.join(t, s.named("prtwatch-split"), s.named("INPUT"))
	s.join(t, s.named("prtwatch-detect"), s.named("prtwatch.signins"))
	s.hang(t)
	records := fmt.Sprintf(`{"version": 1, "partitions": [{"topic": %q, "partition": 0, "offset": 0}]}`, s.named("prtwatch.signins"))
	if err := os.WriteFile(filepath.Join(s.dir, "records.json"), []byte(records), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		mine := kadm.NewACLs().AnyResource().ResourcePatternType(kadm.ACLPatternAny).Allow(s.named("User:prtwatch")).AllowHosts().Operations()
		_, _ = s.b.Admin().DeleteACLs(ctx, mine) // refused where the broker has none
	})
	return s
}

// join has a group a member, which owns the topic and has committed an offset.
func (s *shell) join(t *testing.T, group, topic string) {
	t.Helper()
	s.b.Produce(&kgo.Record{Topic: topic, Value: []byte("a record")})
	client := s.b.Client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.InstanceID(instance), kgo.ClientID("prtwatch"), kgo.DisableAutoCommit())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fetches := client.PollFetches(ctx)
	if err := fetches.Err(); err != nil {
		t.Fatalf("reading %s: %v", topic, err)
	}
	if err := client.CommitRecords(ctx, fetches.Records()...); err != nil {
		t.Fatalf("committing offsets of %s: %v", topic, err)
	}
	s.members[group] = client
}

// hang begins a transaction on the baseline topic.
func (s *shell) hang(t *testing.T) {
	t.Helper()
	client := s.b.Client(kgo.TransactionalID(s.named("prtwatch-detect-0")), kgo.TransactionTimeout(10*time.Minute), kgo.MetadataMinAge(10*time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: s.named("prtwatch.baseline"), Value: []byte("a profile")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// leave has the members leave their groups, which a static one does not by ending.
func (s *shell) leave(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for group, client := range s.members {
		client.Close()
		left, err := s.b.Admin().LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs(instance))
		if err = cmp.Or(err, left.Error()); err != nil {
			t.Fatalf("leaving %s: %v", group, err)
		}
	}
}

// named fills in names for those of the pages.
func (s *shell) named(text string) string {
	brokers := strings.Join(s.b.Addrs(), ",")
	for _, name := range []struct{ is, becomes string }{
		{`\b(INPUT_)?BROKERS?\b|\bkafka-1:9092\b`, brokers},
		{`\bINPUT\b|\binsights-logs-noninteractiveusersigninlogs\b`, s.b.Name("input")},
		{`\bprtwatch\b`, s.b.Name("prtwatch")},
		{`\bFILE\b`, filepath.Join(s.dir, "records.json")},
		{`\b(PARTITION|OFFSET)\b`, "0"},
		{`\bBEFORE\b`, "2026-01-01T00:00:00.000"},
	} {
		text = regexp.MustCompile(name.is).ReplaceAllLiteralString(text, name.becomes)
	}
	return text
}

// takes runs a command, and wants it to do and to print what its page says.
func (s *shell) takes(t *testing.T, c command) {
	for _, script := range regexp.MustCompile(`kafka-[a-z-]+\.sh`).FindAllString(c.text, -1) {
		if tools[script] == "" {
			t.Fatalf("which class is %s?", script)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/bash", "-ec", s.named(c.text))
	cmd.Dir, cmd.Env = s.dir, []string{"PATH=" + s.dir} // nothing else is run by accident
	ended := s.feed(ctx)
	out, err := cmd.CombinedOutput()
	cancel()
	<-ended
	if strings.Contains(string(out), "No Authorizer is configured") {
		t.Skip("the broker has no ACLs: deploy/kafka/kafka up --secure")
	}
	// Some print what is wrong and end well.
	if err != nil || regexp.MustCompile(`(?i)\berror\b|exception|deprecated|not a valid`).Match(out) {
		t.Errorf("%s\n%v\n%.2000s", cmd.Args[2], err, out)
	}
	for _, s := range shown {
		has := !slices.ContainsFunc(strings.Fields(s.words), func(word string) bool { return !strings.Contains(c.text, word) })
		if has && !regexp.MustCompile(s.prints).Match(out) {
			t.Errorf("%s\ndoes not show %s:\n%.2000s", cmd.Args[2], s.prints, out)
		}
	}
}

// feed has sign-ins come to the input until the context ends, for who waits for some. The channel is closed afterwards.
func (s *shell) feed(ctx context.Context) <-chan struct{} {
	ended, client, topic := make(chan struct{}), s.b.Client(), s.named("INPUT")
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_ = client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("a sign-in")})
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	return ended
}
