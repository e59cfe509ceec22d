package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/oracle"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// inputPartitions and how unevenly the messages are spread over them: the last gets one for
// every hundred of the first.
const inputPartitions = 8

var shares = [inputPartitions]int{100, 80, 60, 40, 30, 20, 10, 1}

// installation is one set of topics and groups on a broker, and what was written to it.
type installation struct {
	t *testing.T
	b *brokertest.Broker
	// inputBroker is where the input topic is; b unless a test says otherwise.
	inputBroker *brokertest.Broker
	input       string
	alerts      string
	signs       string
	config      []string            // command line flags that every process gets
	dirs        []string            // state folders to be verified
	program     string              // what is run; empty: this
	user        *brokertest.Account // who instances are where the broker is guarded
	redriver    []string            // flags by which redrive is another user there
	query       *oracle.Query
	tenant      *tenant.Tenant
	made        int
	ids         map[string]int // how often each sign-in was written
	newest      time.Time      // of them
	keyed       bool           // messages have keys, each its own, so that the input can be compacted
	random      *rand.Rand
	seed        uint64
}

func newInstallation(t *testing.T, b *brokertest.Broker) *installation {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	query, err := oracle.New(oracle.Options{OpenFarEdge: true})
	if err != nil {
		t.Fatal(err)
	}
	in := &installation{
		t: t, b: b, inputBroker: b, input: b.Name("input"), alerts: b.Name("alerts"), signs: b.Name("signins"), query: query,
		ids: map[string]int{}, random: rand.New(rand.NewPCG(seed, 8)), seed: seed,
	}
	for _, kv := range []string{
		"kafka.brokers=" + strings.Join(b.Addrs(), ","), "input.topics=" + in.input, "topics.partitions=6", "topics.replication=1",
		"topics.signins=" + in.signs, "topics.baseline=" + b.Name("baseline"), "topics.alerts=" + in.alerts,
		"topics.dead_letter=" + b.Name("dead-letter"), "split.group=" + b.Name("split"), "detect.group=" + b.Name("detect"),
		"http.listen=127.0.0.1:0", "detect.members=2", "log.format=text",
	} {
		in.config = append(in.config, "--set", kv)
	}
	b.CreateTopic(in.input, inputPartitions, map[string]string{"retention.ms": "-1"})
	var creates []string
	if b.Guarded() { // each is a user with the least rights
		var runs []string
		rows := rights(t)
		_, creates = in.account("creates", rightsOf(rows, "topics", "create"))
		in.user, runs = in.account("runs", rightsOf(rows, "split", "detect", "exactly-once"))
		in.config = append(in.config, runs...)
	}
	if got := prtwatch("", slices.Concat([]string{"topics", "--create"}, in.config, creates)...); got.code != 0 {
		t.Fatalf("topics --create: %d %s", got.code, got.stderr)
	}
	return in
}

// fill writes days of a made tenant to the input topic, unevenly, and tells the oracle.
func (in *installation) fill(users, days int) {
	in.t.Helper()
	if raceDetected() {
		users = min(users, 8) // which takes as long as three times as many without it
	}
	in.fillWith(tenant.Options{Users: users, Days: days, Thefts: 40})
}

// fillWith is fill with a tenant of another kind; its seed, shape and oddities are the installation's.
func (in *installation) fillWith(o tenant.Options) {
	in.t.Helper()
	in.people(o)
	in.pour(math.MaxInt)
}

// people makes the tenant whose sign-ins pour writes.
func (in *installation) people(o tenant.Options) {
	in.t.Helper()
	o.Seed, o.Shape, o.Odd = in.seed, tenant.Mixed, 0.05
	var err error
	if in.tenant, err = tenant.New(o); err != nil {
		in.t.Fatal(err)
	}
}

// pour writes the next sign-ins of the tenant, so many or all that are left.
func (in *installation) pour(most int) {
	in.t.Helper()
	client := in.inputBroker.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedBytes(64<<20))
	packer := tenant.Packer{MaxRecords: 1 + in.random.IntN(60)}
	send := func(message []byte) {
		if message == nil {
			return
		}
		record := &kgo.Record{Topic: in.input, Partition: in.partition(), Key: in.key(), Value: message, Timestamp: in.newest}
		client.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
			if err != nil {
				in.t.Errorf("producing: %v", err)
			}
		})
	}
	for ; most > 0; most-- {
		s, ok := in.tenant.Next()
		if !ok {
			break
		}
		if err := in.query.Add(s.Record); err != nil {
			in.t.Fatal(err)
		}
		send(packer.Add(s.Record))
		in.newest = s.Time
		in.made++
		in.ids[s.ID]++
	}
	send(packer.Flush())
	if err := client.Flush(context.Background()); err != nil {
		in.t.Fatal(err)
	}
}

// key is a message's key: Azure gives them none.
func (in *installation) key() []byte {
	if !in.keyed {
		return nil
	}
	return strconv.AppendInt(nil, int64(in.made), 10)
}

func (in *installation) partition() int32 {
	sum := 0
	for _, s := range shares {
		sum += s
	}
	n := in.random.IntN(sum)
	for p, s := range shares {
		if n -= s; n < 0 {
			return int32(p)
		}
	}
	return 0
}

// split waits until so many sign-ins (ticks and markers counted in) are in the sign-ins topic.
func (in *installation) split(n int) {
	in.t.Helper()
	waitFor(in.t, fmt.Sprintf("%d sign-ins to be split", n), func() bool { return in.hasSplit(n) })
}

func (in *installation) hasSplit(n int) bool {
	ends, err := in.b.Admin().ListEndOffsets(context.Background(), in.signs)
	sum := int64(0)
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return err == nil && sum >= int64(n)
}

// done waits until both groups have committed all there is.
func (in *installation) done() {
	in.t.Helper()
	waitFor(in.t, "both groups to reach the end", in.isDone)
}

func (in *installation) isDone() bool {
	return in.hasSplit(in.made) && atEnd(in.inputBroker, in.input, in.b.Name("split")) && atEnd(in.b, in.signs, in.b.Name("detect"))
}

// atEnd reports whether a group has committed all of a topic.
func atEnd(b *brokertest.Broker, topic, group string) bool {
	ends, err := b.Admin().ListEndOffsets(context.Background(), topic)
	if err != nil {
		return false
	}
	committed, err := b.Admin().FetchOffsets(context.Background(), group)
	if err != nil {
		return false
	}
	all := true
	ends.Each(func(o kadm.ListedOffset) {
		at, ok := committed.Lookup(topic, o.Partition)
		all = all && (o.Offset == 0 || ok && at.At >= o.Offset)
	})
	return all
}

// wantTheQuerysRows compares the committed alerts with the oracle's rows.
func (in *installation) wantTheQuerysRows() {
	in.t.Helper()
	if ips, asns := in.query.Largest(); ips > 500 || asns > 50 {
		in.t.Fatalf("a user has %d addresses and %d networks: beyond the bounds, where nothing is promised", ips, asns)
	}
	c := in.compare()
	if c.rows < 5 || len(c.missing)+len(c.repeated)+len(c.madeUp) > 0 {
		in.t.Errorf("of %d rows of the query %d are missing, %d came more than once, %d alerts are made up: %.300q",
			c.rows, len(c.missing), len(c.repeated), len(c.madeUp), slices.Concat(c.missing, c.repeated, c.madeUp))
	}
	in.wantNoDeadLetters()
	in.t.Logf("%d sign-ins, %d rows, each alerted once", in.made, c.rows)
}

func (in *installation) wantNoDeadLetters() {
	in.t.Helper()
	if letters := in.b.ReadAll(in.b.Name("dead-letter")); len(letters) > 0 {
		in.t.Errorf("%d dead letters, the first with headers %v", len(letters), letters[0].Headers)
	}
}

// comparison is what the alerts are beside the query's rows, by the ids of sign-ins.
type comparison struct {
	rows                      int
	missing, repeated, madeUp []string
	alerts                    map[string][]*kgo.Record
}

// compare compares the committed alerts with the oracle's rows.
func (in *installation) compare() comparison {
	in.t.Helper()
	c := comparison{alerts: in.alerted(in.alerts)}
	want := make(map[string]bool)
	for _, row := range in.query.Rows() {
		want[row.ID] = true
	}
	c.rows = len(want)
	for id := range want {
		if len(c.alerts[id]) == 0 {
			c.missing = append(c.missing, id)
		}
	}
	for id, records := range c.alerts {
		if len(records) > 1 {
			c.repeated = append(c.repeated, id)
		}
		if !want[id] {
			c.madeUp = append(c.madeUp, id)
		}
	}
	return c
}

// alerted returns the committed alerts of a topic by the sign-in that each is about.
func (in *installation) alerted(topic string) map[string][]*kgo.Record {
	in.t.Helper()
	schema := alertSchema(in.t)
	got := make(map[string][]*kgo.Record)
	for _, r := range in.b.ReadAll(topic) {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Value))
		if err == nil {
			err = schema.Validate(value)
		}
		var alert detector.Alert
		if err == nil {
			err = json.Unmarshal(r.Value, &alert)
		}
		if err != nil {
			in.t.Fatalf("alert at partition %d offset %d: %v", r.Partition, r.Offset, err)
		}
		got[alert.SignIn.ID] = append(got[alert.SignIn.ID], r)
	}
	return got
}

func alertSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(detector.AlertSchema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(detector.AlertSchemaID, document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(detector.AlertSchemaID)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// 16 days wait in 8 input partitions of uneven size. Two instances read them; each is stopped
// and started again on the way, and each is the active splitter in its turn. Repeats are
// mixed in by the tenant.
func TestTwoInstancesThatComeAndGoGiveTheQuerysRowsOnce(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		users := 20
		if b.Real() {
			users = 80
		}
		in.fill(users, 16)
		dirs := [2]string{t.TempDir(), t.TempDir()}

		a := in.start(dirs[0])
		a.says("splitting")
		c := in.start(dirs[1])
		c.says("partitions assigned")
		in.split(in.made / 4)
		a.stop()
		c.says("splitting")
		in.split(in.made / 2)
		a = in.start(dirs[0])
		a.says("partitions assigned")
		c.stop()
		a.says("splitting")
		c = in.start(dirs[1])
		c.says("running")
		in.done()
		a.stop()
		c.stop()
		in.wantTheQuerysRows()
		offsets, err := b.Admin().FetchOffsets(t.Context(), b.Name("split"))
		if err != nil {
			t.Fatal(err)
		}
		offsets.Each(func(o kadm.OffsetResponse) {
			if !strings.Contains(o.Metadata, " upn/6 ") { // detection.identity/topics.partitions
				t.Errorf("an offset of the input does not say by what users are keyed: %q", o.Metadata)
			}
		})
	})
}

// A kill at any moment costs a wait, and no alert: the process comes back under its name, takes
// up its state, and goes on where its last transaction committed.
func TestAKilledInstanceThatComesBackGivesTheQuerysRowsOnce(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		in.fill(20, 16)
		dir := t.TempDir()
		i := in.start(dir)
		i.says("partitions assigned")
		in.split(in.random.IntN(in.made))
		i.kill()
		i = in.start(dir)
		if i.metric("prtwatch_previous_shutdown_unclean") != 1 {
			t.Error("it does not tell that the one before was killed")
		}
		in.done()
		i.stop()
		in.wantTheQuerysRows()
	})
}
