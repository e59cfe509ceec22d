package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// intune is a record of a sign-in to Intune without MFA, so long ago.
func intune(id, upn string, ago time.Duration) string {
	return fmt.Sprintf(`{"time":%q,"category":"NonInteractiveUserSignInLogs","resultType":"0","properties":{"id":%q,"userPrincipalName":%q,`+
		`"ipAddress":"203.0.113.7","autonomousSystemNumber":64500,"resourceDisplayName":"Microsoft Intune"}}`,
		time.Now().Add(-ago).UTC().Format(time.RFC3339Nano), id, upn)
}

// letter makes a dead letter as the splitter of an earlier version would have: of a record of the input, or with record -1 of a
// message.
func (in *installation) letter(reason string, record int, value string) {
	in.t.Helper()
	raw := &kgo.Record{Topic: in.input, Partition: 1, Offset: 42}
	in.b.Produce(kafka.DeadLetter(in.b.Name("dead-letter"), raw, record, reason, []byte(value)))
}

// redrives runs redrive and wants lines on standard error.
func (in *installation) redrives(args string, lines ...string) ended {
	in.t.Helper()
	if in.b.Guarded() && in.redriver == nil {
		_, in.redriver = in.account("redrives", rightsOf(rights(in.t), "redrive"))
	}
	got := prtwatch("", slices.Concat([]string{"redrive", "--group", in.b.Name("redrive")}, in.config, in.redriver, strings.Fields(args))...)
	if got.code != exitDone {
		in.t.Fatalf("redrive %s: %+v", args, got)
	}
	for _, line := range lines {
		if !strings.Contains(got.stderr, line+"\n") {
			in.t.Errorf("redrive %s says no %q:\n%s", args, line, got.stderr)
		}
	}
	return got
}

// once returns the sign-ins that were alerted, and wants none to be alerted twice.
func (in *installation) once() (ids []string) {
	in.t.Helper()
	for id, alerts := range in.alerted(in.alerts) {
		if ids = append(ids, id); len(alerts) > 1 {
			in.t.Errorf("%s was alerted %d times", id, len(alerts))
		}
	}
	slices.Sort(ids)
	return ids
}

// The splitter's own dead letters and those of a version that read less, on an installation whose input may be at Event
// Hubs, where there is a right to listen only.
func TestDeadLettersThatCanBeReadNowAreJudgedAndAlertOnce(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in, namespace := fromEventHubs(t, b)
		i := in.start(t.TempDir())
		i.says("partitions assigned")
		in.inputBroker.Produce(&kgo.Record{Topic: in.input, Value: []byte(`{"records":[` + intune("read at once", "ada@example.com", 0) + `,{"properties":{}}]}`)})
		waitFor(t, "a dead letter of the splitter", func() bool { return len(b.ReadAll(b.Name("dead-letter"))) == 1 })

		in.letter("wrong_type", 3, intune("of a record", "ada@example.com", 2*time.Hour))
		in.letter("not_a_record", -1, `{"records":[`+intune("of a message", "grace@example.com", time.Hour)+`,{"time":7}]}`)
		in.letter("malformed_json", -1, `{"records":[`+intune("stood then", "grace@example.com", time.Hour)+`]`)
		in.letter("not_a_record", 0, `[`+intune("in an array in an array", "grace@example.com", time.Hour)+`]`)
		in.letter("bad_time", 1, intune("too old", "ada@example.com", 17*24*time.Hour))
		in.letter("wrong_type", 2, `{"category":"AuditLogs"}`)
		in.letter("too_long", 4, strings.Repeat(" ", kafka.MaxDeadLetter)+intune("cut", "ada@example.com", 0))
		in.letter("tick", -1, "tick")

		found := in.redrives("--dry-run", "read:       9 dead letters of "+b.Name("dead-letter")+", from offset 0", "readable:   2 (not_a_record 1, wrong_type 1), which are 2 sign-ins",
			"next:       offset 0, group "+b.Name("redrive")).stdout
		if strings.Count(found, "\n") != 2 || !strings.Contains(found, "1\twrong_type\t"+in.input+"/1@42#3\t") || !strings.Contains(found, "\tof a message\tgrace@example.com\n") {
			t.Errorf("the dry run found:\n%s", found)
		}
		all := []string{
			"read:       9 dead letters of " + b.Name("dead-letter") + ", from offset 0",
			"before:     0 offsets; --all tries them again",
			"redriven:   2 (not_a_record 1, wrong_type 1), which are 2 sign-ins",
			"unreadable: 4 (malformed_json 1, missing_id 1, not_a_record 1, wrong_type 1)",
			"truncated:  1",
			"too old:    1 sign-ins",
			"skipped:    2 (no_sign_in 1, tick 1)",
			"next:       offset 9, group " + b.Name("redrive"),
		}
		in.redrives("", all...)
		judged := func(outcome string, n float64) {
			waitFor(t, fmt.Sprintf("%v sign-ins to be %s", n, outcome), func() bool {
				return i.metric(`prtwatch_signins_judged_total{outcome="`+outcome+`"}`) == n
			})
		}
		judged("alerted", 3)
		want := []string{"of a message", "of a record", "read at once"}
		if got := in.once(); !slices.Equal(got, want) {
			t.Errorf("alerted were %q, want %q", got, want)
		}

		// What is new is taken, and no more.
		in.letter("wrong_type", 0, intune("new", "linus@example.com", time.Hour))
		in.redrives("--reason wrong_type", "read:       1 dead letters of "+b.Name("dead-letter")+", from offset 9", "next:       offset 9, group "+b.Name("redrive"))
		judged("alerted", 4)
		in.redrives("", "redriven:   1 (wrong_type 1), which are 1 sign-ins", "next:       offset 10, group "+b.Name("redrive"))
		in.redrives("", "read:       0 dead letters of "+b.Name("dead-letter")+", from offset 10", "before:     10 offsets; --all tries them again")
		judged("repeated", 1)
		// And all again, of which nothing comes.
		in.redrives("--all", "redriven:   3 (wrong_type 2, not_a_record 1), which are 3 sign-ins", "next:       offset 10, group "+b.Name("redrive"))
		in.redrives("--from 9", "redriven:   1 (wrong_type 1), which are 1 sign-ins")
		in.redrives("--since "+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)+" --reason not_a_record", "redriven:   1 (not_a_record 1), which are 1 sign-ins", "skipped:    8 (reason_not_asked_for 8)")
		judged("repeated", 6)
		if got := in.once(); !slices.Equal(got, append([]string{"new"}, want...)) {
			t.Errorf("in the end %q were alerted", got)
		}
		i.stop()
		if refused := namespace.Refused(); refused != nil {
			t.Errorf("the namespace refused %v", refused)
		}
	})
}
