package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/entra"
)

// decoded counts the sign-ins of a message and returns the time of the newest.
func decoded(t *testing.T, message []byte) (n int, newest time.Time) {
	t.Helper()
	entra.NewDecoder().Decode(message, func(s *detector.SignIn) {
		n++
		if s.Generated.After(newest) {
			newest = s.Generated
		}
	}, func(u entra.Unreadable) { t.Error(u) })
	return n, newest
}

func TestGenRepeatsItselfForTheSameSeed(t *testing.T) {
	args := strings.Fields("gen --users 5 --days 2 --start 2026-11-01T00:00:00Z --shape mixed --out - --seed")
	a, again, b := prtwatch("", append(args, "1")...), prtwatch("", append(args, "1")...), prtwatch("", append(args, "2")...)
	if a.code != exitDone || a.stdout == "" || a != again {
		t.Errorf("exit code %d, %q; %d and %d bytes", a.code, a.stderr, len(a.stdout), len(again.stdout))
	}
	if a.stdout == b.stdout {
		t.Error("another seed gives the same")
	}
}

func TestGenLabelsWhatItMade(t *testing.T) {
	dir := t.TempDir()
	out, labels := filepath.Join(dir, "out"), filepath.Join(dir, "labels")
	got := prtwatch("", strings.Fields("gen --users 20 --days 6 --start 2026-11-01T00:00:00Z --seed 7 --out "+out+" --labels "+labels)...)
	if got.code != exitDone || !strings.Contains(got.stderr, " sign-ins in ") {
		t.Fatalf("%+v", got)
	}
	made, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for line := range bytes.Lines(made) {
		entra.NewDecoder().Decode(line, func(s *detector.SignIn) { ids[strings.Clone(s.ID)] = true }, func(u entra.Unreadable) { t.Error(u) })
	}
	text, err := os.ReadFile(labels)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]int{}
	for line := range strings.Lines(string(text)) {
		var l struct{ ID, Label string }
		if err := json.Unmarshal([]byte(line), &l); err != nil || !ids[l.ID] {
			t.Fatalf("%v, %s", err, line)
		}
		by[l.Label]++
	}
	if by["theft"] == 0 || by["repeat"] == 0 || by[""] > 0 {
		t.Errorf("%v", by)
	}
}

func TestGenInThePresentKeepsItsRateAndEndsInTime(t *testing.T) {
	begun := time.Now()
	got := prtwatch("", "gen", "--rate", "200", "--for", "1s", "--out", "-")
	took := time.Since(begun)
	if got.code != exitDone || took < time.Second || took > 10*time.Second {
		t.Errorf("%s, %+v", took, got.stderr)
	}
	n, first, last := 0, time.Time{}, time.Time{} // from the first message on, by the time of each
	for line := range strings.Lines(got.stdout) {
		in, newest := decoded(t, []byte(line))
		if newest.Before(begun.Add(-time.Second)) || newest.After(time.Now()) {
			t.Errorf("a sign-in of %s", newest)
		}
		if last = newest; first.IsZero() {
			first = newest
		} else {
			n += in
		}
	}
	// It may end long after the last that came out, on a busy machine.
	if want := 200 * last.Sub(first).Seconds(); first.IsZero() || float64(n) < want-50 || float64(n) > want+60 {
		t.Errorf("%d sign-ins in %s", n, last.Sub(first))
	}
}

func TestASignalEndsGen(t *testing.T) {
	cmd := process(t, "gen", "--rate", "1000", "--out", "-")
	_, stdout := pipes(t, cmd)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go func() { // or it could not write what it has
		for buf := make([]byte, 1<<16); ; {
			if _, err := stdout.Read(buf); err != nil {
				return
			}
		}
	}()
	endBySignal(t, cmd, exitDone)
	if !strings.Contains(stderr.String(), " sign-ins in ") {
		t.Errorf("%s", &stderr)
	}
}

func TestTopicsAreShownMadeAndThenRight(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		args := func(more ...string) []string {
			return append(append([]string{"topics"}, topicFlags(b)...), more...)
		}
		input := b.Name("input")
		got := prtwatch("", args()...)
		if got.code != exitWrong || strings.Count(got.stdout, "  missing  ") != 5 || !strings.Contains(got.stderr, "prtwatch: topic "+input+" is missing: ") {
			t.Errorf("%+v", got)
		}
		got = prtwatch("", args("--create")...)
		if got.code != exitWrong || strings.Count(got.stdout, "created ") != 4 || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("without --input: %+v", got)
		}
		got = prtwatch("", args("--create", "--input")...)
		if got.code != exitDone || !strings.Contains(got.stdout, "created "+input+"\n") || got.stderr != "" {
			t.Errorf("with --input: %+v", got)
		}
		got = prtwatch("", args("--set", "topics.partitions=3")...)
		if got.code != exitWrong || strings.Count(got.stderr, "partitions is 4, not 3") != 3 {
			t.Errorf("another count: %+v", got)
		}
	})
}

// topicFlags name the broker and topics of a test.
func topicFlags(b *brokertest.Broker) []string {
	set := map[string]string{
		"kafka.brokers": strings.Join(b.Addrs(), ","), "topics.partitions": "4", "input.topics": b.Name("input"),
		"topics.signins": b.Name("signins"), "topics.baseline": b.Name("baseline"), "topics.alerts": b.Name("alerts"), "topics.dead_letter": b.Name("dead"),
	}
	var flags []string
	for key, value := range set {
		flags = append(flags, "--set", key+"="+value)
	}
	return flags
}

func TestGenWritesToKafkaAsAzureDoes(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		flags := append(topicFlags(b), "--set", "log.level=error")
		gen := append([]string{"gen", "--users", "50", "--days", "3"}, flags...)
		if got := prtwatch("", gen...); got.code != exitWrong || !strings.HasPrefix(got.stderr, "prtwatch: topic "+b.Name("input")+" is missing: ") {
			t.Errorf("%+v", got)
		}
		b.CreateTopic(b.Name("input"), 3, map[string]string{"retention.ms": "-1"})
		got := prtwatch("", gen...)
		if got.code != exitDone {
			t.Fatal(got.stderr)
		}
		signIns, perPartition := 0, map[int32]int{}
		records := b.ReadAll(b.Name("input"))
		for _, r := range records {
			n, newest := decoded(t, r.Value)
			signIns += n
			perPartition[r.Partition]++
			if r.Key != nil || r.Timestamp.Sub(newest).Abs() > time.Millisecond {
				t.Errorf("key %q, timestamp %s of sign-ins until %s", r.Key, r.Timestamp, newest)
			}
		}
		if want := fmt.Sprintf("%d sign-ins in %d messages\n", signIns, len(records)); got.stderr != want {
			t.Errorf("it said %q, there are %s", got.stderr, want)
		}
		for p := range int32(3) {
			if n := perPartition[p]; n < len(records)/3 || n > len(records)/3+1 {
				t.Errorf("%d of %d messages in partition %d", n, len(records), p)
			}
		}
	})
}

func TestGenOnceMakesAHistoryWhereThereIsNone(t *testing.T) {
	b := brokertest.Start(t)
	b.CreateTopic(b.Name("input"), 3, map[string]string{"retention.ms": "-1"})
	gen := append([]string{"gen", "--users", "5", "--days", "2", "--once"}, topicFlags(b)...)
	if got := prtwatch("", gen...); got.code != exitDone || !strings.Contains(got.stderr, " sign-ins in ") {
		t.Fatalf("%+v", got)
	}
	made := len(b.ReadAll(b.Name("input")))
	if got := prtwatch("", gen...); got.code != exitDone || got.stderr != "topic "+b.Name("input")+" has messages: no history is made (--once)\n" {
		t.Errorf("%+v", got)
	}
	if n := len(b.ReadAll(b.Name("input"))); n != made {
		t.Errorf("there are %d messages and were %d", n, made)
	}
	if got := prtwatch("", append(gen, "--set", "input.topics="+b.Name("nowhere"))...); got.code != exitWrong || !strings.Contains(got.stderr, "is missing: ") {
		t.Errorf("no topic: %+v", got)
	}
}

func TestGenWarnsOfARetentionThatIsShorterThanTheHistory(t *testing.T) {
	b := brokertest.Start(t)
	b.CreateTopic(b.Name("input"), 1, map[string]string{"retention.ms": "3600000"})
	kept, ok := retention(t.Context(), kadm.NewClient(b.Client()), b.Name("input"))
	if !ok || kept != time.Hour {
		t.Errorf("%s, %v", kept, ok)
	}
	got := prtwatch("", append([]string{"gen", "--users", "1", "--days", "1"}, topicFlags(b)...)...)
	if got.code != exitDone || !strings.Contains(got.stderr, "keeps 1h0m0s by the records' own time") {
		t.Errorf("%+v", got)
	}
}
