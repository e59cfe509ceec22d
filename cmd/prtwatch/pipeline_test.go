package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"syscall"
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
	config      []string // command line flags that every process gets
	query       *oracle.Query
	made        int
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
		random: rand.New(rand.NewPCG(seed, 8)), seed: seed,
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
	if got := prtwatch("", append([]string{"topics", "--create"}, in.config...)...); got.code != 0 {
		t.Fatalf("topics --create: %d %s", got.code, got.stderr)
	}
	return in
}

// fill writes days of a made tenant to the input topic, unevenly, and tells the oracle.
func (in *installation) fill(users, days int) {
	in.t.Helper()
	people, err := tenant.New(tenant.Options{Users: users, Days: days, Seed: in.seed, Shape: tenant.Mixed, Odd: 0.05, Thefts: 20})
	if err != nil {
		in.t.Fatal(err)
	}
	client := in.inputBroker.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedBytes(64<<20))
	packer := tenant.Packer{MaxRecords: 1 + in.random.IntN(60)}
	var newest time.Time
	send := func(message []byte) {
		if message == nil {
			return
		}
		record := &kgo.Record{Topic: in.input, Partition: in.partition(), Value: message, Timestamp: newest}
		client.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
			if err != nil {
				in.t.Errorf("producing: %v", err)
			}
		})
	}
	for s, ok := people.Next(); ok; s, ok = people.Next() {
		if err := in.query.Add(s.Record); err != nil {
			in.t.Fatal(err)
		}
		send(packer.Add(s.Record))
		newest = s.Time
		in.made++
	}
	send(packer.Flush())
	if err := client.Flush(context.Background()); err != nil {
		in.t.Fatal(err)
	}
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

// instance is a running prtwatch.
type instance struct {
	t   *testing.T
	cmd *exec.Cmd
	log *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs prtwatch as a process with its state in dir.
func (in *installation) start(dir string, args ...string) *instance {
	in.t.Helper()
	cmd := process(in.t, append(append([]string{"run", "--set", "state.dir=" + dir}, in.config...), args...)...)
	i := &instance{t: in.t, cmd: cmd, log: new(lockedBuffer)}
	cmd.Stderr = i.log
	if err := cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() {
		if in.t.Failed() {
			in.t.Logf("log of the instance in %s:\n%s", dir, i.log)
		}
	})
	return i
}

// stop sends SIGTERM and wants exit code 0 within 10 s.
func (i *instance) stop() {
	i.t.Helper()
	start := time.Now()
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		i.t.Fatal(err)
	}
	if err := i.cmd.Wait(); err != nil {
		i.t.Errorf("after SIGTERM: %v, want exit code 0", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		i.t.Errorf("ended %s after SIGTERM, want at most 10 s", took)
	}
}

// says waits until the process has logged text.
func (i *instance) says(text string) {
	i.t.Helper()
	waitFor(i.t, "the log to say "+text, func() bool { return strings.Contains(i.log.String(), text) })
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 2 minutes for %s", what)
		}
	}
}

// split waits until so many sign-ins (ticks and markers counted in) are in the sign-ins topic.
func (in *installation) split(n int) {
	in.t.Helper()
	waitFor(in.t, fmt.Sprintf("%d sign-ins to be split", n), func() bool {
		ends, err := in.b.Admin().ListEndOffsets(context.Background(), in.signs)
		sum := int64(0)
		ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
		return err == nil && sum >= int64(n)
	})
}

// done waits until both groups have committed all there is.
func (in *installation) done() {
	in.t.Helper()
	in.split(in.made)
	for _, stage := range []struct {
		b            *brokertest.Broker
		topic, group string
	}{{in.inputBroker, in.input, in.b.Name("split")}, {in.b, in.signs, in.b.Name("detect")}} {
		waitFor(in.t, "group "+stage.group+" to reach the end", func() bool {
			ends, err := stage.b.Admin().ListEndOffsets(context.Background(), stage.topic)
			if err != nil {
				return false
			}
			committed, err := stage.b.Admin().FetchOffsets(context.Background(), stage.group)
			if err != nil {
				return false
			}
			all := true
			ends.Each(func(o kadm.ListedOffset) {
				at, ok := committed.Lookup(stage.topic, o.Partition)
				all = all && (o.Offset == 0 || ok && at.At >= o.Offset)
			})
			return all
		})
	}
}

// wantTheQuerysRows compares the committed alerts with the oracle's rows.
func (in *installation) wantTheQuerysRows() {
	in.t.Helper()
	want := make(map[string]bool)
	for _, row := range in.query.Rows() {
		want[row.ID] = true
	}
	if ips, asns := in.query.Largest(); ips > 500 || asns > 50 {
		in.t.Fatalf("a user has %d addresses and %d networks: beyond the bounds, where nothing is promised", ips, asns)
	}
	schema := alertSchema(in.t)
	got := make(map[string]int)
	for _, r := range in.b.ReadAll(in.alerts) {
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
		got[alert.SignIn.ID]++
	}
	var missing, doubled, madeUp int
	for id := range want {
		if got[id] == 0 {
			missing++
		}
	}
	for id, n := range got {
		if n > 1 {
			doubled++
		}
		if !want[id] {
			madeUp++
		}
	}
	if len(want) < 10 || missing+doubled+madeUp > 0 {
		in.t.Errorf("of %d rows of the query %d are missing, %d came more than once, %d alerts are made up", len(want), missing, doubled, madeUp)
	}
	if letters := in.b.ReadAll(in.b.Name("dead-letter")); len(letters) > 0 {
		in.t.Errorf("%d dead letters, the first with headers %v", len(letters), letters[0].Headers)
	}
	in.t.Logf("%d sign-ins, %d rows, each alerted once", in.made, len(want))
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
		if err := i.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = i.cmd.Wait()
		i = in.start(dir)
		in.done()
		i.stop()
		in.wantTheQuerysRows()
	})
}
