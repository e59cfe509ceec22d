package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/oracle"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// What each format leaves behind lies in a folder of its own, see testdata/formats/README.md. A
// folder is written once, by the last version that writes that format, and read by all later ones.
var (
	writeFormat   = flag.String("write-format", "", "write what prtwatch leaves behind to testdata/formats/`NAME`")
	formatProgram = flag.String("format-program", "", "with -write-format: the `PROGRAM` that leaves it behind")
)

const (
	formatsDir       = "testdata/formats"
	newestFormat     = "2" // what this version writes
	atLeastOnce      = "-at-least-once"
	formatPartitions = 3
)

// passage is one sign-in of a format's story. Phase says when it comes: what is "judged" is in the profiles, what is
// "waiting" has been split and not judged, and the "next" come after the upgrade.
type passage struct {
	Phase string    `json:"phase"`
	ID    string    `json:"id"`
	User  string    `json:"user"`
	IP    string    `json:"ip"`
	ASN   string    `json:"asn"`
	At    time.Time `json:"at"`
	Fails bool      `json:"fails,omitempty"`
}

// story is told to every format: it needs every field of a profile, the far edge of the window,
// and an alert that is remembered.
func story(now time.Time) (all []passage) {
	last := now.UTC().Truncate(time.Hour).Add(-time.Hour) // the hour of what comes next
	see := func(phase, user, ip, asn string, hoursBack, minute int, fails bool) {
		all = append(all, passage{
			Phase: phase, ID: fmt.Sprintf("sign-in-%d", len(all)+1), User: user, IP: ip, ASN: asn,
			At: last.Add(-time.Duration(hoursBack)*time.Hour - time.Duration(minute)*time.Minute), Fails: fails,
		})
	}
	const ann, bob, carol, dave, eve = "ann@example.com", "bob@example.com", "carol@example.com", "dave@example.com", "eve@example.com"
	see("judged", ann, "203.0.113.2", "64503", 336, 1, true) // forgotten by then
	see("judged", ann, "203.0.113.1", "64501", 335, 1, true) // just known
	for day := range 10 {
		see("judged", ann, "198.51.100.7", "64500", 300-24*day, 2, true)
		see("judged", bob, fmt.Sprintf("2001:db8:%d::1", 1+day), "64504", 299-24*day, 3, true)
	}
	see("judged", bob, "", "", 60, 4, true)
	see("judged", bob, "no address, but a text that is longer than any address", "64505", 59, 5, true)
	see("judged", bob, "198.51.100.9:443", "64506", 58, 6, true)
	for n := range 40 {
		see("judged", dave, fmt.Sprintf("192.0.2.%d", n), fmt.Sprint(64496+n%12), 80-n, 7, n%3 > 0)
	}
	see("judged", "", "198.51.100.20", "64507", 40, 8, false) // alerts: nobody's first
	see("judged", carol, "198.51.100.30", "64508", 30, 9, false)
	repeated := all[len(all)-1] // alerts, and comes again under the same id
	slices.SortStableFunc(all, func(x, y passage) int { return x.At.Compare(y.At) })

	repeated.Phase, repeated.At = "waiting", last.Add(-150*time.Minute)
	all = append(all, repeated)
	see("waiting", ann, "198.51.100.7", "64509", 2, 20, false)  // a known address
	see("waiting", ann, "198.51.100.40", "64500", 2, 19, false) // a known network
	see("waiting", ann, "198.51.100.41", "64510", 2, 18, false) // alerts
	see("next", ann, "203.0.113.1", "64510", 0, 17, false)      // known for an hour more
	see("next", ann, "203.0.113.2", "64503", 0, 16, false)      // alerts
	see("next", bob, "198.51.100.9", "64511", 0, 15, false)     // the address is known without its port
	see("next", bob, "198.51.100.50", "64505", 0, 14, false)    // known by the network of a text
	see("next", bob, "198.51.100.51", "64511", 0, 13, false)    // alerts
	see("next", dave, "192.0.2.39", "64511", 0, 12, false)      // known
	see("next", dave, "198.51.100.52", "64509", 0, 11, false)   // alerts
	see("next", carol, "198.51.100.30", "64508", 0, 10, false)  // known since it alerted
	see("next", eve, "198.51.100.53", "64508", 0, 9, false)     // alerts: nothing is known of him
	see("next", "", "198.51.100.20", "64511", 0, 8, false)      // known
	return all
}

// of returns what comes in a phase, as a test writes it.
func of(story []passage, phase string) (list []made) {
	for _, p := range story {
		if p.Phase == phase {
			list = append(list, made{id: p.ID, user: p.User, ip: p.IP, asn: p.ASN, at: p.At, fails: p.Fails})
		}
	}
	return list
}

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

// profiles are by user: the hours in which each network was seen, and the ids of what alerted.
type profiles map[string]*formatProfile

type formatProfile struct {
	IPs    map[string][]int32 `json:"ips"`
	ASNs   map[string][]int32 `json:"asns"`
	Alerts []string           `json:"alerts,omitempty"`
}

// learned is what the judged passages teach, by the rule as it is written down: every sign-in is
// remembered under its hour (docs/semantics.md).
func learned(story []passage) profiles {
	learned := make(profiles)
	for _, p := range story {
		if p.Phase != "judged" {
			continue
		}
		of := learned[p.User]
		if of == nil {
			of = &formatProfile{IPs: map[string][]int32{}, ASNs: map[string][]int32{}}
			learned[p.User] = of
		}
		hour := detector.HourOf(p.At)
		ip := strings.TrimSuffix(p.IP, ":443") // baselines know addresses without their port
		of.IPs[ip], of.ASNs[p.ASN] = append(of.IPs[ip], hour), append(of.ASNs[p.ASN], hour)
	}
	return learned
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
			in.write(of(l.story, phase), 3)
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

func TestWriteWhatAFormatLeavesBehind(t *testing.T) {
	if *writeFormat == "" {
		t.Skip("it writes test data: see testdata/formats/README.md")
	}
	version, err := exec.Command(*formatProgram, "version").Output()
	if err != nil {
		t.Fatalf("-format-program: %v", err)
	}
	dir := filepath.Join(formatsDir, *writeFormat)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	told := story(time.Now())
	(&leaving{program: *formatProgram, version: string(version), delivery: deliveryOf(*writeFormat), story: told}).write(t, dir)
	learned := learned(told)
	l := &left{records: readLines[formatRecord](t, filepath.Join(dir, "records.jsonl"))}
	for _, r := range l.in("prtwatch.alerts") {
		var alert detector.Alert
		if err := json.Unmarshal(r.Value, &alert); err != nil {
			t.Fatal(err)
		}
		of := learned[string(r.Key)]
		of.Alerts = append(of.Alerts, alert.ID)
	}
	writeLines(t, filepath.Join(dir, "story.jsonl"), told...)
	writeLines(t, filepath.Join(dir, "profiles.json"), learned)
}

func deliveryOf(format string) string {
	if strings.HasSuffix(format, atLeastOnce) {
		return "at-least-once"
	}
	return "exactly-once"
}

// onItsOwn skips a test where it would run a second time: it has an embedded broker, whatever there is besides.
func onItsOwn(t *testing.T) {
	t.Helper()
	if os.Getenv(brokertest.Env) != "" {
		t.Skip("it takes no broker but its own: unset " + brokertest.Env)
	}
}

// eachFormat runs a test for each folder.
func eachFormat(t *testing.T, test func(t *testing.T, l *left)) {
	t.Helper()
	onItsOwn(t)
	folders, err := os.ReadDir(formatsDir)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, f := range folders {
		if f.IsDir() {
			names[f.Name()] = true
			t.Run(f.Name(), func(t *testing.T) {
				t.Parallel()
				test(t, readFormat(t, f.Name()))
			})
		}
	}
	for _, want := range []string{"1", "1" + atLeastOnce, newestFormat, newestFormat + atLeastOnce} {
		if !names[want] {
			t.Errorf("there is no %s", filepath.Join(formatsDir, want))
		}
	}
}

// wantProfiles compares a state with what a format's folder says of it.
func (l *left) wantProfiles(t *testing.T, store *state.Store) {
	t.Helper()
	ips, asns := make(map[string]bool), make(map[string]bool)
	for _, p := range l.profiles {
		maps.Copy(ips, asSet(slices.Collect(maps.Keys(p.IPs))))
		maps.Copy(asns, asSet(slices.Collect(maps.Keys(p.ASNs))))
	}
	for user, want := range l.profiles {
		lease, err := store.Lease(t.Context(), kafka.Partition([]byte(user), formatPartitions))
		if err != nil {
			t.Fatal(err)
		}
		got, err := lease.Profile(user)
		if err != nil {
			t.Fatal(err)
		}
		newest := int32(math.MinInt32)
		for _, hours := range want.IPs {
			newest = max(newest, slices.Max(hours))
		}
		for hour := newest - detector.Window; hour <= newest+1; hour++ {
			for ip := range ips {
				if known := slices.Contains(want.IPs[ip], hour); got.KnownIP(ip, hour, hour) != known {
					t.Errorf("%q was at address %q in hour %d: want %t", user, ip, hour, known)
				}
			}
			for asn := range asns {
				if known := slices.Contains(want.ASNs[asn], hour); got.KnownASN(asn, hour, hour) != known {
					t.Errorf("%q was in network %q in hour %d: want %t", user, asn, hour, known)
				}
			}
		}
		for _, id := range want.Alerts {
			if !got.Alerted(uuid.MustParse(id)) {
				t.Errorf("%q: the alert %s is forgotten", user, id)
			}
		}
		if err := lease.Release(); err != nil {
			t.Fatal(err)
		}
	}
}

func asSet(list []string) map[string]bool {
	set := make(map[string]bool)
	for _, one := range list {
		set[one] = true
	}
	return set
}

func openState(t *testing.T, dir string, log *bytes.Buffer) *state.Store {
	t.Helper()
	cfg := state.DefaultConfig()
	cfg.Dir, cfg.Cache = dir, 16<<20
	store, err := state.Open(cfg, detector.Window, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestAStateFolderOfEachFormatIsRead(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *left) {
		var log bytes.Buffer
		store := openState(t, l.stateCopy(t), &log)
		defer store.Close()
		l.wantProfiles(t, store)
		if log.Len() > 0 { // that it was damaged, say
			t.Error(log.String())
		}
	})
}

func TestABaselineTopicOfEachFormatIsRead(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *left) {
		var log bytes.Buffer
		store := openState(t, t.TempDir(), &log)
		defer store.Close()
		for p := range int32(formatPartitions) {
			lease, err := store.Lease(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range l.in("prtwatch.baseline") {
				if r.Partition == p {
					err = errors.Join(err, lease.Put(r.Key, state.Bare(r.Value)))
				}
			}
			if err := errors.Join(err, lease.Restored(state.Checkpoint{Offset: 1}), lease.Release()); err != nil {
				t.Fatal(err)
			}
		}
		l.wantProfiles(t, store)
	})
}

// An upgrade: what the format's program left is judged on by this version, with the state folder as it was, and with
// the state restored from the topic. Either way the alerts are the query's rows over all that ever came, each once.
func TestThisVersionGoesOnWhereEachFormatStopped(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *left) {
		withState := l.goOn(t, l.stateCopy(t), func(i *instance) {
			if n := i.metric("prtwatch_restore_records_total"); n > 0 {
				t.Errorf("%v records were restored though the state folder has them", n)
			}
		})
		restored := l.goOn(t, t.TempDir(), func(i *instance) {
			if n := i.metric("prtwatch_restore_records_total"); n == 0 {
				t.Error("nothing was restored")
			}
		})
		if !maps.EqualFunc(withState, restored, func(x, y []*kgo.Record) bool { return slices.EqualFunc(x, y, sameRecord) }) {
			t.Errorf("other alerts with the state folder (%d) than with what is restored (%d)", len(withState), len(restored))
		}
	})
}

// goOn runs this version on what the format's program left, until all is judged that waited or comes next.
func (l *left) goOn(t *testing.T, stateDir string, look func(*instance)) (alerts map[string][]*kgo.Record) {
	t.Helper()
	in := newFormatInstallation(t, l.broker(t), l.about.Delivery)
	for _, phase := range []string{"judged", "waiting"} {
		for _, s := range of(l.story, phase) {
			if err := in.query.Add(s.record()); err != nil {
				t.Fatal(err)
			}
		}
	}
	in.write(of(l.story, "next"), 3)
	i := in.start(stateDir)
	in.judged(i)
	look(i)
	i.stop()
	for _, unwanted := range []string{"of no use", "damaged", "level=WARN", "level=ERROR"} {
		if strings.Contains(i.log.String(), unwanted) {
			t.Errorf("the log says %q:\n%s", unwanted, i.log)
		}
	}
	l.wantSourcesKept(t, in)
	c := in.compare()
	if c.rows < 6 || len(c.missing)+len(c.repeated)+len(c.madeUp) > 0 {
		t.Errorf("of %d rows of the query %q are missing, %q came more than once, %q are made up", c.rows, c.missing, c.repeated, c.madeUp)
	}
	in.wantNoLetters()
	return c.alerts
}

// wantSourcesKept checks that the offsets of the input were believed: their sources have the numbers of before,
// by which what is split again is known.
func (l *left) wantSourcesKept(t *testing.T, in *installation) {
	t.Helper()
	offsets, err := in.b.Admin().FetchOffsets(t.Context(), splitGroup)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range l.offsets {
		if o.Group != splitGroup {
			continue
		}
		source := strings.Fields(o.Metadata)[6]
		if now, _ := offsets.Lookup(o.Topic, o.Partition); !slices.Contains(strings.Fields(now.Metadata), source) {
			t.Errorf("%s/%d: the source %s is given up: %s", o.Topic, o.Partition, source, now.Metadata)
		}
	}
}

func (in *installation) wantNoLetters() {
	in.t.Helper()
	if letters := in.b.ReadAll("prtwatch.dead-letter"); len(letters) > 0 {
		in.t.Errorf("%d dead letters, the first with headers %v", len(letters), letters[0].Headers)
	}
}

// What this version leaves behind is what the newest folder has. Where it is not, the format has changed: raise its
// version, go on reading the old one, and write a folder for the new one; testdata/formats/README.md says how.
func TestThisVersionLeavesBehindWhatTheNewestFormatHas(t *testing.T) {
	onItsOwn(t)
	for _, name := range []string{newestFormat, newestFormat + atLeastOnce} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := readFormat(t, name)
			dir := t.TempDir()
			(&leaving{delivery: l.about.Delivery, story: l.story, inputs: l.in("insights-logs-noninteractiveusersigninlogs"), last: l.about.Judged}).write(t, dir)
			now := &left{
				dir: dir, records: readLines[formatRecord](t, filepath.Join(dir, "records.jsonl")),
				offsets: readLines[formatOffset](t, filepath.Join(dir, "offsets.jsonl")),
			}
			l.wantTicks(t)
			got, want := now.shape(t), l.shape(t)
			for what, shape := range want {
				if got[what] != shape {
					t.Errorf("%s is written as\n %s\nand was as\n %s", what, got[what], shape)
				}
				delete(got, what)
			}
			for what := range got {
				t.Errorf("%s is written, and was not", what)
			}
		})
	}
}

// wantTicks checks that this version writes a tick as the folder has it, without the minute that the next one takes.
func (l *left) wantTicks(t *testing.T) {
	t.Helper()
	ticks := 0
	for _, r := range l.in("prtwatch.signins") {
		kept := r.record()
		if kind, control := signins.ControlOf(kept.Headers); !control || kind != signins.KindTick {
			continue
		}
		ticks++
		tick, err := signins.DecodeTick(kept.Value)
		if err != nil {
			t.Fatal(err)
		}
		now := tick.Record()
		now.Partition = kept.Partition
		if !sameRecord(now, kept) {
			t.Errorf("a tick is written as %x, %v, and was as %x, %v", now.Value, now.Headers, kept.Value, kept.Headers)
		}
	}
	if ticks == 0 {
		t.Error("the folder has no tick")
	}
}

// shape is all that a version leaves behind but for what chance and the clock put there: numbers of
// sources, ids of topics, offsets in transactions. Ticks are not in it.
func (l *left) shape(t *testing.T) map[string]string {
	t.Helper()
	shape := make(map[string]string)
	for _, r := range l.records {
		what := fmt.Sprintf("%s/%d %s", r.Topic, r.Partition, r.Key)
		value := r.Value
		var headers []string
		for _, h := range r.Headers {
			headers = append(headers, h.Key+"="+masked(string(h.Value)))
		}
		switch r.Topic {
		case "insights-logs-noninteractiveusersigninlogs":
			continue
		case "prtwatch.signins":
			if _, control := signins.ControlOf(r.record().Headers); control {
				continue // see wantTicks
			}
			var s detector.SignIn
			if err := signins.Decode(value, &s); err != nil {
				t.Fatal(err)
			}
			what += fmt.Sprint(s.ID, s.Generated)
			value = bytes.Clone(value)
			copy(value[4:], "....") // version, tag, length, and then the number of the source
		case "prtwatch.alerts":
			var alert detector.Alert
			if err := json.Unmarshal(value, &alert); err != nil {
				t.Fatal(err)
			}
			what += alert.SignIn.ID
		case "prtwatch.baseline": // the last one of a user counts
			value = bare(value)
		}
		shape[what] = fmt.Sprintf("%x %s", value, headers)
	}
	for _, o := range l.offsets {
		what := fmt.Sprintf("offset of %s in %s/%d", o.Group, o.Topic, o.Partition)
		var fields []string
		for _, field := range strings.Fields(o.Metadata) {
			fields = append(fields, masked(field))
		}
		shape[what] = strings.Join(fields, " ")
	}
	for key, value := range pebbleShape(t, l.stateCopy(t)) {
		shape["state "+key] = value
	}
	return shape
}

var (
	numbers = regexp.MustCompile(`^-?[0-9]+$`)
	longOne = regexp.MustCompile(`^[A-Za-z0-9+/=_-]{10,}$`)
)

// masked is a field of text but for what is an id, a number or encoded.
func masked(field string) string {
	switch {
	case numbers.MatchString(field):
		return "number"
	case longOne.MatchString(field) && !strings.HasPrefix(field, "prtwatch"):
		return "text"
	}
	return field
}

// bare is a profile without the number of the offset that it carries, though not without that it does.
func bare(value []byte) []byte {
	if state.Carried(value) == 0 {
		return value
	}
	return append(state.Bare(value), " carries"...)
}

// pebbleShape is what a state folder holds, by its keys: profiles, and of checkpoints, which name topics and
// offsets, the version alone.
func pebbleShape(t *testing.T, dir string) map[string]string {
	t.Helper()
	shape := make(map[string]string)
	for key, value := range pebbleEntries(t, dir) {
		what := hex.EncodeToString([]byte(key))
		if key[4] == 1 {
			shape[what] = hex.EncodeToString(bare(value))
		} else {
			shape[what] = fmt.Sprintf("version %d", value[0])
		}
	}
	format, err := os.ReadFile(filepath.Join(dir, "format"))
	if err != nil {
		t.Fatal(err)
	}
	shape["format"] = string(format)
	return shape
}
