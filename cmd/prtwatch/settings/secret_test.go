package settings

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

// canary is every secret here.
const canary = "canary 0*{$"

// secrets calls each for every field of the configuration that is one, with its path in Go.
func secrets(v reflect.Value, path string, each func(path string, field reflect.Value)) {
	for i := range v.NumField() {
		f, at := v.Field(i), path+"."+v.Type().Field(i).Name
		switch {
		case f.Type() == reflect.TypeFor[kafka.Secret]():
			each(at, f)
		case f.Kind() == reflect.Struct:
			secrets(f, at, each)
		}
	}
}

// leaks reports whether a text has the canary in it, however it is written.
func leaks(text string) bool {
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("%d", []byte(canary)), "canary"} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// What is not on the list of what may be shown is a Secret, and what sounds like one: it cannot be printed by
// accident, by whom ever.
func TestWhatIsNotShownIsASecret(t *testing.T) {
	sounds := regexp.MustCompile(`password|secret|token|credential|passphrase|key$`)
	for _, l := range schemaOf(reflect.TypeFor[Config]()).leaves {
		is := l.kind == reflect.TypeFor[kafka.Secret]()
		if is == shownKeys[l.key] {
			t.Errorf("%s is a %s, and shown: %v", l.key, l.kind, shownKeys[l.key])
		}
		if name := lastName(l.key); sounds.MatchString(name) && !is && !strings.HasSuffix(name, "_file") && !strings.HasSuffix(name, "_url") {
			t.Errorf("%s is a %s", l.key, l.kind)
		}
	}
}

func TestASecretIsSeenNowhere(t *testing.T) {
	s := load(t, Sources{})
	found := 0
	secrets(reflect.ValueOf(&s.Config).Elem(), "Config", func(_ string, field reflect.Value) {
		found++
		field.SetString(canary)
	})
	if found != 2 {
		t.Fatalf("found %d secrets", found)
	}
	look := func(how, text string) {
		t.Helper()
		if leaks(text) {
			t.Errorf("%s shows a secret: %s", how, text)
		}
		if text == "" {
			t.Errorf("%s shows nothing", how)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3v"} {
		for _, value := range []any{s, *s, s.Config, &s.Config, s.Kafka, s.Kafka.SASL, s.Input, s.Kafka.SASL.Password, &s.Kafka.SASL.Password, []any{s.Kafka}, map[string]any{"sasl": s.Kafka.SASL}} {
			look(fmt.Sprintf("%s of %T", verb, value), fmt.Sprintf(verb, value))
		}
	}
	for _, value := range []any{s.Config, s.Kafka.SASL} {
		asJSON, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		look("JSON", string(asJSON))
		asYAML, err := yaml.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		look("YAML", string(asYAML))
	}
	for name, handler := range map[string]func(*strings.Builder) slog.Handler{
		"a log of text": func(w *strings.Builder) slog.Handler { return slog.NewTextHandler(w, nil) },
		"a log of JSON": func(w *strings.Builder) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		var out strings.Builder
		slog.New(handler(&out)).Info("x", "config", s.Config, "section", &s.Kafka, "secret", s.Kafka.SASL.Password)
		look(name, out.String())
	}
	var printed strings.Builder
	if err := s.Print(&printed); err != nil {
		t.Fatal(err)
	}
	look("Print", printed.String())
	for _, sasl := range []kafka.SASL{
		{},
		{User: "u"},
		{Mechanism: "PLAIN"},
		{Mechanism: "plain"},
		{Mechanism: "PLAIN", Azure: true, TokenURL: "x", Scope: "y"},
		{Mechanism: "PLAIN", PasswordFile: "none"},
		{Mechanism: "OAUTHBEARER"},
		{Mechanism: "OAUTHBEARER", Azure: true},
		{Mechanism: "OAUTHBEARER", TokenURL: "https://u:" + "canary" + "@login.example.com/"},
	} {
		sasl.Password = canary
		s.Kafka.SASL, s.Input.SASL = sasl, sasl
		for _, brokers := range [][]string{nil, {"nohost"}} {
			s.Input.Brokers = brokers
			look("the error of a configuration that is wrong", fmt.Sprint(s.Validate()))
		}
	}
}

// However a secret is given, no error of reading it repeats it.
func TestASecretThatIsGivenWronglyIsNotRepeated(t *testing.T) {
	for _, sources := range []Sources{
		{File: write(t, "kafka: {sasl: {password: [canary]}}")},
		{File: write(t, "kafka: {sasl: {password: {canary: canary}}}")},
		{File: write(t, "kafka: {sasl: {password: *canary}}")},
		{Set: []string{"kafka.sasl.password=canary", "kafka.sasl.mechanism=PLAIN"}},
		{Environ: []string{"PRTWATCH_INPUT__SASL__PASSWORD=canary"}},
		{Environ: []string{"PRTWATCH_INPUT__SASL__PASSWROD=canary"}},
		{Set: []string{"kafka.sasl.passwrod=canary"}},
	} {
		if _, err := Load(sources); err == nil || leaks(err.Error()) {
			t.Errorf("%+v: %v", sources, err)
		}
	}
}
