package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/pipeline"
	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/tenant"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// partitions of the sign-ins, baseline and alerts topics.
const partitions = 4

// installation is a prtwatch that ran on a broker, took all of its input, and was
// stopped.
type installation struct {
	t     *testing.T
	b     *brokertest.Broker
	flags flags
	now   time.Time // a whole hour: the input ends 20 hours before it
	made  int       // copies of topics, groups and folders
}

// flags are what verify is told, by the flag's name.
type flags map[string]string

// newInstallation runs the whole pipeline in this process, until dan is swept. Its users:
//
//   - ada has a fortnight of sign-ins, and a thief's: a row;
//   - bob comes for the first time, to a resource that alerts: a row without a baseline;
//   - cleo has sign-ins and no row;
//   - dan was seen 20 days ago, and is swept;
//   - eve's sign-in is dated in the future: a row, judged at its arrival.
func newInstallation(t *testing.T) *installation {
	t.Helper()
	in := newTopics(t, brokertest.Fake(t), exactlyOnce)
	in.produceInput()
	in.runPipeline(func() bool {
		return slices.ContainsFunc(in.b.ReadAll(in.flags["baseline"]), func(r *kgo.Record) bool { return r.Value == nil })
	})
	return in
}

// newTopics makes an installation's topics, and has nothing in them.
func newTopics(t *testing.T, b *brokertest.Broker, delivery string) *installation {
	t.Helper()
	in := &installation{t: t, b: b, now: time.Now().UTC().Truncate(time.Hour), flags: flags{
		"brokers": strings.Join(b.Addrs(), ","), "input": b.Name("input"), "signins": b.Name("signins"), "alerts": b.Name("alerts"),
		"baseline": b.Name("baseline"), "dead-letter": b.Name("dead-letter"), "detect-group": b.Name("detect"), "split-group": b.Name("split"),
		"state": t.TempDir(), "delivery": delivery,
	}}
	in.b.CreateTopic(in.flags["input"], 2, map[string]string{"retention.ms": "-1"})
	for _, name := range []string{"signins", "alerts"} {
		in.b.CreateTopic(in.flags[name], partitions, nil)
	}
	in.b.CreateTopic(in.flags["baseline"], partitions, map[string]string{"cleanup.policy": "compact"})
	in.b.CreateTopic(in.flags["dead-letter"], 1, nil)
	return in
}

func (in *installation) produceInput() {
	in.t.Helper()
	const home, away, elsewhere = "192.0.2.7", "203.0.113.7", "198.51.100.7"
	var messages []*kgo.Record
	message := func(arrived time.Time, value string) {
		messages = append(messages, &kgo.Record{Topic: in.flags["input"], Partition: int32(len(messages) % 2), Timestamp: arrived, Value: []byte(value)})
	}
	signIn := func(user, resource string, before time.Duration, ip string, asn int) {
		at := in.now.Add(-before)
		message(at, `{"records":[`+record(fmt.Sprintf("%s-%d", user, len(messages)), user, resource, at, ip, asn)+`]}`)
	}
	const day = 24 * time.Hour
	signIn("dan", "Exchange", 20*day, home, 64496)
	signIn("ada", "Exchange", 18*day, home, 64496) // too old to be kept, when she comes last
	for d := 14 * day; d > day; d -= 6 * time.Hour {
		signIn("ada", "Exchange", d, home, 64496)
		signIn("cleo", "Exchange", d-time.Minute, elsewhere, 64498)
	}
	message(in.now.Add(-30*time.Hour), "this is no JSON")
	message(in.now.Add(-29*time.Hour), `{"records":[17,`+record("cleo-late", "cleo", "Exchange", in.now.Add(-29*time.Hour), elsewhere, 64498)+`]}`)
	message(in.now.Add(-28*time.Hour), `"`+strings.Repeat("x", maxLetter)+`"`)
	signIn("bob", "Microsoft Intune", 26*time.Hour, home, 64496)
	signIn("ada", "Microsoft Graph", 22*time.Hour, away, 64499)
	message(in.now.Add(-20*time.Hour), record("eve-early", "eve", "Windows 365", in.now.Add(-17*time.Hour), home, 64496))
	in.b.Produce(messages...)
}

// produceTenant writes what a made tenant did in 17 days.
func (in *installation) produceTenant() {
	in.t.Helper()
	const days = 17
	seed := rand.Uint64()
	in.t.Logf("seed %d", seed)
	people, err := tenant.New(tenant.Options{
		Users: 3, Days: days, Start: in.now.Add(-days * 24 * time.Hour), Seed: seed, Shape: tenant.Mixed, PerUserDay: 2, Odd: 0.2, Thefts: 200,
	})
	if err != nil {
		in.t.Fatal(err)
	}
	var messages []*kgo.Record
	for s, ok := people.Next(); ok; s, ok = people.Next() {
		messages = append(messages, &kgo.Record{
			Topic: in.flags["input"], Partition: int32(len(messages) % 2), Timestamp: s.Time, Value: tenant.Envelope(nil, s.Record),
		})
	}
	in.b.Produce(messages...)
}

// record is one as diagnostic settings write it.
func record(id, user, resource string, at time.Time, ip string, asn int) string {
	return fmt.Sprintf(`{"time":%q,"category":"NonInteractiveUserSignInLogs","tenantId":"11111111-1111-4111-8111-111111111111","resultType":"0","properties":{`+
		`"id":%q,"userPrincipalName":%q,"ipAddress":%q,"autonomousSystemNumber":%d,"resourceDisplayName":%q,"authenticationDetails":[],`+
		`"appDisplayName":"Teams","userAgent":"Edge/1","location":{"countryOrRegion":"NL"}}}`,
		at.Format(sevenDigits), id, user+"@Example.com", ip, asn, resource)
}

// runPipeline runs both stages until they have taken all of the input, event time has come to the
// present, and done says that all is done.
func (in *installation) runPipeline(done func() bool) {
	in.t.Helper()
	s, err := settings.Load(settings.Sources{Set: []string{
		"kafka.brokers=" + in.flags["brokers"], "input.topics=" + in.flags["input"], fmt.Sprintf("topics.partitions=%d", partitions),
		"topics.signins=" + in.flags["signins"], "topics.baseline=" + in.flags["baseline"], "topics.alerts=" + in.flags["alerts"],
		"topics.dead_letter=" + in.flags["dead-letter"], "split.group=" + in.flags["split-group"], "detect.group=" + in.flags["detect-group"],
		"detect.members=1", "delivery=" + in.flags["delivery"], "state.dir=" + in.flags["state"],
	}})
	if err != nil {
		in.t.Fatal(err)
	}
	pl, err := pipeline.Open(context.Background(), s, pipeline.Options{Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	if err != nil {
		in.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- pl.Run(ctx) }()
	in.await("the input to be split", func() bool { return in.taken("split-group", "input") })
	in.await("the sign-ins to be judged", func() bool { return in.taken("detect-group", "signins") })
	// The splitter would say so too, later.
	for p := range int32(partitions) {
		tick := signins.Tick{Time: in.now}.Record()
		tick.Topic, tick.Partition = in.flags["signins"], p
		in.b.Produce(tick)
	}
	in.await("all to be done", done)
	in.await("the sign-ins to be judged", func() bool { return in.taken("detect-group", "signins") })
	cancel()
	if err := errors.Join(<-ended, pl.Close()); err != nil && !errors.Is(err, context.Canceled) {
		in.t.Fatal(err)
	}
}

func (in *installation) await(what string, done func() bool) {
	in.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			in.t.Fatalf("waited 2 minutes for %s", what)
		}
	}
}

// taken reports whether a group is at the end of a topic.
func (in *installation) taken(group, topic string) bool {
	ends, err := in.b.Admin().ListEndOffsets(context.Background(), in.flags[topic])
	if err != nil {
		return false
	}
	committed, err := in.b.Admin().FetchOffsets(context.Background(), in.flags[group])
	if err != nil {
		return false
	}
	sum := int64(0)
	all := true
	ends.Each(func(o kadm.ListedOffset) {
		sum += o.Offset
		at, ok := committed.Lookup(o.Topic, o.Partition)
		all = all && (o.Offset == 0 || ok && at.At >= o.Offset)
	})
	return all && sum > 0
}

// name returns one that nothing has.
func (in *installation) name(of string) string {
	in.made++
	return in.b.Name(fmt.Sprintf("%s-%d", of, in.made))
}

// rewrite copies a topic, and lets change the records of the copy, whose Partition counts. It has
// the verifier read the copy.
func (in *installation) rewrite(f flags, topic string, change func([]*kgo.Record) []*kgo.Record) {
	in.t.Helper()
	var records []*kgo.Record
	for _, r := range in.b.ReadAll(f[topic]) {
		records = append(records, &kgo.Record{Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers})
	}
	ends, err := in.b.Admin().ListEndOffsets(context.Background(), f[topic])
	if err != nil {
		in.t.Fatal(err)
	}
	count := int32(len(ends[f[topic]]))
	f[topic] = in.name(topic)
	in.b.CreateTopic(f[topic], count, nil)
	in.transact(f[topic], kgo.TryCommit, change(records)...)
}

// transact writes the records to a topic in one transaction.
func (in *installation) transact(topic string, end kgo.TransactionEndTry, records ...*kgo.Record) {
	in.t.Helper()
	if len(records) == 0 {
		return
	}
	client := in.b.Client(kgo.TransactionalID(in.name("transaction")), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))
	defer client.Close()
	for _, r := range records {
		r.Topic = topic
	}
	ctx := context.Background()
	if err := errors.Join(client.BeginTransaction(), client.ProduceSync(ctx, records...).FirstErr(), client.EndTransaction(ctx, end)); err != nil {
		in.t.Fatal(err)
	}
}

// profile returns the last profile of a user in the baseline topic, changed.
func (in *installation) profile(user string, change func(*profile)) []byte {
	in.t.Helper()
	var p *profile
	for _, r := range in.b.ReadAll(in.flags["baseline"]) {
		if string(r.Key) != user || r.Value == nil {
			continue
		}
		var err error
		if p, err = decode(r.Value); err != nil {
			in.t.Fatal(err)
		}
	}
	if p == nil {
		in.t.Fatalf("the baseline topic has no profile of %s", user)
	}
	change(p)
	return encode(p)
}

// teach writes a profile of a user to the baseline topic, nil to delete it. When the test ends the
// last word is what it was before.
func (in *installation) teach(user string, partition int32, value []byte) {
	in.t.Helper()
	before := &kgo.Record{Key: []byte(user), Partition: partition} // nothing
	for _, r := range in.b.ReadAll(in.flags["baseline"]) {
		if string(r.Key) == user && r.Partition == partition {
			before.Value = r.Value
		}
	}
	in.transact(in.flags["baseline"], kgo.TryCommit, &kgo.Record{Key: []byte(user), Partition: partition, Value: value})
	in.t.Cleanup(func() { in.transact(in.flags["baseline"], kgo.TryCommit, before) })
}

// store lets change what a copy of the state folder has of a user's partition, and has the
// verifier read the copy.
func (in *installation) store(f flags, user string, change func(*state.Partition, state.Checkpoint) error) {
	in.t.Helper()
	dir := in.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(f["state"])); err != nil {
		in.t.Fatal(err)
	}
	f["state"] = dir
	cfg := state.DefaultConfig()
	cfg.Dir = dir
	store, err := state.Open(cfg, detector.Window, slog.New(slog.DiscardHandler))
	if err != nil {
		in.t.Fatal(err)
	}
	p, err := store.Lease(context.Background(), kafka.Partition([]byte(user), partitions))
	if err != nil {
		in.t.Fatal(err)
	}
	cp, ok, err := p.Checkpoint()
	if err == nil && !ok {
		err = errors.New("there is no checkpoint")
	}
	if err == nil {
		err = change(p, cp)
	}
	if err := errors.Join(err, p.Release(), store.Close()); err != nil {
		in.t.Fatal(err)
	}
}

// commit copies a group's offsets of a topic, and lets change those of one partition, which it
// has the verifier ask for.
func (in *installation) commit(f flags, group, topic string, partition int32, change func(*kadm.Offset)) {
	in.t.Helper()
	ctx := context.Background()
	committed, err := in.b.Admin().FetchOffsets(ctx, f[group])
	if err != nil {
		in.t.Fatal(err)
	}
	offsets := committed.Offsets()
	o, ok := offsets.Lookup(f[topic], partition)
	if !ok {
		in.t.Fatalf("group %s has no offset of partition %d", f[group], partition)
	}
	change(&o)
	offsets.Delete(f[topic], partition)
	offsets.Add(o)
	f[group] = in.name(group)
	if err := in.b.Admin().CommitAllOffsets(ctx, f[group], offsets); err != nil {
		in.t.Fatal(err)
	}
}

// verify runs the verifier and returns its report.
func (in *installation) verify(f flags) (code int, r report) {
	in.t.Helper()
	code, stdout, stderr := verifier(append(f.args(), "--json")...)
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || stderr != "" {
		in.t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
	return code, r
}

// verifier runs the verifier as a program would be.
func verifier(args ...string) (code int, stdout, stderr string) {
	var out, complaints bytes.Buffer
	code = run(context.Background(), args, &out, &complaints)
	return code, out.String(), complaints.String()
}

func (f flags) args() (args []string) {
	for name, value := range f {
		args = append(args, "--"+name, value)
	}
	return args
}
