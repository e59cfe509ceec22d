package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/oracle"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// about is what a format's folder says of itself and of the brokers that it was written beside.
type about struct {
	Program  string                 `json:"program"` // prtwatch version
	Delivery string                 `json:"delivery"`
	Cluster  string                 `json:"cluster"`
	Topics   map[string]formatTopic `json:"topics"`
	Judged   map[int32]int64        `json:"judged"` // the offsets of the input behind the last that is judged
}

type formatTopic struct {
	ID   string          `json:"id"`
	Ends map[int32]int64 `json:"ends"`
}

// formatRecord is a record of a topic; text that is none of UTF-8 would not survive, so bytes are base64.
type formatRecord struct {
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	Offset    int64          `json:"offset"`
	Time      time.Time      `json:"time"`
	Key       []byte         `json:"key"`
	Value     []byte         `json:"value"`
	Headers   []formatHeader `json:"headers,omitempty"`
}

type formatHeader struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// formatOffset is a committed offset of a group, with what it was committed with.
type formatOffset struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	At        int64  `json:"at"`
	Metadata  string `json:"metadata"`
}

// newFormatInstallation is an installation with the names that everybody has.
func newFormatInstallation(t *testing.T, b *brokertest.Broker, delivery string) *installation {
	t.Helper()
	query, err := oracle.New(oracle.Options{OpenFarEdge: true})
	if err != nil {
		t.Fatal(err)
	}
	topics := kafka.DefaultTopics()
	in := &installation{
		t: t, b: b, inputBroker: b, input: "insights-logs-noninteractiveusersigninlogs", alerts: topics.Alerts, signs: topics.Signins,
		query: query, ids: map[string]int{}, random: rand.New(rand.NewPCG(1, 2)),
	}
	for _, kv := range []string{
		"kafka.brokers=" + strings.Join(b.Addrs(), ","), fmt.Sprintf("topics.partitions=%d", formatPartitions),
		"http.listen=127.0.0.1:0", "detect.members=2", "log.format=text", "delivery=" + delivery,
	} {
		in.config = append(in.config, "--set", kv)
	}
	return in
}

const splitGroup, detectGroup = "prtwatch-split", "prtwatch-detect"

// judged waits until an instance has judged all that is in the input.
func (in *installation) judged(i *instance) {
	in.t.Helper()
	waitFor(in.t, "both groups to reach the end", func() bool {
		if strings.Contains(i.log.String(), "prtwatch: ") { // as which it ends
			in.t.Fatal("the instance has ended")
		}
		return atEnd(in.b, in.input, splitGroup) && atEnd(in.b, in.signs, detectGroup)
	})
}

// leaving is a run of a program, of this one where program is empty, on the judged and the waiting passages.
type leaving struct {
	program, version string
	delivery         string
	story            []passage
	inputs           []formatRecord  // the messages that it reads, nil for new ones
	last             map[int32]int64 // and behind which of them the waiting begin
}

// write runs it, stops it in good order, and writes what it leaves behind to dir.
func (l *leaving) write(t *testing.T, dir string) {
	t.Helper()
	b := brokertest.Fake(t)
	in := newFormatInstallation(t, b, l.delivery)
	in.program = l.program
	b.CreateTopic(in.input, inputPartitions, map[string]string{"retention.ms": "-1"})
	if got := prtwatch("", append([]string{"topics", "--create"}, in.config...)...); got.code != 0 {
		t.Fatalf("topics --create: %d %s", got.code, got.stderr)
	}
	feed := func(phase string) {
		if l.inputs == nil {
			in.write(inPhase(l.story, phase), 3)
			return
		}
		for _, r := range l.inputs {
			if (phase == "judged") == (r.Offset < l.last[r.Partition]) {
				b.Produce(r.record())
			}
		}
	}
	feed("judged")
	stateDir := filepath.Join(t.TempDir(), "state")
	i := in.start(stateDir)
	in.judged(i)
	i.stop()
	about := about{Program: l.version, Delivery: l.delivery, Topics: map[string]formatTopic{}, Judged: in.ends(in.input)}
	feed("waiting")
	i = in.start(t.TempDir(), "--only", "split")
	waitFor(t, "what waits to be split", func() bool { return atEnd(b, in.input, splitGroup) })
	if l.program != "" { // to be kept, so with a tick, which takes a minute
		waitFor(t, "a tick", func() bool { return i.metric("prtwatch_split_ticks_total") >= formatPartitions })
	}
	i.stop()
	in.dump(dir, &about)
	if err := os.CopyFS(filepath.Join(dir, "state"), os.DirFS(stateDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "state", "lock")); err != nil {
		t.Fatal(err)
	}
}

// ends is where the partitions of a topic end.
func (in *installation) ends(topic string) map[int32]int64 {
	in.t.Helper()
	listed, err := in.b.Admin().ListEndOffsets(in.t.Context(), topic)
	if err = errors.Join(err, listed.Error()); err != nil {
		in.t.Fatal(err)
	}
	ends := make(map[int32]int64)
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends
}

// dump writes topics and offsets to dir.
func (in *installation) dump(dir string, a *about) {
	in.t.Helper()
	var err error
	if a.Cluster, err = kafka.ClusterID(in.t.Context(), in.b.Admin()); err != nil {
		in.t.Fatal(err)
	}
	var records []formatRecord
	names := []string{in.input, in.signs, "prtwatch.baseline", in.alerts, "prtwatch.dead-letter"}
	there, err := kafka.Identify(in.t.Context(), in.b.Admin(), names...)
	if err != nil {
		in.t.Fatal(err)
	}
	for _, topic := range names {
		a.Topics[topic] = formatTopic{fmt.Sprintf("%x", there[topic].ID), in.ends(topic)}
		for _, r := range in.b.ReadAll(topic) {
			one := formatRecord{Topic: topic, Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp.UTC(), Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				one.Headers = append(one.Headers, formatHeader{h.Key, h.Value})
			}
			records = append(records, one)
		}
	}
	var offsets []formatOffset
	for _, group := range []string{splitGroup, detectGroup} {
		fetched, err := in.b.Admin().FetchOffsets(in.t.Context(), group)
		if err != nil {
			in.t.Fatal(err)
		}
		for _, o := range fetched.Sorted() {
			offsets = append(offsets, formatOffset{group, o.Topic, o.Partition, o.At, o.Metadata})
		}
	}
	writeLines(in.t, filepath.Join(dir, "about.json"), *a)
	writeLines(in.t, filepath.Join(dir, "records.jsonl"), records...)
	writeLines(in.t, filepath.Join(dir, "offsets.jsonl"), offsets...)
}

func (r *formatRecord) record() *kgo.Record {
	record := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Timestamp: r.Time}
	for _, h := range r.Headers {
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return record
}

func writeLines[T any](t *testing.T, file string, lines ...T) {
	t.Helper()
	var text bytes.Buffer
	for _, line := range lines {
		one, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(append(one, '\n'))
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, text.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func readLines[T any](t *testing.T, file string) (lines []T) {
	t.Helper()
	text, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	for decoder := json.NewDecoder(bufio.NewReader(text)); decoder.More(); {
		var line T
		if err := decoder.Decode(&line); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		lines = append(lines, line)
	}
	return lines
}

// left is a format's folder, read.
type left struct {
	dir      string
	about    about
	story    []passage
	records  []formatRecord
	offsets  []formatOffset
	profiles profiles
}

func readFormat(t *testing.T, name string) *left {
	t.Helper()
	dir := filepath.Join(formatsDir, name)
	return &left{
		dir:      dir,
		about:    readLines[about](t, filepath.Join(dir, "about.json"))[0],
		story:    readLines[passage](t, filepath.Join(dir, "story.jsonl")),
		records:  readLines[formatRecord](t, filepath.Join(dir, "records.jsonl")),
		offsets:  readLines[formatOffset](t, filepath.Join(dir, "offsets.jsonl")),
		profiles: readLines[profiles](t, filepath.Join(dir, "profiles.json"))[0],
	}
}

func (l *left) in(topic string) (records []formatRecord) {
	for _, r := range l.records {
		if r.Topic == topic {
			records = append(records, r)
		}
	}
	return records
}

// stateCopy is a copy of the folder's state that may be changed.
func (l *left) stateCopy(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(l.dir, "state"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// broker has what was there when the format's program stopped: the same cluster and topics by their
// ids, the records at their offsets, the groups' offsets with what they came with.
func (l *left) broker(t *testing.T) *brokertest.Broker {
	t.Helper()
	type topic struct {
		Name       string            `json:"name"`
		ID         []byte            `json:"id"`
		Partitions int               `json:"partitions"`
		Replicas   int               `json:"replicas"`
		Configs    map[string]string `json:"configs"`
	}
	settings := make(map[string]map[string]string)
	for _, spec := range kafka.DefaultTopics().Specs() {
		settings[spec.Topic] = make(map[string]string)
		for _, s := range spec.Settings {
			settings[spec.Topic][s.Name] = s.Value
		}
	}
	var topics []topic
	for name, of := range l.about.Topics {
		id, err := hex.DecodeString(of.ID)
		if err != nil {
			t.Fatal(err)
		}
		configs := settings[name]
		if configs == nil {
			configs = map[string]string{"retention.ms": "-1"}
		}
		topics = append(topics, topic{name, id, len(of.Ends), 1, configs})
	}
	dir := t.TempDir()
	writeLines(t, filepath.Join(dir, "meta.json"), map[string]any{"version": 1, "cluster_id": l.about.Cluster})
	writeLines(t, filepath.Join(dir, "topics.json"), map[string]any{"version": 1, "topics": topics})
	b := brokertest.Fake(t, kfake.DataDir(dir))
	l.fill(t, b)
	return b
}

// fill puts each record at its offset. What is missing between two is where a transaction was committed.
func (l *left) fill(t *testing.T, b *brokertest.Broker) {
	t.Helper()
	writer := b.Client(kgo.TransactionalID("formats"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	type place struct {
		topic     string
		partition int32
	}
	of := make(map[place][]formatRecord)
	for _, r := range l.records {
		at := place{r.Topic, r.Partition}
		of[at] = append(of[at], r)
	}
	for at, records := range of {
		end := l.about.Topics[at.topic].Ends[at.partition]
		for len(records) > 0 {
			n := 1
			for n < len(records) && records[n].Offset == records[n-1].Offset+1 {
				n++
			}
			run := make([]*kgo.Record, n)
			for i := range run {
				run[i] = records[i].record()
			}
			next := end
			if n < len(records) {
				next = records[n].Offset
			}
			var err error
			switch next - records[n-1].Offset {
			case 1:
				b.Produce(run...)
			case 2:
				err = errors.Join(writer.BeginTransaction(), writer.ProduceSync(t.Context(), run...).FirstErr(), writer.EndTransaction(t.Context(), kgo.TryCommit))
			default:
				t.Fatalf("%s/%d: nothing that is known lies between offsets %d and %d", at.topic, at.partition, records[n-1].Offset, next)
			}
			if err != nil {
				t.Fatal(err)
			}
			records = records[n:]
		}
	}
	for name, topic := range l.about.Topics {
		listed, err := b.Admin().ListEndOffsets(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		listed.Each(func(o kadm.ListedOffset) {
			if o.Offset != topic.Ends[o.Partition] {
				t.Fatalf("%s/%d ends at %d, not at %d", name, o.Partition, o.Offset, topic.Ends[o.Partition])
			}
		})
	}
	for _, o := range l.offsets {
		offsets := make(kadm.Offsets)
		offsets.Add(kadm.Offset{Topic: o.Topic, Partition: o.Partition, At: o.At, LeaderEpoch: -1, Metadata: o.Metadata})
		committed, err := b.Admin().CommitOffsets(t.Context(), o.Group, offsets)
		if err = errors.Join(err, committed.Error()); err != nil {
			t.Fatal(err)
		}
	}
}
