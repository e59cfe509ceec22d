package helm_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func TestRulesAndDashboardAreThoseOfDeploy(t *testing.T) {
	for _, original := range []string{"../prometheus/prtwatch.rules.yml", "../grafana/dashboards/prtwatch.json"} {
		want, err := os.ReadFile(original)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(chart, "files", filepath.Base(original)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("a chart cannot reach out of its folder: cp deploy/%s deploy/helm/prtwatch/files/", strings.TrimPrefix(original, "../"))
		}
	}
}

// PrtwatchDown would fire for ever.
func TestRulesThatWouldNotKnowTheirJobAreRefused(t *testing.T) {
	for name, refused := range map[string]bool{"detector": true, "prtwatch-eu": false} {
		_, err := helm(t, "template", release, chart, "--values", "ci/everything.yaml", "--set", "fullnameOverride="+name)
		if got := err != nil && strings.Contains(err.Error(), "put it into fullnameOverride"); got != refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCustomResourcesFitTheirDefinitions holds ServiceMonitor and PrometheusRule against the operator's own definitions, which
// PRTWATCH_TEST_CRDS has; a field that they do not name is an error.
func TestCustomResourcesFitTheirDefinitions(t *testing.T) {
	dir := os.Getenv("PRTWATCH_TEST_CRDS")
	if dir == "" {
		t.Skip("PRTWATCH_TEST_CRDS is not set: .ci/chart sets it")
	}
	found := 0
	for _, m := range render(t, "ci/everything.yaml") {
		if text, ok := m.Data["prtwatch.json"]; ok && !json.Valid([]byte(text)) {
			t.Error("the dashboard is no JSON any more")
		}
		if m.APIVersion != "monitoring.coreos.com/v1" {
			continue
		}
		found++
		schema := definition(t, filepath.Join(dir, "monitoring.coreos.com_"+strings.ToLower(m.Kind)+"s.yaml"))
		var object any
		if err := yaml.Unmarshal([]byte(m.text), &object); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(asJSON(t, object)); err != nil {
			t.Errorf("%s: %v", m.Kind, err)
		}
	}
	if found != 2 {
		t.Errorf("there are %d custom resources, not 2", found)
	}
}

// definition reads the schema of a CustomResourceDefinition's newest version.
func definition(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema map[string]any `yaml:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	properties := schema["properties"].(map[string]any)
	delete(properties, "metadata") // Kubernetes' own
	closed(properties["spec"])
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("crd.json", asJSON(t, schema)); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("crd.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// closed has a schema refuse what it does not name.
func closed(n any) {
	switch n := n.(type) {
	case map[string]any:
		if _, ok := n["properties"].(map[string]any); ok && n["type"] == "object" && n["additionalProperties"] == nil && n["x-kubernetes-preserve-unknown-fields"] == nil {
			n["additionalProperties"] = false
		}
		for value := range maps.Values(n) {
			closed(value)
		}
	case []any:
		for _, value := range n {
			closed(value)
		}
	}
}

func asJSON(t *testing.T, object any) any {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}
