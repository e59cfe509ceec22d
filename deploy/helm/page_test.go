package helm_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// blocks are what docs/kubernetes.md has between fences, of a language.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	parts := strings.Split(string(text), "```")
	for i := 1; i < len(parts); i += 2 {
		if block, ok := strings.CutPrefix(parts[i], language+"\n"); ok {
			all = append(all, block)
		}
	}
	return all
}

// block is the one of them that says something.
func block(t *testing.T, language, says string) string {
	t.Helper()
	all := slices.DeleteFunc(blocks(t, language), func(b string) bool { return !strings.Contains(b, says) })
	if len(all) != 1 {
		t.Fatalf("docs/kubernetes.md has %d blocks with %q, not 1", len(all), says)
	}
	return all[0]
}

// follow runs commands of the page as they stand there, beside prtwatch-values.yaml, and returns the folder that it was done in: kubectl only
// notes what it is told (file told) and given (file given).
func follow(t *testing.T, commands, values string) (dir, output string, err error) {
	t.Helper()
	if _, err := helm(t, "version"); err != nil {
		t.Fatal(err)
	}
	prtwatch, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	own, err := filepath.Abs(chart)
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath(cmp.Or(os.Getenv("PRTWATCH_TEST_HELM"), "helm"))
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for link, to := range map[string]string{"bin/helm": program, "bin/prtwatch": prtwatch, "deploy/helm/prtwatch": own} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, link)), 0o755), os.Symlink(to, filepath.Join(dir, link))); err != nil {
			t.Fatal(err)
		}
	}
	kubectl := "#!/bin/sh\necho \"$*\" >> told\ncase \"$*\" in *apply*) cat > given ;; *'-f -') cat > /dev/null ;; esac\n"
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "bin/kubectl"), []byte(kubectl), 0o755),
		os.WriteFile(filepath.Join(dir, "prtwatch-values.yaml"), []byte(values), 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -o pipefail\n"+commands)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:/usr/bin:/bin")
	out, err := cmd.CombinedOutput()
	return dir, string(out), err
}

// given are the objects that kubectl was to apply, and told what it was told, a command a line.
func given(t *testing.T, dir string) (all []manifest, told []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "given"))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := os.ReadFile(filepath.Join(dir, "told"))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, string(text)), strings.Split(strings.TrimSpace(string(lines)), "\n")
}

// stepThree are the values that the page installs with, which stand there within a list.
func stepThree(t *testing.T) string {
	t.Helper()
	return strings.ReplaceAll("\n"+block(t, "yaml", "# prtwatch-values.yaml"), "\n   ", "\n")
}

func everything(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("ci/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheCheckBeforeAnUpgradeTakesWhatIsRightAndRefusesWhatIsWrong(t *testing.T) {
	check := block(t, "sh", "config --check")
	for name, values := range map[string]string{"step 3": stepThree(t), "everything": everything(t)} {
		if _, out, err := follow(t, check, values); err != nil || out != "" {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		wrong := strings.Replace(values, "config:\n", "config:\n  split: {merge_wait: 10h}\n", 1)
		_, out, err := follow(t, check, wrong)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(out, "split.merge_wait") {
			t.Errorf("%s, with a value that is out of its bounds: %v: %s", name, err, out)
		}
	}
}

func TestThePodThatLooksBeforeAnUpgradeHasItsOwnConfigurationAndTheSecretsOfTheOthers(t *testing.T) {
	changed := strings.Replace(stepThree(t), "config:\n", "config:\n  split: {merge_wait: 7s}\n", 1) // what is new
	dir, out, err := follow(t, block(t, "sh", "look apply"), changed)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all, told := given(t, dir)
	if len(all) != 2 {
		t.Errorf("%d objects, not a ConfigMap and a Pod", len(all))
	}
	for _, m := range all { // of another name than what runs, and nothing selects it as one of the pods that watch
		if !strings.HasPrefix(m.Metadata.Name, "prtwatch-look") || m.Metadata.Labels["app.kubernetes.io/component"] == "watch" {
			t.Errorf("%s %s: %v", m.Kind, m.Metadata.Name, m.Metadata.Labels)
		}
	}
	spec, have := podOf(t, all, "Pod"), objectsOf(all)
	installed := podOf(t, render(t, "ci/minimal.yaml", values(t, changed)), "StatefulSet")
	if spec.ServiceAccountName != installed.ServiceAccountName || spec.Containers[0].Image != installed.Containers[0].Image {
		t.Errorf("it is %s of %s, the pods are %s of %s", spec.ServiceAccountName, spec.Containers[0].Image, installed.ServiceAccountName, installed.Containers[0].Image)
	}
	for _, command := range told {
		if strings.Contains(command, "prtwatch-look") && !strings.Contains(command, "prtwatch-look-test") {
			t.Errorf("there is no such pod: kubectl %s", command)
		}
	}
	if last := told[len(told)-1]; last != "-n security delete -f -" {
		t.Errorf("it ends with kubectl %s", last)
	}
	have.lend(t, spec)
	p := newPod(t, "prtwatch-look-test", spec, have)
	if out, err := p.run("config", "--check", spec.Containers[0].Args[1]); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := p.run("config", spec.Containers[0].Args[1]); err != nil || !strings.Contains(out, "merge_wait: 7s ") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAppliedWithoutHelmTheJobOfTheLastTimeGoesFirstAndNoTestIsApplied(t *testing.T) {
	dir, out, err := follow(t, block(t, "sh", "--skip-tests"), stepThree(t))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all, told := given(t, dir)
	i := slices.IndexFunc(all, func(m manifest) bool { return m.Kind == "Job" })
	if i < 0 {
		t.Fatal("there is no Job")
	}
	want := []string{fmt.Sprintf("-n security delete job %s --ignore-not-found", all[i].Metadata.Name), "-n security apply -f -"}
	if !slices.Equal(told, want) {
		t.Errorf("kubectl was told %q, not %q", told, want)
	}
	for _, m := range all {
		if m.Kind == "Pod" || strings.Contains(m.Metadata.Annotations["helm.sh/hook"], "test") {
			t.Errorf("%s %s is applied", m.Kind, m.Metadata.Name)
		}
	}
}

// found is how the page has Prometheus find targets: of a cluster, about which Debian's promtool knows nothing.
const found = "kubernetes_sd_configs: [{role: endpoints}]"

// promtool is given the labels that Prometheus has for the chart's Service and for another one, in place of a cluster's.
func TestTargetsThatAreFoundByAnnotationsHaveTheJobOfTheRules(t *testing.T) {
	page := block(t, "yaml", "# prometheus.yml")
	if !strings.Contains(page, found) {
		t.Fatalf("the page finds targets otherwise than by %s", found)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte(strings.Replace(page, found, "file_sd_configs: [{files: [targets.yml]}]", 1)), 0o600); err != nil {
		t.Fatal(err)
	}

	all := render(t, "ci/minimal.yaml", values(t, block(t, "yaml", "prometheus.io/scrape")))
	service := all[slices.IndexFunc(all, func(m manifest) bool { return m.Kind == "Service" })]
	other := manifest{}
	other.Metadata.Name, other.Metadata.Annotations = "shop", map[string]string{"prometheus.io/scrape": "true"}
	text, err := yaml.Marshal([]any{target(service, "192.0.2.1:9187"), target(other, "192.0.2.2:8080")})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "targets.yml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "config", config)
	// It takes all of the time that it is given.
	got := promtool(t, "check", "service-discovery", "--timeout=3s", config, "kubernetes-service-endpoints")
	var targets []struct{ Labels map[string]string }
	if err := yaml.Unmarshal([]byte(got), &targets); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	want := map[string]string{"192.0.2.1:9187": "prtwatch", "192.0.2.2:8080": "kubernetes-service-endpoints"}
	for _, one := range targets {
		if job, ok := want[one.Labels["__address__"]]; !ok || one.Labels["job"] != job || one.Labels["namespace"] != namespace {
			t.Errorf("a target has the labels %v", one.Labels)
		}
		delete(want, one.Labels["__address__"])
	}
	if len(want) > 0 {
		t.Errorf("no targets for the jobs %v: %s", want, got)
	}
}

// promtool runs it, where it is, and returns what it wrote to standard output.
func promtool(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("there is no promtool (Debian: prometheus)")
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("promtool %s: %v: %s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

// target is an endpoint of a Service, as Prometheus' kubernetes_sd_configs has it.
func target(service manifest, address string) any {
	labels := map[string]string{"__meta_kubernetes_namespace": namespace, "__meta_kubernetes_service_name": service.Metadata.Name}
	word := strings.NewReplacer(".", "_", "/", "_", "-", "_")
	for name, value := range service.Metadata.Labels {
		labels["__meta_kubernetes_service_label_"+word.Replace(name)] = value
	}
	for name, value := range service.Metadata.Annotations {
		labels["__meta_kubernetes_service_annotation_"+word.Replace(name)] = value
	}
	return map[string]any{"targets": []string{address}, "labels": labels}
}
