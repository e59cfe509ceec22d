package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// What the JSON object has, the help documents; and each figure under its own name.
func TestTheHelpNamesEveryFieldOfTheJSON(t *testing.T) {
	t.Parallel()
	code, help, _ := verifier("--help")
	text, err := json.Marshal(newReport(0))
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	for field := range object {
		if code != exitWell || !strings.Contains(help, " "+field+" ") {
			t.Errorf("exit code %d, the help does not name %s", code, field)
		}
	}
	for _, f := range newReport(0).figures() {
		if _, ok := object[f.name]; !ok {
			t.Errorf("there is no field %s", f.name)
		}
	}
}

func TestAWrongCommandLineIsOneLineAndExitCode2(t *testing.T) {
	for _, c := range []struct {
		args  []string
		tells string
	}{
		{[]string{"--nope"}, "unknown flag: --nope"},
		{[]string{"topic"}, `"topic": verify takes flags only`},
		{[]string{"--delivery", "twice"}, `--delivery is "twice": it must be exactly-once or at-least-once`},
		{[]string{"--lateness", "90m"}, "--lateness is 1h30m0s: it must be whole hours"},
		{[]string{"--max-future", "-1s"}, "--max-future is -1s"},
		{[]string{"--again-within", "-1s"}, "--again-within is -1s"},
		{[]string{"--examples", "-1"}, "--examples is -1"},
		{[]string{"--event-time", "soon"}, `--event-time is "soon": it must be generated or created`},
	} {
		code, stdout, stderr := verifier(c.args...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, c.tells) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, %q, %q", c.args, code, stdout, stderr)
		}
	}
}

// What cannot be read is no verdict: one line, exit code 1, and nothing that could be taken for a report.
func TestWhatCannotBeReadIsOneLineAndExitCode1(t *testing.T) {
	b := brokertest.Fake(t)
	var args []string
	for _, name := range []string{"input", "signins", "alerts", "baseline", "dead-letter"} {
		b.CreateTopic(b.Name(name), 1, nil)
		args = append(args, "--"+name, b.Name(name))
	}
	b.Produce(&kgo.Record{Topic: b.Name("alerts"), Value: []byte("x")})
	deleted := kadm.Offsets{}
	deleted.AddOffset(b.Name("alerts"), 0, 1, -1)
	args = slices.Clip(args)
	there := slices.Clip(append(args, "--brokers", strings.Join(b.Addrs(), ",")))
	for _, c := range []struct {
		name  string
		args  []string
		tells string
	}{
		{"brokers that are away", append(args, "--brokers", "127.0.0.1:1,127.0.0.1:2"), "connecting to brokers [127.0.0.1:1 127.0.0.1:2]"},
		{"a topic that is missing", append(there, "--alerts", "nowhere"), "nowhere"},
		{"a state folder that is none", append(there, "--state", t.TempDir()), "reading the format of state folder"},
		{"a state folder whose name has two lines", append(there, "--state", "no\nfolder"), "reading the format of state folder no; folder"},
		{"a topic whose beginning is gone", append(there, "--alerts", b.Name("alerts")), "begins at offset 1: what was before it is gone"},
	} {
		if strings.Contains(c.name, "beginning") {
			if _, err := b.Admin().DeleteRecords(context.Background(), deleted); err != nil {
				t.Fatal(err)
			}
		}
		code, stdout, stderr := verifier(c.args...)
		if code != exitWrong || stdout != "" || !strings.Contains(stderr, c.tells) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d, %q, %q", c.name, code, stdout, stderr)
		}
	}
}
