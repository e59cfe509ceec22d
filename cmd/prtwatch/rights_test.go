package main

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// right is a row of the table of docs/security.md.
type right struct {
	who     []string
	acl     brokertest.ACL // its name is a key of the configuration
	without string         // what is said where it is missing
	ends    bool           // the process
}

// rights reads the table.
func rights(t *testing.T) []right {
	t.Helper()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	resources := map[string]kmsg.ACLResourceType{
		"topic": kmsg.ACLResourceTypeTopic, "group": kmsg.ACLResourceTypeGroup, "transactional id": kmsg.ACLResourceTypeTransactionalId,
	}
	operations := map[string]kmsg.ACLOperation{
		"Read": kmsg.ACLOperationRead, "Write": kmsg.ACLOperationWrite, "Create": kmsg.ACLOperationCreate,
		"Describe": kmsg.ACLOperationDescribe, "DescribeConfigs": kmsg.ACLOperationDescribeConfigs,
	}
	var rows []right
	_, table, found := strings.Cut(string(text), "| who | resource | name | pattern | operation | without it |\n|---|---|---|---|---|---|\n")
	if !found {
		t.Fatal("docs/security.md has no table of rights")
	}
	for line := range strings.Lines(table) {
		line, isRow := strings.CutPrefix(strings.TrimSpace(line), "| ")
		if !isRow {
			break
		}
		cells := strings.Split(strings.TrimSuffix(line, " |"), " | ")
		if len(cells) != 6 || resources[cells[1]] == 0 || operations[cells[4]] == 0 || cells[3] != "literal" && cells[3] != "prefixed" {
			t.Fatalf("a row that is none: %q", line)
		}
		rows = append(rows, right{
			who: strings.Split(cells[0], ", "),
			acl: brokertest.ACL{
				Resource: resources[cells[1]], Name: strings.Trim(cells[2], "`"), Prefixed: cells[3] == "prefixed", Operation: operations[cells[4]],
			},
			without: regexp.MustCompile("`(.*)`").FindStringSubmatch(cells[5])[1],
			ends:    strings.HasPrefix(cells[5], "ends"),
		})
	}
	return rows
}

// rightsOf returns the rows of somebody who is each of these.
func rightsOf(rows []right, who ...string) (of []right) {
	for _, r := range rows {
		if slices.ContainsFunc(r.who, func(w string) bool { return slices.Contains(who, w) }) {
			of = append(of, r)
		}
	}
	return of
}

// resource is the name of what a row is about, in this installation.
func (in *installation) resource(acl brokertest.ACL) brokertest.ACL {
	in.t.Helper()
	names := map[string]string{"input.topics": in.input, "detect.group-": in.b.Name("detect") + "-", "reader": in.b.Name("reader"), "prtwatch-redrive": in.b.Name("redrive")}
	for _, key := range []string{"topics.signins", "topics.baseline", "topics.alerts", "topics.dead_letter", "split.group", "detect.group"} {
		_, name, _ := strings.Cut(key, ".")
		if strings.HasSuffix(key, ".group") {
			name = strings.TrimSuffix(key, ".group")
		}
		names[key] = in.b.Name(strings.ReplaceAll(name, "_", "-"))
	}
	if acl.Name = names[acl.Name]; acl.Name == "" {
		in.t.Fatalf("a row of docs/security.md is about something unknown: %+v", acl)
	}
	return acl
}

// account makes a user who may do what the rows say and nothing else, and returns the flags by which prtwatch is him.
func (in *installation) account(name string, rows []right) (*brokertest.Account, []string) {
	in.t.Helper()
	user := in.b.NewAccount(name)
	acls := make([]brokertest.ACL, len(rows))
	for i, r := range rows {
		acls[i] = in.resource(r.acl)
	}
	user.Grant(acls...)
	return user, loginAt("kafka", user.Addr, user)
}

// loginAt are the flags by which prtwatch is a user at the brokers of a section.
func loginAt(section, addr string, user *brokertest.Account) []string {
	return []string{
		"--set", section + ".brokers=" + addr, "--set", section + ".sasl.mechanism=SCRAM-SHA-256",
		"--set", section + ".sasl.user=" + user.Name, "--set", section + ".sasl.password=" + user.Password,
	}
}

// inputAt are the flags by which the input is read at an address of its own.
func (in *installation) inputAt(addr string) []string {
	if in.user == nil {
		return []string{"--set", "input.brokers=" + addr}
	}
	return loginAt("input", addr, in.user)
}

// Everybody has just what the table says, and all of prtwatch works: topics are made, a history is written, split and
// judged, alerts are read; an instance is stopped and started again as two processes of a stage each, and another
// takes its work over when it is killed.
func TestTheRightsThatAreWrittenDownAreEnough(t *testing.T) {
	brokertest.EachGuarded(t, func(t *testing.T, b *brokertest.Broker) {
		rows := rights(t)
		in := newInstallation(t, b) // its topics are made with the rights of topics and create
		in.fill(6, 16)
		a := in.start(t.TempDir())
		in.split(in.made / 3)
		a.stop()

		_, splits := in.account("splits", rightsOf(rows, "split"))
		_, detects := in.account("detects", rightsOf(rows, "detect", "exactly-once"))
		dir := t.TempDir()
		splitter := in.start(t.TempDir(), append(splits, "--only", "split")...)
		detector := in.start(dir, append(detects, "--only", "detect")...)
		splitter.says("splitting")
		detector.says("partitions assigned")
		c := in.start(t.TempDir())
		c.says("partitions assigned")
		splitter.kill()
		detector.kill()
		in.done()
		c.stop()
		for _, i := range []*instance{a, c, splitter, detector} {
			wantNoneMissing(t, i)
		}
		in.wantTheQuerysRows()

		reader, _ := in.account("reader", rightsOf(rows, "alerts"))
		alerts := reader.Client(kgo.ConsumerGroup(b.Name("reader")), kgo.ConsumeTopics(in.alerts), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if fetches := alerts.PollRecords(ctx, 1); fetches.NumRecords() == 0 || alerts.CommitUncommittedOffsets(ctx) != nil {
			t.Errorf("the reader gets no alert: %v", fetches.Err())
		}
		_, gens := in.account("gens", rightsOf(rows, "gen"))
		if got := prtwatch("", slices.Concat([]string{"gen", "--users", "2", "--days", "1"}, in.config, gens)...); got.code != exitDone {
			t.Errorf("gen: %+v", got)
		}
		in.letter("not_json", 0, intune("read at last", "ada@example.com", 0))
		_, redrives := in.account("redrives", rightsOf(rows, "redrive"))
		got := prtwatch("", slices.Concat([]string{"redrive", "--group", b.Name("redrive")}, in.config, redrives)...)
		if got.code != exitDone || !strings.Contains(got.stderr, "which are 1 sign-ins") {
			t.Errorf("redrive: %+v", got)
		}
	})
}

// Without transactions the row of the transactional id is not needed.
func TestTheRightsThatAreWrittenDownAreEnoughAtLeastOnce(t *testing.T) {
	brokertest.EachGuarded(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		in.fill(5, 16)
		_, runs := in.account("plain", rightsOf(rights(t), "split", "detect"))
		i := in.start(t.TempDir(), append(runs, "--set", "delivery=at-least-once")...)
		in.done()
		i.stop()
		wantNoneMissing(t, i)
		in.wantTheQuerysRows()
	})
}

func wantNoneMissing(t *testing.T, i *instance) {
	t.Helper()
	for line := range strings.Lines(i.log.String()) {
		for _, trace := range []string{"AUTHORIZATION", "our user", "not ours"} {
			if strings.Contains(line, trace) {
				t.Errorf("a right is missing: %s", line)
			}
		}
	}
}

// No row is superfluous: who lacks one of them is told so, in one line that names the resource.
func TestARightThatIsMissingIsNamed(t *testing.T) {
	brokertest.EachGuarded(t, func(t *testing.T, b *brokertest.Broker) {
		rows := rights(t)
		in := newInstallation(t, b)
		in.fill(2, 16)
		first := in.start(t.TempDir())
		in.done()
		first.stop()
		in.pour(1)
		for _, test := range []struct {
			who     []string
			command []string
		}{
			{[]string{"split", "detect", "exactly-once"}, []string{"run"}},
			{[]string{"topics"}, []string{"topics"}},
			{[]string{"topics", "create", "create input"}, []string{"topics", "--create", "--input"}},
			{[]string{"gen"}, []string{"gen", "--users", "2", "--days", "1"}},
			{[]string{"redrive"}, []string{"redrive", "--group", b.Name("redrive")}},
			{[]string{"alerts"}, nil},
		} {
			mine := rightsOf(rows, test.who...)
			for n, row := range mine {
				acl := in.resource(row.acl)
				t.Run(strings.Join(test.who, " ")+" without "+acl.Operation.String()+" of "+row.acl.Name, func(t *testing.T) {
					rest := slices.Delete(slices.Clone(mine), n, n+1)
					user, flags := in.account(strings.ReplaceAll(t.Name(), "/", "-"), rest)
					var said string
					switch {
					case test.command == nil:
						said = readAs(t, in, user)
					case test.command[0] == "run":
						said = runsWithout(t, in.start(t.TempDir(), flags...), row)
					default:
						got := prtwatch("", slices.Concat(test.command, in.config, flags)...)
						said = got.stderr + got.stdout
						if row.ends == (got.code == exitDone) {
							t.Errorf("exit code %d", got.code)
						}
					}
					named := false
					for line := range strings.Lines(said) {
						named = named || strings.Contains(line, strings.TrimSuffix(acl.Name, "-")) && strings.Contains(line, row.without)
					}
					if !named {
						t.Errorf("no line names %s and says %q:\n%s", acl.Name, row.without, said)
					}
				})
			}
		}
	})
}

// runsWithout waits until a process has said that it lacks a right, or has ended for it, and returns what it said.
func runsWithout(t *testing.T, i *instance, row right) string {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- i.cmd.Wait() }()
	within := time.After(30 * time.Second)
	for look := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case err := <-ended:
			if !row.ends || err == nil {
				t.Errorf("it ended: %v", err)
			}
			return i.log.String()
		case <-look.C:
			if row.ends || !strings.Contains(i.log.String(), row.without) {
				continue
			}
		case <-within:
			t.Error("it goes on as if nothing were missing")
		}
		i.signal(syscall.SIGTERM)
		<-ended
		return i.log.String()
	}
}

// readAs reads an alert as a user, and returns what is in his way.
func readAs(t *testing.T, in *installation, user *brokertest.Account) string {
	t.Helper()
	client := user.Client(kgo.ConsumerGroup(in.b.Name("reader")), kgo.ConsumeTopics(in.alerts))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fetches := client.PollRecords(ctx, 1)
	if fetches.Err() == nil {
		return ""
	}
	return in.alerts + " " + in.b.Name("reader") + " " + fetches.Err().Error()
}
