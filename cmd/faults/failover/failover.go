// Package failover measures for how long alerts stop flowing when an instance is killed, stopped,
// added or restarted, or a broker dies, with the timeouts that prtwatch ships. It owns what is
// done to the instances and in which order, and the figures. It must not know how prtwatch works
// inside; what it waits for, /readyz, /metrics and the groups say.
//
// A steady stream of sign-ins is written, each of which alerts, whatever happens (stream.go), and
// a reader of committed alerts notes when each alert came: so a figure is what a user would see,
// from the moment a sign-in should have been sent to its alert, be the writer held up or not.
//
// Start at Run; drills.go has what is done.
package failover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/faults/cluster"
	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
)

// instances is how many processes share the work.
const instances = 3

// The names that prtwatch gives its topics and groups where the configuration does not.
const (
	inputTopic  = "insights-logs-noninteractiveusersigninlogs"
	alertsTopic = "prtwatch.alerts"
	splitGroup  = "prtwatch-split"
	detectGroup = "prtwatch-detect"
)

// The input's partitions, and those of the sign-ins and alerts by default.
const (
	inputPartitions = 8
	partitions      = 32
)

// Options say what to measure.
type Options struct {
	Protocol string // of the detecting group: classic or consumer
	Times    int    // how often each drill is done
	Brokers  int
	Drills   []string // those whose names begin so; none is all
	Prtwatch string   // the binary
	Dir      string   // for states, logs and the brokers' data; made here
	Keep     bool     // keep the brokers' data
	Set      []string // more of prtwatch's configuration, key=value: none to measure what is shipped
	Log      func(format string, args ...any)
}

// Result is what was measured.
type Result struct {
	Protocol string
	Brokers  int
	Figures  []Figure
	SignIns  int // that were written, each of which was to alert
	Lost     int // that never did
	Doubled  int // that did more than once
	Findings []string
	Took     time.Duration
}

// patience bounds every wait: what takes longer never ends.
const patience = 90 * time.Second

// scene is a measurement that runs.
type scene struct {
	Options
	cluster   *cluster.Cluster
	admin     *kadm.Client
	instances []*fleet.Instance
	stream    *stream

	mu     sync.Mutex
	result Result
}

// Run measures on a cluster of its own. The error is of the measuring itself; what is wrong with
// prtwatch is in the result's findings.
func Run(ctx context.Context, o Options) (result Result, err error) {
	began := time.Now()
	s := &scene{Options: o}
	s.result = Result{Protocol: o.Protocol, Brokers: o.Brokers}
	if s.cluster, err = cluster.Start(ctx, cluster.Options{Brokers: o.Brokers, Dir: filepath.Join(o.Dir, "kafka"), Keep: o.Keep}); err != nil {
		return s.result, err
	}
	defer func() { err = errors.Join(err, s.cluster.Close()) }()
	if err := s.connect(); err != nil {
		return s.result, err
	}
	defer func() { s.admin.Close() }()
	if err := s.topics(ctx); err != nil {
		return s.result, err
	}
	if s.stream, err = newStream(s.cluster.Addrs(), s.find); err != nil {
		return s.result, err
	}
	defer s.stream.close()
	defer s.end()
	if err := s.start(ctx); err != nil {
		return s.result, err
	}
	if err := s.drills(ctx); err != nil {
		return s.result, err
	}
	s.result.SignIns, s.result.Lost, s.result.Doubled = s.stream.finish(ctx)
	s.bound()
	s.result.Took = time.Since(began)
	return s.result, nil
}

// bound says which alerts came too late. In the consumer protocol the brokers say how soon a member is
// missed.
func (s *scene) bound() {
	for _, f := range s.result.Figures {
		if s.Protocol != "classic" || len(f.Latest) == 0 {
			continue
		}
		if late := median(f.Latest); late > f.Within {
			s.find("%s: alerts came up to %s late (median of %d), more than %s", f.Drill, seconds(late), len(f.Latest), f.Within)
		}
		if late := slices.Max(f.Latest); s.Brokers == 1 && f.Most > 0 && late > f.Most {
			s.find("%s: an alert came %s late, more than %s", f.Drill, seconds(late), f.Most)
		}
	}
}

// connect makes a new client to ask the groups with. One whose question met a dead coordinator goes
// on asking there.
func (s *scene) connect() error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.cluster.Addrs()...), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	if s.admin != nil {
		s.admin.Close()
	}
	s.admin = kadm.NewClient(client)
	return nil
}

// config is what each process is told: where the brokers are, and nothing that it has a default for.
func (s *scene) config() (args []string) {
	set := []string{
		"kafka.brokers=" + strings.Join(s.cluster.Addrs(), ","), "topics.replication=" + strconv.Itoa(min(3, s.Brokers)),
		"http.listen=127.0.0.1:0", "log.format=text", "detect.group_protocol=" + s.Protocol,
	}
	for _, kv := range append(set, s.Set...) {
		args = append(args, "--set", kv)
	}
	return args
}

// topics makes the topics. A broker may be asked that does not know the input topic yet.
func (s *scene) topics(ctx context.Context) error {
	if _, err := s.admin.CreateTopic(ctx, inputPartitions, int16(min(3, s.Brokers)), nil, inputTopic); err != nil {
		return fmt.Errorf("creating the input topic: %w", err)
	}
	if err := s.await(ctx, "prtwatch topics --create", func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, s.Prtwatch, append([]string{"topics", "--create"}, s.config()...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}); err != nil {
		return err
	}
	return s.await(ctx, "all brokers to know the topics", s.known)
}

// start starts the instances and the stream, and waits until alerts flow as they will.
func (s *scene) start(ctx context.Context) error {
	for n := range instances {
		name := "instance" + strconv.Itoa(n)
		dir := filepath.Join(s.Dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		i := fleet.New(name, s.Prtwatch, filepath.Join(dir, "state"), filepath.Join(s.Dir, name+".log"), s.config(), s.exited)
		s.instances = append(s.instances, i)
		if err := i.Start(fleet.Life{}); err != nil {
			return err
		}
	}
	s.stream.begin()
	return s.warm(ctx)
}

// warmth bounds how long warm waits for brokers that never become quick, on a machine that is too small.
const warmth = 3 * time.Minute

// warm waits until the alerts of five seconds came within one: the brokers' code is compiled while it
// runs, and in their first minute that takes more of two cores than all else.
func (s *scene) warm(ctx context.Context) error {
	for began := time.Now(); ; {
		from := time.Now()
		until, err := s.flowing(ctx, from.Add(4*time.Second))
		if err != nil {
			return err
		}
		switch o := s.stream.outage(from, until); {
		case o.latest < time.Second:
			return nil
		case time.Since(began) > warmth:
			s.Log("alerts still come up to %s late after %s; what follows is measured all the same", o.latest.Round(time.Millisecond), warmth)
			return nil
		}
	}
}

// exited hears of every end of a process: each must have been asked for.
func (s *scene) exited(i *fleet.Instance, e fleet.Exit) {
	if !e.Asked {
		s.find("%s ended by itself with code %d: %s", i.Name, e.Code, e.Tail())
	}
}

// find notes something that is wrong.
func (s *scene) find(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Findings = append(s.result.Findings, fmt.Sprintf(format, args...))
}

// end ends the processes.
func (s *scene) end() {
	for _, i := range s.instances {
		i.Kill()
	}
}
