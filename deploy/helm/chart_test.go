// What is checked of the chart, with Helm (which PRTWATCH_TEST_HELM names, or the PATH has) and without a cluster: `.ci/chart`
// gets what it needs and runs it. Start at TestAStrangerGetsAlertsFromTheManifests.
package helm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	chart     = "prtwatch"
	release   = "prtwatch"
	namespace = "security"
)

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(built)
	os.Exit(code)
}

// helm runs it, and returns what it wrote to standard output.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program := os.Getenv("PRTWATCH_TEST_HELM")
	if program == "" {
		found, err := exec.LookPath("helm")
		if err != nil {
			t.Skip("there is no Helm: .ci/chart gets it")
		}
		program = found
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, &stderr)
	}
	return stdout.String(), nil
}

// render returns the chart's objects for files of values, the later wins.
func render(t *testing.T, values ...string) []manifest {
	t.Helper()
	args := []string{"template", release, chart, "--namespace", namespace}
	for _, file := range values {
		args = append(args, "--values", file)
	}
	text, err := helm(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

// decode reads the objects of a stream of YAML.
func decode(t *testing.T, text string) []manifest {
	t.Helper()
	var all []manifest
	for decoder := yaml.NewDecoder(strings.NewReader(text)); ; {
		var n yaml.Node
		err := decoder.Decode(&n)
		if errors.Is(err, io.EOF) {
			return all
		}
		var m manifest
		if err == nil {
			err = n.Decode(&m)
		}
		if err == nil {
			var whole []byte
			whole, err = yaml.Marshal(&n)
			m.text = string(whole)
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind != "" {
			all = append(all, m)
		}
	}
}

// values writes a file of them.
func values(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// examples are the files of values in ci.
func examples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("ci/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files of values in ci:", err)
	}
	return files
}

// documented are the values that docs/kubernetes.md shows, each on top of the least that must be said.
func documented(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, block := range blocks(t, "yaml") {
		if !strings.HasPrefix(block, "# prometheus.yml") {
			files = append(files, values(t, block))
		}
	}
	if len(files) == 0 {
		t.Fatal("docs/kubernetes.md shows no values")
	}
	return files
}

// podOf returns the pod of the object of a kind.
func podOf(t *testing.T, all []manifest, kind string) podSpec {
	t.Helper()
	i := slices.IndexFunc(all, func(m manifest) bool { return m.Kind == kind })
	if i < 0 {
		t.Fatalf("the chart has no %s", kind)
	}
	return podIn(t, all[i])
}

func podIn(t *testing.T, m manifest) podSpec {
	t.Helper()
	var spec podSpec
	at := &m.Spec
	if m.Kind != "Pod" {
		template := struct{ Template struct{ Spec yaml.Node } }{}
		if err := m.Spec.Decode(&template); err != nil {
			t.Fatal(err)
		}
		at = &template.Template.Spec
	}
	if err := at.Decode(&spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// objectsOf are the chart's own ConfigMaps; a cluster would have the rest.
func objectsOf(all []manifest) objects {
	have := objects{configMaps: map[string]map[string]string{}, secrets: map[string]map[string]string{}}
	for _, m := range all {
		if m.Kind == "ConfigMap" {
			have.configMaps[m.Metadata.Name] = m.Data
		}
	}
	return have
}

// lend makes what is missing of what a pod refers to: certificates for what looks like them.
func (have objects) lend(t *testing.T, spec podSpec) {
	t.Helper()
	certificate, key := selfSigned(t)
	for _, source := range spec.Containers[0].EnvFrom {
		have.secrets[source.SecretRef.Name] = map[string]string{"HTTPS_PROXY": "http://proxy.example.com:3128"}
	}
	for _, v := range spec.Volumes {
		if name := v.ConfigMap.Name; name != "" && have.configMaps[name] == nil {
			have.configMaps[name] = map[string]string{"partners.txt": "192.0.2.0/24\n"}
		}
		for _, source := range v.Projected.Sources {
			for _, item := range source.Secret.Items {
				text := "a secret\n"
				switch filepath.Ext(item.Path) {
				case ".crt":
					text = certificate
				case ".key":
					text = key
				}
				if have.secrets[source.Secret.Name] == nil {
					have.secrets[source.Secret.Name] = map[string]string{}
				}
				have.secrets[source.Secret.Name][item.Key] = text
			}
		}
	}
}

func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

func TestPrtwatchTakesWhatTheChartRenders(t *testing.T) {
	for i, file := range append(examples(t), documented(t)...) {
		t.Run(fmt.Sprint(i, " ", filepath.Base(file)), func(t *testing.T) {
			all := render(t, "ci/minimal.yaml", file)
			for _, m := range all {
				if !slices.Contains([]string{"StatefulSet", "Job", "Pod"}, m.Kind) {
					continue
				}
				spec, have := podIn(t, m), objectsOf(all)
				have.lend(t, spec)
				p := newPod(t, m.Metadata.Name+"-0", spec, have)
				args := []string{"config"}
				for _, arg := range spec.Containers[0].Args {
					if strings.HasPrefix(arg, "--config") {
						args = append(args, arg)
					}
				}
				if m.Kind != "StatefulSet" { // `topics` reads no allowlist
					args = append(args, "--set=detection.allowlist=")
				}
				effective, err := p.run(args...) // which validates it too
				if err != nil {
					t.Fatalf("%s %s: %v: %s", m.Kind, m.Metadata.Name, err, effective)
				}
				if m.Kind != "StatefulSet" {
					continue
				}
				if out, err := p.run(append(args, "--check")...); err != nil { // and reads the allowlists
					t.Errorf("%v: %s", err, out)
				}
				for _, line := range []string{"instance: " + p.name + " ", "  dir: /var/lib/prtwatch ", "  listen: :" + fmt.Sprint(spec.Containers[0].Ports[0].ContainerPort) + " "} {
					if !strings.Contains(effective, line) {
						t.Errorf("%q is not in:\n%s", line, effective)
					}
				}
			}
		})
	}
}

func TestNoPodMayMoreThanItMust(t *testing.T) {
	for _, file := range examples(t) {
		for _, m := range render(t, file) {
			if !slices.Contains([]string{"StatefulSet", "Job", "Pod"}, m.Kind) {
				continue
			}
			spec := podIn(t, m)
			c := spec.Containers[0]
			security := spec.SecurityContext
			if !security.RunAsNonRoot || security.RunAsUser != 65534 || security.SeccompProfile.Type != "RuntimeDefault" ||
				c.SecurityContext.AllowPrivilegeEscalation == nil || *c.SecurityContext.AllowPrivilegeEscalation ||
				!c.SecurityContext.ReadOnlyRootFilesystem || !slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}) ||
				spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
				t.Errorf("%s: %s %s may more than it must", file, m.Kind, m.Metadata.Name)
			}
			if c.Resources.Limits["memory"] == "" {
				t.Errorf("%s: %s %s has no memory limit", file, m.Kind, m.Metadata.Name)
			}
			for _, mount := range c.VolumeMounts {
				if mount.MountPath != "/var/lib/prtwatch" && !mount.ReadOnly {
					t.Errorf("%s: %s may write to %s", file, m.Metadata.Name, mount.MountPath)
				}
			}
		}
	}
}

func TestAChangeOfTheConfigurationRestartsThePodsAndOneOfTheAllowlistDoesNot(t *testing.T) {
	checksum := func(more string) string {
		all := render(t, "ci/minimal.yaml", values(t, more))
		i := slices.IndexFunc(all, func(m manifest) bool { return m.Kind == "StatefulSet" })
		_, after, _ := strings.Cut(all[i].text, "checksum/config: ")
		sum, _, _ := strings.Cut(after, "\n")
		if len(sum) != 64 {
			t.Fatalf("%q is no checksum", sum)
		}
		return sum
	}
	before := checksum("allowlist: {files: {a.txt: 192.0.2.1}}")
	if checksum("allowlist: {files: {a.txt: 192.0.2.2}}") != before {
		t.Error("another allowlist restarts the pods")
	}
	if checksum("allowlist: {files: {a.txt: 192.0.2.1}}\nconfig: {log: {level: debug}}") == before {
		t.Error("another configuration restarts nothing")
	}
}

func TestWhatIsWrongIsRefusedBeforeAnythingIsInstalled(t *testing.T) {
	const kafka, workload = "config: {kafka: {brokers: [a:1]}}\n", "azure.workload.identity/use"
	for wrong, says := range map[string]string{
		"{}":                               "config.kafka.brokers: is empty; name the brokers",
		"config: {kafak: {}}":              "kafak",
		"config: {kafka: {broker: [a:1]}}": "broker",
		"config: {kafka: {brokers: [a:1], sasl: {password: p}}}": "password", // it would be in a ConfigMap
		"config: {kafka: {brokers: [a:1]}, instance: one}":       "instance",
		"config: {kafka: {brokers: [a:1]}, state: {dir: /tmp}}":  "dir",
		"config: {kafka: {brokers: [a:1]}, http: {}}":            "http",
		"config: {kafka: {brokers: [a:1]}, start_timeout: 10}":   "start_timeout",
		"replicaCount: 3":                                                                             "replicaCount",
		"image: {tagg: x}":                                                                            "tagg",
		"terminationGracePeriodSeconds: 5":                                                            "terminationGracePeriodSeconds",
		kafka + "resources: {limits: {memory: 1.5Gi}}":                                                "resources.limits.memory: 1.5Gi is no whole number of Mi, Gi, M or G",
		kafka + "extraEnv: [{name: PRTWATCH_STATE__DIR, value: /tmp}]":                                "extraEnv: has PRTWATCH_STATE__DIR, which the chart sets; take it out",
		kafka + "extraEnv: [{name: A, value: b}, {name: A, value: c}]":                                "extraEnv: has A twice; keep one of them",
		kafka + "podLabels: {app.kubernetes.io/name: x}":                                              "podLabels: has app.kubernetes.io/name, which the chart sets; take it out",
		kafka + "commonLabels: {app.kubernetes.io/component: x}":                                      "commonLabels: has app.kubernetes.io/component, which the chart sets; take it out",
		kafka + "serviceMonitor: {enabled: true, labels: {helm.sh/chart: x}}":                         "serviceMonitor.labels: has helm.sh/chart, which the chart sets; take it out",
		kafka + "azureWorkloadIdentity: {enabled: true}\npodLabels: {" + workload + ": x}":            "podLabels: has " + workload + ", which the chart sets; take it out",
		"config: {kafka: {brokers: [a:1]}}\nallowlist: {files: {a: 192.0.2.1}, existingConfigMap: b}": "allowlist: has both files and existingConfigMap",
	} {
		_, err := helm(t, "template", release, chart, "--values", values(t, wrong))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// templateOf is the pod's metadata and claims of what has pods.
type templateOf struct {
	Replicas int
	Selector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	Template struct {
		Metadata struct{ Labels map[string]string }
	}
	VolumeClaimTemplates []struct {
		Metadata struct{ Labels map[string]string }
	} `yaml:"volumeClaimTemplates"`
}

func TestCommonLabelsAreOnAllThatTheChartMakesButForWhatNobodyMayChange(t *testing.T) {
	more := values(t, `{commonLabels: {example.com/team: all, release: all}, podLabels: {example.com/team: pods}, serviceMonitor: {enabled: true, labels: {release: prometheus}}}`)
	kinds := map[string]bool{}
	for _, m := range render(t, "ci/everything.yaml", more) { // which refuses a label that is there twice
		kinds[m.Kind] = true
		labels, want := m.Metadata.Labels, map[string]string{"example.com/team": "all", "release": "all"}
		switch m.Kind {
		case "Pod":
			want["example.com/team"] = "pods"
		case "ServiceMonitor", "PrometheusRule": // that of the rules is the example's
			want["release"] = "prometheus"
		}
		for name, value := range want {
			if labels[name] != value {
				t.Errorf("%s %s: %s is %q, not %q", m.Kind, m.Metadata.Name, name, labels[name], value)
			}
		}
		if m.Kind != "StatefulSet" && m.Kind != "Job" {
			continue
		}
		var spec templateOf
		if err := m.Spec.Decode(&spec); err != nil {
			t.Fatal(err)
		}
		if got := spec.Template.Metadata.Labels; got["example.com/team"] != "pods" || got["release"] != "all" {
			t.Errorf("the pods of %s %s have the labels %v", m.Kind, m.Metadata.Name, got)
		}
		fixed := []map[string]string{spec.Selector.MatchLabels}
		for _, claim := range spec.VolumeClaimTemplates {
			fixed = append(fixed, claim.Metadata.Labels)
		}
		for _, labels := range fixed {
			if labels["release"] != "" || labels["example.com/team"] != "" {
				t.Errorf("%s %s: %v cannot be changed, and has a label of the user's", m.Kind, m.Metadata.Name, labels)
			}
		}
		for name, value := range spec.Selector.MatchLabels {
			if spec.Template.Metadata.Labels[name] != value {
				t.Errorf("%s does not select its own pods: %s is %q", m.Kind, name, spec.Template.Metadata.Labels[name])
			}
		}
	}
	for _, kind := range []string{"StatefulSet", "Job", "Pod", "Service", "ConfigMap", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "PrometheusRule"} {
		if !kinds[kind] {
			t.Errorf("there is no %s", kind)
		}
	}
}

func TestTheEnvironmentHasEachNameOnceAndTheUsersGoMemoryLimitWins(t *testing.T) {
	more := values(t, `{resources: {requests: {memory: 1.5Gi}, limits: {cpu: null, memory: 1.5Gi}}, extraEnv: [{name: GOMEMLIMIT, value: 1GiB}, {name: GOMAXPROCS, value: "3"}]}`)
	env := map[string]string{}
	for _, v := range podOf(t, render(t, "ci/everything.yaml", more), "StatefulSet").Containers[0].Env {
		if _, ok := env[v.Name]; ok {
			t.Errorf("%s is there twice", v.Name)
		}
		env[v.Name] = v.Value
	}
	if env["GOMEMLIMIT"] != "1GiB" || env["GOMAXPROCS"] != "3" {
		t.Errorf("the environment is %v", env)
	}
}

func TestKeysOfASecretAreTheEnvironmentOfAllPodsAndTheChartsOwnWin(t *testing.T) {
	all := render(t, "ci/minimal.yaml", values(t, `{topicsJob: {enabled: true}, extraEnvFrom: [{secretRef: {name: prtwatch-env}}]}`))
	pods := 0
	for _, m := range all {
		if !slices.Contains([]string{"StatefulSet", "Job", "Pod"}, m.Kind) {
			continue
		}
		pods++
		have := objectsOf(all)
		have.secrets["prtwatch-env"] = map[string]string{"PRTWATCH_KAFKA__SASL__MECHANISM": "PLAIN", "PRTWATCH_KAFKA__SASL__USER": "someone", "PRTWATCH_KAFKA__SASL__PASSWORD": "p", "PRTWATCH_STATE__DIR": "/tmp"}
		p := newPod(t, m.Metadata.Name+"-0", podIn(t, m), have)
		out, err := p.run("config", "--config=/etc/prtwatch/config/prtwatch.yaml")
		if err != nil || !strings.Contains(out, "user: someone ") {
			t.Errorf("%s %s: %v: %s", m.Kind, m.Metadata.Name, err, out)
		}
		if m.Kind == "StatefulSet" && !strings.Contains(out, "  dir: /var/lib/prtwatch ") {
			t.Errorf("the Secret says where the state is: %s", out)
		}
	}
	if pods != 3 {
		t.Errorf("there are %d kinds of pods, not 3", pods)
	}
}

// The Job comes before an upgrade, beside pods that may be on all nodes.
func TestTheJobGoesToTheNodesOfThePodsAndDoesNotStayAwayFromThem(t *testing.T) {
	all := render(t, "ci/everything.yaml")
	if pods := podOf(t, all, "StatefulSet").Affinity; pods["nodeAffinity"] == nil || pods["podAntiAffinity"] == nil {
		t.Errorf("the pods' affinity is %v", pods)
	}
	for _, kind := range []string{"Job", "Pod"} {
		if got := podOf(t, all, kind).Affinity; got["nodeAffinity"] == nil || len(got) != 1 {
			t.Errorf("that of the %s is %v", kind, got)
		}
	}
}

func TestTheServiceHasAnnotationsTheTargetsRelabelingsAndNoPodIsANumberToo(t *testing.T) {
	for _, m := range render(t, "ci/everything.yaml", values(t, "replicas: 0")) {
		switch m.Kind {
		case "Service":
			if m.Metadata.Annotations["example.com/scrape"] != "true" {
				t.Errorf("the Service's annotations are %v", m.Metadata.Annotations)
			}
		case "ServiceMonitor":
			if !strings.Contains(m.text, "replacement: west") {
				t.Errorf("there is no relabeling in %s", m.text)
			}
		case "StatefulSet": // docs/kubernetes.md stops all pods so
			spec := templateOf{Replicas: -1}
			if err := m.Spec.Decode(&spec); err != nil || spec.Replicas != 0 {
				t.Errorf("there are %d pods: %v", spec.Replicas, err)
			}
		}
	}
}

func TestTheNotesSayHowToSeeAlerts(t *testing.T) {
	for _, file := range examples(t) {
		out, err := helm(t, "install", release, chart, "--namespace", namespace, "--dry-run=client", "--values", file)
		if err != nil {
			t.Fatal(err)
		}
		_, notes, _ := strings.Cut(out, "NOTES:")
		for _, says := range []string{"-t prtwatch.alerts ", "isolation.level=read_committed", "rollout status statefulset/", "/readyz"} {
			if !strings.Contains(notes, says) {
				t.Errorf("%s: %q is not in:\n%s", file, says, notes)
			}
		}
	}
}
