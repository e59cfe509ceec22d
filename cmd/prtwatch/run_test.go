package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// runs runs a command line that is to end by itself, in this process.
func (in *installation) runs(args ...string) ended {
	in.t.Helper()
	return prtwatch("", append(append([]string{"run", "--set", "log.format=json"}, in.config...), args...)...)
}

func TestRunRefusesWhatItCannotWorkWith(t *testing.T) {
	in := newInstallation(t, brokertest.Fake(t))
	newer := t.TempDir()
	if err := os.WriteFile(filepath.Join(newer, "format"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args string
		code int
		want string
	}{
		{"a stage that is none", "--only detects", exitWrong, "prtwatch: --only detects: is no stage"},
		{"a topic that is missing", "--set topics.alerts=none", exitWrong, "prtwatch: topic none is missing: "},
		{"an input topic that is missing", "--set input.topics=none", exitWrong, "prtwatch: topic none is missing: "},
		{"a topic that has another partition count", "--set topics.partitions=5", exitWrong, "prtwatch: topic " + in.signs + ": partitions is 6, not 5: "},
		{"a baseline that is not compacted", "--set topics.baseline=" + in.alerts + " --set topics.alerts=" + in.b.Name("baseline"), exitWrong, "cleanup.policy"},
		{"a state of a newer format", "--set state.dir=" + newer, exitWrong, newer},
		{"an address that is taken", "--set http.listen=" + in.b.Addrs()[0], exitWrong, "prtwatch: http.listen: " + in.b.Addrs()[0] + " is in use by another process"},
		{"a state folder that cannot be made", "--set state.dir=/dev/null/state", exitWrong, "prtwatch: state.dir: "},
		{"brokers that do not answer", "--set kafka.brokers=127.0.0.1:1 --set start_timeout=1s", exitFailed, "prtwatch: kafka.brokers: 127.0.0.1:1: no answer within 1s: "},
		{"an input that does not answer", "--set input.brokers=127.0.0.1:1 --set start_timeout=5s", exitFailed, "prtwatch: input.brokers: 127.0.0.1:1: no answer within 5s: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := in.runs(append([]string{"--set", "state.dir=" + t.TempDir()}, strings.Fields(test.args)...)...)
			if got.code != test.code || !strings.Contains(got.stderr, test.want) || got.stdout != "" {
				t.Errorf("exit code %d, not %d, and it said:\n%snot: %s", got.code, test.code, got.stderr, test.want)
			}
			for line := range strings.Lines(got.stderr) { // none of the log's
				if !strings.HasPrefix(line, "prtwatch: ") {
					t.Errorf("a line of another kind: %s", line)
				}
			}
		})
	}
}

func TestTwoProcessesCannotShareAStateFolder(t *testing.T) {
	in := newInstallation(t, brokertest.Fake(t))
	dir := t.TempDir()
	first := in.start(dir)
	first.says("running")
	got := in.runs("--set", "state.dir="+dir)
	if got.code != exitWrong || !strings.Contains(got.stderr, dir) || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("the second: %+v", got)
	}
	first.stop()
}

func TestOfTwoInstancesOfOneNameOneEndsAndSaysWhy(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		one := in.start(t.TempDir(), "--set", "instance=twin")
		one.says("partitions assigned")
		two := in.start(t.TempDir(), "--set", "instance=twin")
		ended := make(chan *instance, 2)
		for _, i := range []*instance{one, two} {
			go func() { _ = i.cmd.Wait(); ended <- i }()
		}
		loser := <-ended
		if code := loser.cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(loser.log.String(), `another process runs as instance "twin"`) {
			t.Errorf("exit code %d, and it said:\n%s", code, loser.log)
		}
		other := one
		if loser == one {
			other = two
		}
		other.says("partitions assigned")
		if err := other.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if <-ended; other.cmd.ProcessState.ExitCode() != exitDone {
			t.Errorf("the other one: %s\n%s", other.cmd.ProcessState, other.log)
		}
	})
}

// While a member is dead and its session not over, the broker answers no JoinGroup, and on that
// connection nothing else: not the goodbye either, if it were sent there.
func TestAStopIsQuickWhileTheGroupsWaitForADeadMember(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		dirs := [2]string{t.TempDir(), t.TempDir()}
		other := in.start(dirs[0])
		other.says("splitting")
		dead := in.start(dirs[1])
		dead.says("partitions assigned")
		// Under another name: its own would be given its place.
		i, join := in.aboutToJoin(t.TempDir())
		dead.kill()
		join()
		waitFor(t, "the splitting group to rebalance", func() bool {
			groups, err := b.Admin().DescribeGroups(t.Context(), b.Name("split"))
			return err == nil && groups[b.Name("split")].State == "PreparingRebalance"
		})
		began := time.Now()
		i.stop()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it took %s", took)
		}
		other.stop()
	})
}

// aboutToJoin starts an instance that joins its groups when join is called: however long it takes to start, the
// session of one that is killed before is not over by then.
func (in *installation) aboutToJoin(dir string, args ...string) (i *instance, join func()) {
	in.t.Helper()
	p := newProxy(in.t, in.b)
	var joins atomic.Int64
	held := p.hold(func(r kmsg.Request) bool { return kmsg.Key(r.Key()) == kmsg.JoinGroup && joins.Add(1) > 0 })
	i = in.start(dir, append(args, "--set", "kafka.brokers="+p.addr())...)
	waitFor(in.t, "a splitting member and two detecting ones to join", func() bool { return joins.Load() >= 3 })
	return i, held.end
}

// settled waits until so many instances share both stages out among them.
func (in *installation) settled(instances int) {
	in.t.Helper()
	waitFor(in.t, "the groups to settle", func() bool {
		split, detect, shared := in.members()
		return shared && split == instances && detect == 2*instances
	})
}

// members is how many members the groups have, and whether nothing moves between them: in the
// middle of a cooperative rebalance a partition that moves is nobody's.
func (in *installation) members() (split, detect int, shared bool) {
	in.t.Helper()
	names := [2]string{in.b.Name("split"), in.b.Name("detect")}
	groups, err := in.b.Admin().DescribeGroups(in.t.Context(), names[:]...)
	if err != nil {
		return 0, 0, false
	}
	s, d := groups[names[0]], groups[names[1]]
	owned := len(s.AssignedPartitions()[in.input]) + len(d.AssignedPartitions()[in.signs])
	return len(s.Members), len(d.Members), s.State == "Stable" && d.State == "Stable" && owned == inputPartitions+6
}

// rejoins counts from now on how often a member of the splitting group joins that has joined before,
// which is how it answers a rebalance; on a real broker it counts nothing.
func (in *installation) rejoins() *atomic.Int64 {
	n := new(atomic.Int64)
	if in.b.Real() {
		return n
	}
	cluster := in.b.Embedded().Cluster
	cluster.ControlKey(int16(kmsg.JoinGroup), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if join := request.(*kmsg.JoinGroupRequest); join.MemberID != "" && join.Group == in.b.Name("split") {
			n.Add(1)
		}
		return nil, nil, false
	})
	return n
}

func TestAKilledInstanceThatComesBackSplitsAgainAndTheOthersHearNothing(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		dirs := [2]string{t.TempDir(), t.TempDir()}
		killed := in.start(dirs[0])
		killed.says("splitting")
		other := in.start(dirs[1])
		in.settled(2)
		dir := dirs[0]
		if !b.Real() { // kfake rebalances when a group's leader comes back, which Kafka does not
			killed, other, dir = other, killed, dirs[1]
		}
		other.says("partitions assigned")
		rejoins := in.rejoins()
		name, err := os.ReadFile(filepath.Join(dir, "instance"))
		if err != nil {
			t.Fatal(err)
		}
		// Its folder is its own until it is killed.
		back, join := in.aboutToJoin(t.TempDir(), "--set", "instance="+strings.TrimSpace(string(name)))
		killed.kill()
		join()
		if b.Real() {
			back.says("splitting")
		}
		back.says("partitions assigned")
		in.fill(5, 16)
		in.done()
		if b.Real() && strings.Contains(other.log.String(), "splitting") {
			t.Error("the other instance took the splitting over")
		}
		if n := rejoins.Load(); n > 0 {
			t.Errorf("members joined again %d times", n)
		}
		back.stop()
		other.stop()
	})
}

// A static member's client says nothing when it closes: without a goodbye of its own the others
// would wait for the sessions of one that was scaled down.
func TestAnInstanceThatStopsHasLeftItsGroups(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		stays := in.start(t.TempDir())
		stays.says("splitting")
		leaves := in.start(t.TempDir())
		in.settled(2)
		stays.stop()
		leaves.says("splitting")
		in.settled(1)
		leaves.stop()
		if split, detect, _ := in.members(); split+detect > 0 {
			t.Errorf("%d and %d members are left in the groups", split, detect)
		}
	})
}

// Of several brokers one may be away, or a connection may break, when another has answered.
func TestABrokerThatHangsUpAmidTheChecksAtTheStartIsAskedAgain(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.DescribeConfigs, kmsg.Metadata} {
		t.Run(key.Name(), func(t *testing.T) {
			in := newInstallation(t, brokertest.Fake(t))
			p := newProxy(t, in.b)
			held := p.holdAfter(0, key)
			i := in.start(t.TempDir(), "--set", "kafka.brokers="+p.addr())
			held.wait(t)
			held.drop()
			i.says("partitions assigned")
			i.stop()
		})
	}
}

func TestASecondSignalEndsItAtOnce(t *testing.T) {
	in := newInstallation(t, brokertest.Fake(t))
	p := newProxy(t, in.b)
	i := in.start(t.TempDir(), "--set", "kafka.brokers="+p.addr())
	i.says("partitions assigned")
	p.holdAll() // nobody hears that it leaves, so the end in good order takes its time
	ended := make(chan struct{})
	go func() { _ = i.cmd.Wait(); close(ended) }()
	// Again and again: two that come together count as one.
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		_ = i.cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
			if code := i.cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(i.log.String(), "a second signal: ended at once") {
				t.Errorf("exit code %d, and it said:\n%s", code, i.log)
			}
			return
		case <-ticker.C:
		}
	}
}

// The one who has no state takes over what another has judged, and the broker answers no fetch of what he
// has to read for it.
func TestReadyzSaysWhenAllIsRestored(t *testing.T) {
	in := newInstallation(t, brokertest.Fake(t))
	in.fill(5, 16)
	i := in.start(t.TempDir())
	in.done()
	i.stop()
	profile := in.b.ReadAll(in.b.Name("baseline"))[0]
	p := newProxy(t, in.b)
	held := p.holdFetches(profile.Topic, profile.Partition, 0)

	i = in.startAt(in.b.Door(), t.TempDir(), "--set", "kafka.brokers="+p.addr())
	url := "http://" + i.address()
	waitFor(t, "/readyz to say that a partition is restored", func() bool {
		code, body := get(t, url+"/readyz")
		if code != http.StatusServiceUnavailable || !strings.HasPrefix(body, "not ready\n") {
			t.Fatalf("%d %q", code, body)
		}
		return strings.Contains(body, "detect: restoring 1 partitions, ")
	})
	held.wait(t)
	const remaining = "prtwatch_restore_records_remaining"
	waitFor(t, "/metrics to say how much is left", func() bool { return i.metric(remaining) > 0 })
	if code, body := get(t, url+"/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("%d %q while a partition is restored", code, body)
	}
	held.end()
	waitFor(t, "/readyz to be 200", func() bool {
		code, body := get(t, url+"/readyz")
		return code == http.StatusOK && body == "ready\n"
	})
	_, text := get(t, url+"/metrics")
	for _, name := range []string{
		"prtwatch_build_info", "prtwatch_split_active 1", "prtwatch_state_partitions_leased", "prtwatch_kafka_", "go_goroutines", "process_resident_memory_bytes",
	} {
		if !strings.Contains(text, name) {
			t.Errorf("/metrics has no %s", name)
		}
	}
	if n := i.metric(remaining); n != 0 {
		t.Errorf("all is restored, and %s is %v", remaining, n)
	}
	i.stop()
}

// A splitting and a detecting process do together what one does alone, and the detecting one
// starts first, when there is nothing to detect.
func TestTheStagesRunApart(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		detecting := in.start(t.TempDir(), "--only", "detect")
		detecting.says("partitions assigned")
		in.fill(10, 16)
		splitting := in.start(t.TempDir(), "--only", "split")
		in.done()
		splitting.stop()
		detecting.stop()
		in.wantTheQuerysRows()
	})
}

// The internal topics live on another cluster than the input.
func TestInputAndInternalTopicsOnTwoClusters(t *testing.T) {
	inputCluster := brokertest.Fake(t)
	in := newInstallation(t, brokertest.Start(t))
	inputCluster.CreateTopic(in.input, inputPartitions, nil)
	in.config = append(in.config, "--set", "input.brokers="+strings.Join(inputCluster.Addrs(), ","))
	in.inputBroker = inputCluster
	in.fill(10, 16)
	i := in.start(t.TempDir())
	in.done()
	i.stop()
	in.wantTheQuerysRows()
}

func TestTheDemoTellsATheftAndItsAlert(t *testing.T) {
	cmd := process(t, "demo")
	story, said := new(lockedBuffer), new(lockedBuffer)
	cmd.Stdout, cmd.Stderr = story, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"sign-ins learned", "THEFT", "thief 1", "thief 2", "ALERT", "It is the thief.", `"schema": "prtwatch.alert/1"`} {
		waitFor(t, "the demo to say "+part, func() bool { return strings.Contains(story.String(), part) })
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || said.String() != "" || !strings.Contains(story.String(), "the slowest alert took") {
		t.Errorf("%v, %s, and the story was:\n%s", err, said, story)
	}
	if names := leftBehind(t, cmd); len(names) > 0 {
		t.Errorf("it left %q behind", names)
	}
}

func TestTheDemoEndsInTime(t *testing.T) {
	if got := prtwatch("", "demo", "--for", "1s"); got.code != exitDone || got.stderr != "" {
		t.Errorf("%+v", got)
	}
}
