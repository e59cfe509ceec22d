// Package prometheus holds rules, their tests, the dashboard and the runbooks together: nothing of one
// without the other. It has no code of its own, and knows nothing of what an instance exposes: cmd/prtwatch's
// tests hold the metrics' names against one that runs, and make each alert fire. Start at rules.
package prometheus

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	runbooks  = "../../docs/runbooks"
	dashboard = "../grafana/dashboards/prtwatch.json"
	// published is where a runbook is read by whom an alert wakes.
	published = "https://github.com/prtwatch/prtwatch/blob/main/docs/runbooks/"
)

type rule struct {
	Alert       string
	Record      string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

// rules are those of prtwatch.rules.yml.
func rules(t *testing.T) []rule {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	decode(t, "prtwatch.rules.yml", &file)
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func alerts(t *testing.T) map[string]rule {
	t.Helper()
	named := map[string]rule{}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		if _, twice := named[r.Alert]; twice {
			t.Errorf("%s is there twice", r.Alert)
		}
		named[r.Alert] = r
	}
	if len(named) < 10 {
		t.Fatalf("only %d alerts", len(named))
	}
	return named
}

func decode(t *testing.T, name string, to any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, to); err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
}

func TestEachAlertSaysHowBadItIsAndWhatToDo(t *testing.T) {
	for name, r := range alerts(t) {
		if !strings.HasPrefix(name, "Prtwatch") {
			t.Errorf("%s: does not begin with Prtwatch", name)
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", name, r.Labels["severity"])
		}
		for _, a := range []string{"summary", "description"} {
			if text := r.Annotations[a]; !strings.HasSuffix(text, ".") {
				t.Errorf("%s: %s %q is no sentence", name, a, text)
			}
		}
		if got, want := r.Annotations["runbook_url"], published+name+".md"; got != want {
			t.Errorf("%s: runbook_url %q, not %q", name, got, want)
		}
	}
}

func TestEachAlertHasARunbookAndEachRunbookAnAlert(t *testing.T) {
	named := alerts(t)
	index, err := os.ReadFile(filepath.Join(runbooks, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range named {
		text, err := os.ReadFile(filepath.Join(runbooks, name+".md"))
		if err != nil {
			t.Error(err)
			continue
		}
		last := 0
		for _, heading := range []string{"# " + name + "\n", "\n## What it means\n", "\n## How to look\n", "\n## What to do\n"} {
			at := strings.Index(string(text), heading)
			if at < last {
				t.Errorf("the runbook of %s has no %q in its place", name, strings.TrimSpace(heading))
			}
			last = at
		}
		if line := fmt.Sprintf("| [%s](%[1]s.md) | %s | %s |\n", name, r.Labels["severity"], r.Annotations["summary"]); !strings.Contains(string(index), line) {
			t.Errorf("the index of the runbooks has no line %s", line)
		}
	}
	pages, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		if _, ok := named[name]; !ok && name != "README" {
			t.Errorf("%s is for no alert", page)
		}
		wantLinks(t, page)
	}
}

// wantLinks wants what a page links to to be there.
func wantLinks(t *testing.T, page string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(page), link[1])); err != nil {
			t.Errorf("%s links to %s: %v", page, link[1], err)
		}
	}
}

// What fires always passes a test that wants it to fire, and what never fires one that wants it not to. What is recorded is asked for
// by its name alone.
func TestEachAlertIsTestedWhereItFiresAndWhereNotAndEachRecord(t *testing.T) {
	type tests struct {
		Tests []struct {
			Expressions []struct {
				Expr    string
				Samples []any `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		}
	}
	var file, day tests
	decode(t, "prtwatch.tests.yml", &file)
	decode(t, "day.tests.yml", &day)
	asked := regexp.MustCompile(`^sum without \(alertname, alertstate\) \(ALERTS\{alertname="(\w+)", alertstate="firing"\}\)$`)
	type seen struct{ fires, not bool }
	tested, recorded := map[string]seen{}, map[string]bool{}
	for _, r := range rules(t) {
		if r.Record != "" {
			recorded[r.Record] = false
		}
	}
	for _, test := range append(file.Tests, day.Tests...) {
		for _, e := range test.Expressions {
			if _, record := recorded[e.Expr]; record && len(e.Samples) > 0 {
				recorded[e.Expr] = true
				continue
			}
			m := asked.FindStringSubmatch(e.Expr)
			if m == nil {
				t.Errorf("a test asks for %s", e.Expr)
				continue
			}
			s := tested[m[1]]
			if len(e.Samples) > 0 {
				s.fires = true
			} else {
				s.not = true
			}
			tested[m[1]] = s
		}
	}
	for name := range alerts(t) {
		if s := tested[name]; !s.fires || !s.not {
			t.Errorf("%s: tested where it fires: %v, where not: %v", name, s.fires, s.not)
		}
		delete(tested, name)
	}
	for name, once := range recorded {
		if !once {
			t.Errorf("%s: no test says what is recorded", name)
		}
	}
	for name := range tested {
		t.Errorf("there is a test of %s, and no such alert", name)
	}
}

// A label that no instance has makes a test of a rule say nothing. docs/metrics.md has those that there are: cmd/prtwatch's tests hold
// its names against an instance.
func TestSeriesOfTheTestsHaveLabelsThatThereAre(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	label := regexp.MustCompile(`(\w+)=("[^"]*")`)
	of := map[string]bool{} // metric, label and, where it is a word that stands for something, value
	for _, line := range strings.Split(string(page), "\n") {
		name, labels, _ := strings.Cut(line, "{")
		for _, l := range label.FindAllStringSubmatch(labels, -1) {
			of[name+" "+l[1]] = true
			of[name+" "+l[1]+"="+l[2]] = true
		}
	}
	var file, day struct {
		Tests []struct {
			Input []struct{ Series string } `yaml:"input_series"`
		}
	}
	decode(t, "prtwatch.tests.yml", &file)
	decode(t, "day.tests.yml", &day)
	for _, test := range append(file.Tests, day.Tests...) {
		for _, in := range test.Input {
			name, labels, _ := strings.Cut(in.Series, "{")
			for _, l := range label.FindAllStringSubmatch(labels, -1) {
				has := name + " " + l[1]
				switch l[1] {
				case "namespace", "job", "instance": // Prometheus adds them
					continue
				case "outcome", "reason", "cause", "result", "stage":
					has += "=" + l[2]
				}
				if !of[has] {
					t.Errorf("%s: docs/metrics.md shows no such label or value: %s", in.Series, l[0])
				}
			}
		}
	}
}

// promtool runs it, where it is.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("there is no promtool (Debian: prometheus): rules and queries were NOT checked")
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPrometheusTakesRulesAndConfiguration(t *testing.T) {
	promtool(t, "check", "rules", "prtwatch.rules.yml")
	promtool(t, "check", "config", "prometheus.yml")
}

func TestRulesFireWhereTheyShall(t *testing.T) {
	promtool(t, "test", "rules", "prtwatch.tests.yml", "day.tests.yml")
}

// Each query of dashboard and runbooks is given to promtool as if it were a rule.
func TestEachQueryCanBeParsed(t *testing.T) {
	type recorded struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var all []recorded
	for i, q := range slices.Concat(panels(t, "security"), written(t)) {
		all = append(all, recorded{fmt.Sprint("q:", i), q})
	}
	if len(all) < 80 {
		t.Fatalf("only %d queries", len(all))
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "queries", "rules": all}}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", name)
}

// Three installations have the chart's job: of two namespaces, and of none. That each query asks for what is chosen, the tests of deploy/grafana hold.
func TestTheDashboardAddsNoTwoInstallationsUp(t *testing.T) {
	type series struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	}
	type sample struct {
		Labels string `yaml:"labels"`
		Value  int    `yaml:"value"`
	}
	type ask struct {
		Expr    string   `yaml:"expr"`
		At      string   `yaml:"eval_time"`
		Samples []sample `yaml:"exp_samples"`
	}
	have := []series{{`ALERTS{alertname="PrtwatchDown", alertstate="firing"}`, "1"}} // which no instance is known to, and so no job
	for _, of := range []string{`job="prtwatch", namespace="security"`, `job="prtwatch", namespace="another"`, `job="prtwatch"`, `job="another", namespace="security"`} {
		have = append(have, series{`up{instance="192.0.2.1:9187", ` + of + `}`, "1"}, series{`ALERTS{alertname="PrtwatchLate", alertstate="firing", ` + of + `}`, "1"})
	}
	var asks []ask
	for _, namespace := range []string{"security", "another", ""} {
		for _, q := range panels(t, namespace) {
			switch {
			case strings.HasPrefix(q, "sum(up{"):
				asks = append(asks, ask{q, "0m", []sample{{"{}", 1}}})
			case strings.Contains(q, "ALERTS{"):
				asks = append(asks, ask{q, "0m", []sample{{"{}", 2}}})
			}
		}
	}
	if len(asks) != 6 {
		t.Fatalf("%d queries, not two for each installation", len(asks))
	}
	text, err := yaml.Marshal(map[string]any{"tests": []any{map[string]any{"interval": "1m", "input_series": have, "promql_expr_test": asks}}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "dashboard.tests.yml")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "test", "rules", name)
}

// panels are the dashboard's queries, with values for its variables.
func panels(t *testing.T, namespace string) (queries []string) {
	t.Helper()
	text, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Type    string
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q has no query", p.Title)
		}
		for _, target := range p.Targets {
			queries = append(queries, strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h", "$job", "prtwatch", "$namespace", namespace, "$instance", ".*").Replace(target.Expr))
		}
	}
	return queries
}

// written are the queries of the runbooks: what stands between backquotes and names a metric or sums one up.
func written(t *testing.T) (queries []string) {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, span := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(string(text), -1) {
			if regexp.MustCompile(`^[a-z_ ]*\(?.*prtwatch_[a-z]`).MatchString(span[1]) {
				found[span[1]] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
