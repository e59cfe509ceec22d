package main

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/prtwatch/prtwatch/cmd/faults/plan"
	"github.com/prtwatch/prtwatch/cmd/faults/round"
)

// line is a round in one line.
func line(r round.Result) string {
	kinds := make(map[string]int)
	for _, f := range r.Findings {
		kinds[f.Kind]++
	}
	return fmt.Sprintf("%d faults, %d sign-ins, %d findings %v, a partition stood still for %s, took %s",
		injected(r), r.Feed.SignIns, len(r.Findings), kinds, tenths(r.Still.Detecting.For), r.Took.Round(time.Second))
}

// injected adds up the faults of a round. Those of a fault point are counted by name too, which
// does not make them more.
func injected(r round.Result) int {
	sum := 0
	for name, n := range r.Injected {
		if !strings.Contains(name, " ") {
			sum += n
		}
	}
	return sum
}

func tenths(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// total is the sum of some rounds.
type total struct {
	round.Result
	rounds, bad, verified int
	faults                int
	verdict               map[string]float64
	findings              map[string]int
}

// sum adds up the rounds that are wanted.
func (s *suite) sum(wanted func(round.Result) bool) total {
	t := total{verdict: make(map[string]float64), findings: make(map[string]int)}
	t.Injected, t.Begun = make(map[string]int), make(map[string]int)
	for _, r := range s.results {
		if !wanted(r) {
			continue
		}
		t.rounds++
		for name, n := range r.Injected {
			t.Injected[name] += n
		}
		for name, n := range r.Begun {
			t.Begun[name] += n
		}
		for _, f := range r.Findings {
			t.findings[f.Kind]++
		}
		if len(r.Findings) > 0 {
			t.bad++
		}
		if r.Verdict != nil {
			t.verified++
			for name, n := range r.Verdict.Numbers() {
				t.verdict[name] += n
			}
		}
		t.faults += injected(r)
		t.Usage = t.Usage.Most(r.Usage)
		t.Still = t.Still.Most(r.Still)
		t.Restarts += r.Restarts
		t.Damaged += r.Damaged
		t.MayRepeat += r.MayRepeat
		t.Feed = t.Feed.Plus(r.Feed)
	}
	return t
}

// markdown is the report.
func (s *suite) markdown() string {
	var b strings.Builder
	t := s.sum(func(round.Result) bool { return true })
	outcome := "passed"
	if s.bad() {
		outcome = "FAILED"
	}
	fmt.Fprintf(&b, "# Fault suite: %s\n\n", outcome)
	fmt.Fprintf(&b, "`%s`\n\n", s.command(s.length, s.seeds(), s.protocol, s.delivery))
	fmt.Fprintf(&b, "%s, %d cores, %s; Apache Kafka, three brokers, three to four instances of two members each; %s.\n\n",
		runtime.GOOS+"/"+runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Since(s.began).Round(time.Second))
	if s.failed != nil {
		fmt.Fprintf(&b, "The suite itself failed: %v\n\n", s.failed)
	}
	if s.tooFew() {
		fmt.Fprintf(&b, "Only %d faults were injected, fewer than %d.\n\n", t.faults, s.least)
	}
	s.protocolTable(&b)
	fmt.Fprintf(&b, "\n| | |\n|---|---:|\n")
	row := func(name string, value any) { fmt.Fprintf(&b, "| %s | %v |\n", name, value) }
	row("rounds", t.rounds)
	row("of them with findings", t.bad)
	row("unreadable messages written", t.Feed.Unreadable)
	row("messages that the brokers did not acknowledge", t.Feed.Failed)
	for _, name := range slices.Sorted(maps.Keys(t.verdict)) {
		row("verify: "+name, t.verdict[name])
	}
	row("ends of a process that were not asked for, fault points included", t.Restarts)
	row("ends of a process that met a damaged table (code 1, the state set aside)", t.Damaged)
	for _, kind := range round.Kinds {
		row("findings: "+kind, t.findings[kind])
	}
	row("longest standstill of a partition of the detecting group", tenths(t.Still.Detecting.For))
	row("longest standstill of a partition of the splitting group, waits for hours of others included", tenths(t.Still.Splitting.For))
	row("most memory of an instance, MiB", t.Usage.Memory>>20)
	row("largest state of an instance, KiB", t.Usage.State>>10)
	row("most goroutines of an instance", t.Usage.Goroutines)
	s.faultTable(&b, t)
	s.roundTable(&b)
	return b.String()
}

// command is what repeats rounds.
func (s *suite) command(length time.Duration, seeds, protocols, deliveries string) string {
	text := fmt.Sprintf("go run ./cmd/faults --for %s --round %s --pace %s --seed %s --protocol %s --delivery %s --users %d",
		length, s.round, s.pace, seeds, protocols, deliveries, s.users)
	for _, name := range s.options.faults {
		text += " --fault " + name
	}
	return text
}

// seeds are those of the run, in the form of the command line.
func (s *suite) seeds() string {
	return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(s.turns.seeds), "[]")), ",")
}

// protocolTable is what docs/reliability.md has: a line a group protocol and delivery.
func (s *suite) protocolTable(b *strings.Builder) {
	columns := []string{
		"group protocol, delivery", "faults", "sign-ins", "alerts", "lost", "doubled", "made up", "altered", "repeated, of at most",
		"profiles wrong", "Pebble ahead or wrong", "else wrong", "other findings", "longest standstill",
	}
	fmt.Fprintf(b, "| %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---:|", len(columns)-1))
	for _, protocol := range []string{"classic", "consumer"} {
		for _, delivery := range []string{"exactly-once", "at-least-once"} {
			t := s.sum(func(r round.Result) bool { return r.Protocol == protocol && r.Delivery == delivery })
			if t.rounds > 0 {
				t.line(b, protocol+", "+delivery)
			}
		}
	}
}

// line is that of the rounds of the sum.
func (t total) line(b *strings.Builder, of string) {
	n := func(names ...string) string {
		sum := 0.0
		for _, name := range names {
			sum += t.verdict[name]
		}
		return humanize.Comma(int64(sum))
	}
	others := -t.findings["verify"]
	for _, found := range t.findings {
		others += found
	}
	if t.verified < t.rounds {
		of += fmt.Sprintf(" (%d of %d rounds verified)", t.verified, t.rounds)
	}
	fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s | %s | %s | %s of %d | %s of %s | %s of %s | %s | %d | %s |\n", of, t.faults,
		n("sign_ins"), n("alerts"), n("missing"), n("doubled"), n("made_up"), n("altered"), n("repeated"), t.MayRepeat,
		n("profiles_wrong"), n("profiles"), n("pebble_ahead", "pebble_wrong"), n("pebble_profiles"),
		n("unsplit", "misplaced", "stuck", "marks_wrong", "dead_letters_missing", "dead_letters_made_up"), others,
		tenths(t.Still.Detecting.For))
}

func (s *suite) faultTable(b *strings.Builder, t total) {
	fmt.Fprintf(b, "\n| fault | injected | and begun only: without effect, or cut short by the round's end | what |\n|---|---:|---:|---|\n")
	for _, f := range plan.Faults {
		if n, begun := t.Injected[f.Name], t.Begun[f.Name]; begun > 0 || len(s.options.faults) == 0 {
			fmt.Fprintf(b, "| %s | %d | %d | %s |\n", f.Name, n, begun-n, f.About)
		}
	}
	fmt.Fprintf(b, "| aborted input | %d | | a transaction of the input is aborted: nothing in it happened |\n", t.Feed.Aborted)
	for _, name := range slices.Sorted(maps.Keys(t.Injected)) {
		if at, ok := strings.CutPrefix(name, plan.Point+" "); ok {
			fmt.Fprintf(b, "| at point %s | %d | | of the above |\n", at, t.Injected[name])
		}
	}
}

func (s *suite) roundTable(b *strings.Builder) {
	fmt.Fprintf(b, "\n| round | seed | protocol | delivery | faults | sign-ins | repeated, of at most | findings | longest standstill | took |\n|---:|---:|---|---|---:|---:|---:|---:|---:|---:|\n")
	for _, r := range s.results {
		fmt.Fprintf(b, "| %d | %d | %s | %s | %d | %d | %d of %d | %d | %s | %s |\n", r.Number, r.Seed, r.Protocol, r.Delivery, injected(r), r.Feed.SignIns, r.Repeated(), r.MayRepeat, len(r.Findings),
			tenths(r.Still.Detecting.For), r.Took.Round(time.Second))
	}
	fmt.Fprintf(b, "\nWhat happened while the partition stood still that did so for longest, in seconds since it did:\n\n")
	for _, r := range s.results {
		fmt.Fprintf(b, "- round %d: %s\n", r.Number, r.Still.Detecting)
	}
	for _, r := range s.results {
		if len(r.Findings) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n## Round %d: logs, journal and states are in %s\n\n", r.Number, r.Dir)
		slices.SortStableFunc(r.Findings, func(x, y round.Finding) int { return cmp.Compare(x.Kind, y.Kind) })
		for _, f := range r.Findings {
			fmt.Fprintf(b, "- %s: %s\n", f.Kind, strings.ReplaceAll(f.Text, "\n", "\n  "))
		}
	}
}
