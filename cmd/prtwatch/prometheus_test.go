package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// watching switches on the test in which a real Prometheus watches real instances: see .ci/nightly.
const watching = "PRTWATCH_TEST_PROMETHEUS"

// watcher is a Prometheus with prtwatch's rules, in which a minute is a second.
type watcher struct {
	t       *testing.T
	url     string
	targets string // a file in it for each instance
}

func newWatcher(t *testing.T) *watcher {
	t.Helper()
	dir := t.TempDir()
	w := &watcher{t: t, targets: filepath.Join(dir, "targets")}
	if err := os.Mkdir(w.targets, 0o700); err != nil {
		t.Fatal(err)
	}
	configuration := fmt.Sprintf(`{global: {scrape_interval: 500ms, evaluation_interval: 500ms}, rule_files: [rules.yml],
  scrape_configs: [{job_name: watched, file_sd_configs: [{files: ["%s/*.json"], refresh_interval: 1s}]}]}`, w.targets)
	for name, text := range map[string]string{"prometheus.yml": configuration, "rules.yml": hurried(t)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := freeAddress(t)
	w.url = "http://" + address
	cmd := exec.CommandContext(t.Context(), "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	log := new(lockedBuffer)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting a Prometheus (Debian: prometheus): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", log)
		}
	})
	waitFor(t, "Prometheus to be ready", func() bool {
		r, err := http.Get(w.url + "/-/ready")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return w
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// hurried are the rules with seconds for minutes.
func hurried(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/prometheus/prtwatch.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string           `yaml:"name"`
			Rules []map[string]any `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	seconds := regexp.MustCompile(`\* 60\b`)
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			rule["expr"] = hurry(seconds.ReplaceAllString(rule["expr"].(string), "* 1"))
			if wait, ok := rule["for"].(string); ok {
				rule["for"] = hurry(wait)
			}
		}
	}
	out, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

var spans = regexp.MustCompile(`\b\d+[mhd]\b`)

// hurry has a second in the place of each minute of a query's spans.
func hurry(query string) string {
	return spans.ReplaceAllStringFunc(query, func(span string) string {
		var n int
		var unit string
		_, _ = fmt.Sscanf(span, "%d%s", &n, &unit)
		return fmt.Sprintf("%ds", n*map[string]int{"m": 1, "h": 60, "d": 24 * 60}[unit])
	})
}

// watch has an instance scraped, under a job of its own.
func (w *watcher) watch(job string, i *instance) {
	w.t.Helper()
	text, err := json.Marshal([]map[string]any{{"targets": []string{i.address()}, "labels": map[string]string{"job": job}}})
	if err != nil {
		w.t.Fatal(err)
	}
	name := filepath.Join(w.targets, strings.ReplaceAll(i.address(), ":", "-")+".json")
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		w.t.Fatal(err)
	}
	waitFor(w.t, "the instance to be scraped", func() bool { return len(w.query(fmt.Sprintf("up{job=%q} == 1", job))) > 0 })
}

// answered is one of a query's answers.
type answered struct {
	Metric map[string]string
	Value  [2]any // time and text
}

// query asks Prometheus.
func (w *watcher) query(expr string) []answered {
	w.t.Helper()
	var answer struct {
		Status, Error string
		Data          struct{ Result json.RawMessage }
	}
	w.ask("/api/v1/query?query="+url.QueryEscape(expr), &answer)
	if answer.Status != "success" {
		w.t.Fatalf("asking for %s: %s", expr, answer.Error)
	}
	var samples []answered
	if err := json.Unmarshal(answer.Data.Result, &samples); err != nil {
		w.t.Fatalf("asking for %s: %v: %s", expr, err, answer.Data.Result)
	}
	return samples
}

func (w *watcher) ask(path string, answer any) {
	w.t.Helper()
	r, err := http.Get(w.url + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(answer); err != nil {
		w.t.Fatalf("%s: %v", path, err)
	}
}

// firing are the alerts of a job that fire, by name.
func (w *watcher) firing(job string) map[string]bool {
	w.t.Helper()
	names := map[string]bool{}
	for _, s := range w.query(fmt.Sprintf(`ALERTS{job=%q, alertstate="firing"}`, job)) {
		names[s.Metric["alertname"]] = true
	}
	return names
}

// fires waits until an alert of the job fires, and looks at what it says.
func (w *watcher) fires(job, alert string) {
	w.t.Helper()
	began := time.Now()
	for !w.firing(job)[alert] {
		if time.Since(began) > 3*time.Minute {
			w.t.Fatalf("%s does not fire; these do: %v", alert, w.firing(job))
		}
		time.Sleep(200 * time.Millisecond)
	}
	w.t.Logf("%s fires after %s", alert, time.Since(began).Round(time.Second))
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels, Annotations map[string]string
				State               string
			}
		}
	}
	w.ask("/api/v1/alerts", &answer)
	for _, a := range answer.Data.Alerts {
		if a.Labels["alertname"] != alert || a.Labels["job"] != job || a.State != "firing" {
			continue
		}
		w.t.Logf("%s: %s", a.Labels["severity"], a.Annotations["description"])
		if text := a.Annotations["description"]; strings.Contains(text, "<no value>") || strings.Contains(text, "<error") {
			w.t.Errorf("%s says: %s", alert, text)
		}
	}
}
