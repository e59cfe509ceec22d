package main

import (
	"maps"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestTheReportForPeopleMarksWhatIsWrong(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	code, well, _ := verifier(in.flags.args()...)
	if lines := strings.Split(strings.TrimSpace(well), "\n"); code != exitWell || strings.Contains(well, "!") || lines[len(lines)-1] != "all is well" {
		t.Errorf("exit code %d, %s", code, well)
	}
	f := maps.Clone(in.flags)
	in.rewrite(f, "alerts", func([]*kgo.Record) []*kgo.Record { return nil })
	code, wrong, _ := verifier(append(f.args(), "--examples", "1")...)
	t.Log("\n" + wrong)
	for _, line := range []string{"!         3  rows without an alert\n             - sign-in ", "NOT WELL: see the lines with an exclamation mark\n"} {
		if !strings.Contains(wrong, line) || strings.Count(wrong, "- sign-in ") != 1 || code != exitWrong {
			t.Errorf("exit code %d, %q is not in\n%s", code, line, wrong)
		}
	}
}
