package settings

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// shownKeys are the keys whose value may be seen. Everything else that can hold a text is
// hidden: what is added later cannot leak because someone forgot to name it.
var shownKeys = keySet(`
	instance delivery start_timeout http.listen log.level log.format
	input.brokers input.topics input.start
	input.tls.enabled input.tls.ca_file input.tls.cert_file input.tls.key_file input.tls.server_name
	input.sasl.mechanism input.sasl.user input.sasl.password_file input.sasl.azure input.sasl.token_url input.sasl.token_ca_file input.sasl.scope
	kafka.brokers
	kafka.tls.enabled kafka.tls.ca_file kafka.tls.cert_file kafka.tls.key_file kafka.tls.server_name
	kafka.sasl.mechanism kafka.sasl.user kafka.sasl.password_file kafka.sasl.azure kafka.sasl.token_url kafka.sasl.token_ca_file kafka.sasl.scope
	topics.signins topics.baseline topics.alerts topics.dead_letter topics.partitions topics.replication
	split.group split.merge_wait
	detect.group detect.members detect.transaction detect.transaction_timeout detect.session_timeout detect.group_protocol
	detection.preset detection.resources detection.allowlist detection.event_time detection.identity
	detection.max_future detection.grouping
	state.dir state.cache state.lateness state.max_ips state.max_asns`)

func keySet(text string) map[string]bool {
	keys := map[string]bool{}
	for _, key := range strings.Fields(text) {
		keys[key] = true
	}
	return keys
}

// Print writes the effective configuration as YAML that can be loaded again, each key with
// where its value came from. Of a secret it writes only whether there is one.
func (s *Settings) Print(w io.Writer) error {
	var out strings.Builder
	var open []string // the sections that the last line is in
	for _, l := range s.schema.leaves {
		names := strings.Split(l.key, ".")
		sections := names[:len(names)-1]
		for depth, name := range sections {
			if depth >= len(open) || open[depth] != name {
				fmt.Fprintf(&out, "%s%s:\n", indent(depth), name)
				open = append(open[:depth:depth], name)
			}
		}
		open = sections
		line := fmt.Sprintf("%s%s:", indent(len(sections)), lastName(l.key))
		if text := s.show(l); text != "" {
			line += " " + text
		}
		fmt.Fprintf(&out, "%-60s # %s\n", line, s.origin(l.key))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func indent(depth int) string { return strings.Repeat("  ", depth) }

// origin says where the value of a key came from.
func (s *Settings) origin(key string) string {
	origin, ok := s.origins[key]
	if !ok {
		origin = "default"
	}
	if !shownKeys[key] && !s.field(key).IsZero() {
		origin += ", hidden"
	}
	return origin
}

func (s *Settings) field(key string) reflect.Value {
	l, _ := s.schema.leaf(key)
	return reflect.ValueOf(&s.Config).Elem().FieldByIndex(l.index)
}

// show is the value as YAML; nothing where it must not be seen.
func (s *Settings) show(l leaf) string {
	v := s.field(l.key)
	if !shownKeys[l.key] {
		return ""
	}
	if d, ok := v.Interface().(time.Duration); ok {
		return formatDuration(d)
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if text, err := m.MarshalText(); err == nil {
			return scalar(string(text))
		}
	}
	if v.Kind() != reflect.Slice {
		return scalar(v.Interface())
	}
	items := make([]string, v.Len())
	for i := range items {
		items[i] = scalar(v.Index(i).Interface())
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// scalar writes a value so that YAML reads it back, also within [...].
func scalar(v any) string {
	text, isText := v.(string)
	if !isText {
		return fmt.Sprint(v)
	}
	n := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if text == "" || strings.ContainsAny(text, ",[]{}\n\r#") || strings.TrimSpace(text) != text {
		n.Style = yaml.DoubleQuotedStyle
	}
	out, err := yaml.Marshal(&n)
	if err != nil {
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSpace(string(out))
}
