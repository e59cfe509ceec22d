// Package round runs one round of the fault suite: topics, groups and state folders of its own, a
// feeder, some prtwatch processes, and faults until the time is up; then it heals everything,
// waits until all is judged, stops the processes and has the verifier look at what came of it. It
// owns what a fault is and which ends of a process are legal. It must not know how prtwatch
// works inside, nor judge an alert itself.
//
// Start at Run. A fault of the plan is a method of the scene (faults.go; broker.go, disk.go and
// baseline.go have what takes more) that claims what it disturbs, and gives it back as it was.
package round

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/cmd/faults/cluster"
	"github.com/prtwatch/prtwatch/cmd/faults/feeder"
	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
	"github.com/prtwatch/prtwatch/cmd/faults/plan"
)

// Slots is how many instances a round has: three that are always wanted, and one that comes and
// goes.
const Slots = 4

// Lateness is the state.lateness of every round, which the verifier is told.
const Lateness = 48 * time.Hour

// Options say what round to run.
type Options struct {
	Seed     uint64
	Number   int           // of all rounds: what is made carries it in its name
	Turn     int           // of the rounds with this seed
	For      time.Duration // with all that belongs to it, if nothing is stuck
	Pace     time.Duration // how long it is from one fault to the next, on average
	Protocol string        // classic or consumer
	Delivery string        // exactly-once or at-least-once
	Users    int
	Faults   []plan.Fault
	Points   []string // the fault points of the binary
	Cluster  *cluster.Cluster
	Prtwatch string // the binary
	Verify   string // the verifier's binary; empty: none
	Dir      string // of this round; made here
	Log      func(format string, args ...any)
}

// Result is what came of a round.
type Result struct {
	Number   int
	Seed     uint64
	Protocol string
	Delivery string
	Dir      string
	Took     time.Duration
	Injected map[string]int
	Begun    map[string]int // Injected, and those that did nothing or that the round's end cut short
	Feed     feeder.Counts
	Findings []Finding
	Restarts int         // of processes that had ended without being asked, legally or not
	Damaged  int         // ends of a process that met a damaged table and set its Pebble aside
	Still    Still       // the longest
	Usage    fleet.Usage // the most of any instance
	Verdict  *Verdict    // nil where the verifier gave none
	// MayRepeat is how many alerts may have come again, under the same id: with exactly-once none.
	MayRepeat int
}

// Kinds are the kinds of findings: a process ended by itself, or not in order; it has set a good
// state aside; something was not judged; a partition stood still for too long; an instance took too
// much; more alerts came again than the faults account for; the verifier found something; the suite
// could not do what it wanted.
var Kinds = []string{"exit", "stop", "state", "stuck", "still", "growth", "repeat", "verify", "suite"}

// Finding is something that is wrong.
type Finding struct {
	Kind string // one of Kinds
	Text string
}

// scene is a round that runs.
type scene struct {
	Options
	admin     *kadm.Client
	feeder    *feeder.Feeder
	instances []*fleet.Instance // the last one comes and goes
	journal   *os.File
	names     map[string]string // of topics and groups, by use
	backlog   chan backlog      // asks the feeder for hours that nobody reads yet

	brokers sync.Mutex        // held while a broker is or may be out of sync: never two at once
	network [Slots]sync.Mutex // held while a slot's network is disturbed
	faults  sync.WaitGroup

	mu struct {
		sync.Mutex
		result Result
		shaken [Slots]time.Time // when the network of a slot was last disturbed
		broken time.Time        // when a broker was last disturbed
		ending bool             // nobody is restarted any more
		spells []spell
		hands  []inHand // of the whole round, in order
		events []entry  // of the journal, what began and was done
	}
}

// topicUses are what a round has topics for.
var topicUses = []string{"input", "signins", "baseline", "alerts", "dead-letter"}

// backlog asks for so many hours to be written at once, and is told how many there were.
type backlog struct {
	hours   int
	written chan int
}

func newScene(o Options) (*scene, error) {
	s := &scene{Options: o, backlog: make(chan backlog), names: make(map[string]string)}
	s.mu.result = Result{
		Number: o.Number, Seed: o.Seed, Protocol: o.Protocol, Delivery: o.Delivery, Dir: o.Dir, Injected: make(map[string]int), Begun: make(map[string]int),
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if s.journal, err = os.Create(filepath.Join(o.Dir, "journal.jsonl")); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(o.Cluster.Addrs()...), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return nil, err
	}
	s.admin = kadm.NewClient(client)
	s.admin.SetTimeoutMillis(5000)
	for _, use := range append([]string{"split", "detect"}, topicUses...) {
		s.names[use] = fmt.Sprintf("faults.%d.%x.%s", o.Number, o.Seed&0xffff, use)
	}
	for slot := range Slots {
		name := fmt.Sprintf("slot%d", slot)
		dir := filepath.Join(o.Dir, name)
		args := s.config(o.Cluster.SlotAddrs(slot))
		i := fleet.New(name, o.Prtwatch, filepath.Join(dir, "state"), filepath.Join(o.Dir, name+".log"), args, s.exited)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		i.Want(slot < Slots-1)
		s.instances = append(s.instances, i)
	}
	return s, nil
}

// close gives back what newScene took.
func (s *scene) close() {
	s.admin.Close()
	_ = s.journal.Close()
	if s.feeder != nil {
		s.feeder.Close()
	}
}

// config is what each process and `prtwatch topics` are told.
func (s *scene) config(brokers []string) (args []string) {
	partitions := 6 + 2*plan.Random(s.Seed, s.Turn, "partitions").IntN(2)
	for _, kv := range []string{
		"kafka.brokers=" + strings.Join(brokers, ","), "input.topics=" + s.names["input"],
		fmt.Sprintf("topics.partitions=%d", partitions), "topics.replication=3",
		"topics.signins=" + s.names["signins"], "topics.baseline=" + s.names["baseline"], "topics.alerts=" + s.names["alerts"],
		"topics.dead_letter=" + s.names["dead-letter"], "split.group=" + s.names["split"], "detect.group=" + s.names["detect"],
		// A partition whose broker is away is waited for as long as may be: the rows are promised for
		// hours that are read in order.
		"split.merge_wait=1m",
		"detect.transaction_timeout=" + s.transactionTimeout().String(),
		fmt.Sprintf("detect.members=%d", members), "detect.group_protocol=" + s.Protocol, "delivery=" + s.Delivery,
		"state.lateness=" + Lateness.String(), "http.listen=127.0.0.1:0", "log.format=text", "start_timeout=2m",
	} {
		args = append(args, "--set", kv)
	}
	return args
}

// transactionTimeout is within the session of a member in one round and as long as that in
// another, so that a transaction which times out is that of a member, or of a zombie.
func (s *scene) transactionTimeout() time.Duration {
	return []time.Duration{4 * time.Second, 10 * time.Second}[plan.Random(s.Seed, s.Turn, "timeout").IntN(2)]
}

// Properties of the brokers: they look for what has timed out, and for what is to be compacted,
// more often than each ten and fifteen seconds.
var Properties = []string{
	"transaction.abort.timed.out.transaction.cleanup.interval.ms=1000", "log.cleaner.backoff.ms=1000",
}

// topics makes the topics of the round.
func (s *scene) topics(ctx context.Context) error {
	began, forever := time.Now(), "-1"
	if _, err := s.admin.CreateTopic(ctx, feeder.Partitions, 3, map[string]*string{"retention.ms": &forever}, s.names["input"]); err != nil {
		return fmt.Errorf("creating the input topic: %w", err)
	}
	// The brokers hear of a new topic one after the other, and may be asked in between.
	var out []byte
	var err error
	made := until(ctx, time.Second, func(ctx context.Context) bool {
		out, err = exec.CommandContext(ctx, s.Prtwatch, append([]string{"topics", "--create"}, s.config(s.Cluster.Addrs())...)...).CombinedOutput()
		return err == nil || time.Since(began) > topicsWithin
	})
	if !made || err != nil {
		return fmt.Errorf("prtwatch topics --create: %w: %s", err, out)
	}
	if err := s.known(ctx); err != nil {
		return err
	}
	return s.tighten(ctx)
}

// topicsWithin is how long the brokers may take until all know the topics.
const topicsWithin = 90 * time.Second

// known waits until each broker, asked by itself, knows a leader of every partition.
func (s *scene) known(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, topicsWithin)
	defer cancel()
	for _, address := range s.Cluster.Addrs() {
		client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.MetadataMinAge(10*time.Millisecond))
		if err != nil {
			return err
		}
		defer client.Close()
		known := until(ctx, 100*time.Millisecond, func(ctx context.Context) bool {
			request := kmsg.NewPtrMetadataRequest()
			for _, use := range topicUses {
				topic := kmsg.NewMetadataRequestTopic()
				topic.Topic = kmsg.StringPtr(s.names[use])
				request.Topics = append(request.Topics, topic)
			}
			response, err := client.SeedBrokers()[0].Request(ctx, request)
			return err == nil && led(response.(*kmsg.MetadataResponse))
		})
		if !known {
			return fmt.Errorf("broker %s does not know the topics after %s", address, topicsWithin)
		}
	}
	return nil
}

func led(m *kmsg.MetadataResponse) bool {
	for _, t := range m.Topics {
		if t.ErrorCode != 0 || len(t.Partitions) == 0 {
			return false
		}
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 || p.Leader < 0 {
				return false
			}
		}
	}
	return len(m.Topics) == len(topicUses)
}

// drop deletes the topics of a round in which all was well.
func (s *scene) drop(ctx context.Context) {
	var topics []string
	for _, use := range topicUses {
		topics = append(topics, s.names[use])
	}
	_, _ = s.admin.DeleteTopics(ctx, topics...)
}

// entry is a line of the journal.
type entry struct {
	Time   time.Time `json:"time"`
	What   string    `json:"what"` // fault, done, exit, hour, note, finding
	Name   string    `json:"name,omitempty"`
	Target string    `json:"target,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

func (s *scene) write(e entry) {
	e.Time = time.Now()
	line, _ := json.Marshal(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.journal.Write(append(line, '\n'))
	if e.What == "fault" || e.What == "done" {
		s.mu.events = append(s.mu.events, e)
	}
}

// find notes something that is wrong.
func (s *scene) find(kind, format string, args ...any) {
	f := Finding{kind, fmt.Sprintf(format, args...)}
	s.write(entry{What: "finding", Name: kind, Detail: f.Text})
	s.Log("round %d: %s: %s", s.Number, kind, f.Text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.result.Findings = append(s.mu.result.Findings, f)
}

// update changes the result.
func (s *scene) update(change func(*Result)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.mu.result)
}

// begun notes that a fault is about to disturb something.
func (s *scene) begun(name, target string) {
	s.write(entry{What: "fault", Name: name, Target: target})
	s.update(func(r *Result) { r.Begun[name]++ })
}

// count notes that a fault was injected.
func (s *scene) count(name string) { s.update(func(r *Result) { r.Injected[name]++ }) }

// slot is the number of an instance.
func (s *scene) slot(i *fleet.Instance) int {
	for n := range s.instances {
		if s.instances[n] == i {
			return n
		}
	}
	return 0
}

// calmAfter is how long after a disturbance of brokers or network a process must be able to end
// in good order again: the clients find the new leaders and coordinators meanwhile.
const calmAfter = 15 * time.Second

// calm reports whether nothing but the process itself can be the reason of what an instance does.
func (s *scene) calm(i *fleet.Instance) bool {
	slot := s.slot(i)
	if !s.brokers.TryLock() {
		return false
	}
	s.brokers.Unlock()
	if !s.network[slot].TryLock() {
		return false
	}
	s.network[slot].Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.mu.broken) > calmAfter && time.Since(s.mu.shaken[slot]) > calmAfter
}

func (s *scene) shook(slot int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.shaken[slot] = time.Now()
}

func (s *scene) broke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.broken = time.Now()
}

// seen is how soon an end of a process is heard of.
const seen = time.Second

// exited hears of every end of a process: it says which are legal, and has the process back.
func (s *scene) exited(i *fleet.Instance, e fleet.Exit) {
	pointed := e.Killed && e.Life.Point != "" && !e.Asked
	if pointed {
		name, _, _ := strings.Cut(e.Life.Point, ":")
		s.count(plan.Point)
		s.update(func(r *Result) { r.Injected[plan.Point+" "+name]++ })
		s.write(entry{What: "fault", Name: plan.Point, Target: i.Name, Detail: e.Life.Point})
		s.undid(plan.Point, time.Now().Add(-seen))
	}
	if metDamage(e) {
		s.undid(plan.Flipped, time.Now().Add(-seen))
		s.update(func(r *Result) { r.Damaged++ })
	}
	if fleet.AsideForNothing(i.Dir) {
		s.find("state", "%s has set its Pebble aside, which nobody had damaged", i.Name)
	}
	if e.Asked {
		return
	}
	switch {
	case pointed:
	case metFullDisk(e):
		s.write(entry{What: "exit", Name: "disk full", Target: i.Name, Detail: e.Tail()})
	case metDamage(e):
		s.write(entry{What: "exit", Name: "damaged state", Target: i.Name, Detail: e.Tail()})
	default:
		s.find("exit", "%s ended by itself with code %d (killed: %t): %s", i.Name, e.Code, e.Killed, e.Tail())
	}
	s.update(func(r *Result) { r.Restarts++ })
	i.Busy.Lock()
	defer i.Busy.Unlock()
	s.mu.Lock()
	ending := s.mu.ending
	s.mu.Unlock()
	if i.Wanted() && !ending {
		s.start(i)
	}
}

// metDamage reports whether a process ended because it met a damaged table and has set its
// Pebble aside: that is what it must do, whoever asked for its end at that moment. Whether the
// damage was ours is looked at apart (fleet.AsideForNothing).
func metDamage(e fleet.Exit) bool {
	return e.Code == 1 && strings.Contains(e.Log, "the state store is damaged: it is set aside")
}

// start starts an instance.
func (s *scene) start(i *fleet.Instance) { s.startWith(i, fleet.Life{}) }

// startWith starts an instance; that it cannot is the suite's failure.
func (s *scene) startWith(i *fleet.Instance, life fleet.Life) {
	if err := i.Start(life); err != nil {
		s.find("suite", "%v", err)
	}
}
