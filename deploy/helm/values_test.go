package helm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// keysOf returns the dotted keys of a mapping.
func keysOf(n any, at string) []string {
	section, ok := n.(map[string]any)
	if !ok || len(section) == 0 {
		return []string{at}
	}
	var keys []string
	for key, value := range section {
		keys = append(keys, keysOf(value, strings.TrimPrefix(at+"."+key, "."))...)
	}
	slices.Sort(keys)
	return keys
}

// schemaKeys returns the dotted keys that a schema names.
func schemaKeys(schema, root map[string]any, at string) []string {
	if to, ok := schema["$ref"].(string); ok {
		schema = root["definitions"].(map[string]any)[strings.TrimPrefix(to, "#/definitions/")].(map[string]any)
	}
	properties, _ := schema["properties"].(map[string]any)
	if schema["additionalProperties"] != false {
		return []string{at}
	}
	var keys []string
	for key, value := range properties {
		keys = append(keys, schemaKeys(value.(map[string]any), root, strings.TrimPrefix(at+"."+key, "."))...)
	}
	slices.Sort(keys)
	return keys
}

func readValues(t *testing.T) (values, schema map[string]any) {
	t.Helper()
	for file, into := range map[string]any{"values.yaml": &values, "values.schema.json": &schema} {
		text, err := os.ReadFile(filepath.Join(chart, file))
		if err == nil {
			err = yaml.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return values, schema
}

func TestTheSchemaHasEveryValueAndNoOther(t *testing.T) {
	values, schema := readValues(t)
	known := schemaKeys(schema, schema, "")
	within := func(key string) func(string) bool {
		return func(other string) bool { return key == other || strings.HasPrefix(key, other+".") }
	}
	have := keysOf(values, "")
	for _, key := range have {
		if !slices.ContainsFunc(known, within(key)) {
			t.Errorf("values.yaml has %s, which the schema refuses", key)
		}
	}
	optional := []string{"global", "config", "updateStrategy.rollingUpdate", "probes"}
	for _, key := range known {
		if !slices.ContainsFunc(have, within(key)) && !slices.ContainsFunc(have, func(other string) bool { return strings.HasPrefix(other, key+".") }) &&
			!slices.ContainsFunc(optional, within(key)) {
			t.Errorf("the schema has %s, which values.yaml does not show", key)
		}
	}
}

func TestEveryValueIsExplained(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	for _, key := range unexplained(root.Content[0], "") {
		t.Errorf("values.yaml does not say what %s is", key)
	}
}

// unexplained returns the keys that have no comment above them, nor what they are in.
func unexplained(n *yaml.Node, at string) []string {
	if n.Kind != yaml.MappingNode {
		return []string{at}
	}
	var keys []string
	for i := 0; i < len(n.Content); i += 2 {
		if key := n.Content[i]; key.HeadComment == "" {
			keys = append(keys, unexplained(n.Content[i+1], strings.TrimPrefix(at+"."+key.Value, "."))...)
		}
	}
	return keys
}

// ownConfiguration is what prtwatch has where nothing is set.
func ownConfiguration(t *testing.T) (own map[string]any) {
	t.Helper()
	if _, err := helm(t, "version"); err != nil { // it builds the binary: with Helm alone
		t.Fatal(err)
	}
	built, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command(built, "config").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &own); err != nil {
		t.Fatal(err)
	}
	return own
}

func TestTheSchemaHasTheKeysOfPrtwatchButForWhatTheChartSets(t *testing.T) {
	own := ownConfiguration(t)
	ours := []string{"instance", "state.dir", "http.listen", "kafka.sasl.password", "input.sasl.password"}
	want := slices.DeleteFunc(keysOf(own, ""), func(key string) bool { return slices.Contains(ours, key) })
	_, schema := readValues(t)
	config := schema["properties"].(map[string]any)["config"].(map[string]any)
	got := schemaKeys(config, schema, "")
	slices.Sort(want)
	for _, key := range want {
		if !slices.Contains(got, key) {
			t.Errorf("values.schema.json: config refuses %s, which prtwatch knows", key)
		}
	}
	for _, key := range got {
		if !slices.Contains(want, key) {
			t.Errorf("values.schema.json: config takes %s, which prtwatch does not know or the chart sets", key)
		}
	}
}

// A pod that is given one ends with exit code 2.
func TestADurationWithoutAUnitIsRefused(t *testing.T) {
	_, schema := readValues(t)
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("values.json", asJSON(t, schema)); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("values.json")
	if err != nil {
		t.Fatal(err)
	}
	durations := 0
	var walk func(section map[string]any, in func(any) any)
	walk = func(section map[string]any, in func(any) any) {
		for key, value := range section {
			within := func(v any) any { return in(map[string]any{key: v}) }
			if below, ok := value.(map[string]any); ok {
				walk(below, within)
			} else if _, err := time.ParseDuration(fmt.Sprint(value)); err == nil && value != 0 {
				durations++
				for set, right := range map[any]bool{value: true, "1.5h": true, "1h30m": true, "${WAIT}": true, 0: true, "0": true, "+5s": true, 10: false, "10": false, "10 s": false, "1d": false, "": false} {
					if err := compiled.Validate(asJSON(t, within(set))); (err == nil) != right {
						t.Errorf("%v: %v", within(set), err)
					}
				}
			}
		}
	}
	walk(ownConfiguration(t), func(v any) any { return map[string]any{"config": v} })
	if durations != 7 {
		t.Errorf("%d durations, not 7", durations)
	}
}
