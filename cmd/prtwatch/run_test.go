package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

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
		{"an input that does not answer", "--set input.brokers=127.0.0.1:1 --set start_timeout=1s", exitFailed, "prtwatch: input.brokers: 127.0.0.1:1: no answer within 1s: "},
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

func TestASecondSignalEndsItAtOnce(t *testing.T) {
	in := newInstallation(t, brokertest.Fake(t))
	i := in.start(t.TempDir())
	i.says("partitions assigned")
	in.b.Embedded().Close() // nothing can be committed now, so the end in good order takes its time
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

func TestReadyzSaysWhenAllIsRestored(t *testing.T) {
	in := newInstallation(t, brokertest.Fake(t))
	i := in.start(t.TempDir())
	i.says("running")
	address := regexp.MustCompile(`http=(\S+)`).FindStringSubmatch(i.log.String())[1]
	waitFor(t, "/readyz to be 200", func() bool {
		response, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"prtwatch_build_info", "prtwatch_split_active 1", "prtwatch_state_partitions_leased", "prtwatch_kafka_", "go_goroutines", "process_resident_memory_bytes",
	} {
		if !strings.Contains(string(text), name) {
			t.Errorf("/metrics has no %s", name)
		}
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
