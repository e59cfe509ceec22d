package settings

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// given is one key as a source has it.
type given struct {
	key    string
	value  value
	origin string // prtwatch.yaml:12, PRTWATCH_KAFKA__BROKERS or --set
}

// envPrefix begins the names of environment variables that are keys, testPrefix those that
// tests of ours read.
const (
	envPrefix  = "PRTWATCH_"
	testPrefix = "PRTWATCH_TEST_"
)

// serviceLink matches what Kubernetes sets in every container for each service of the
// namespace whose name begins with prtwatch.
var serviceLink = regexp.MustCompile(`^PRTWATCH_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// fromEnvironment reads the variables in the form of os.Environ.
func fromEnvironment(s *schema, environ []string) ([]given, []error) {
	var found []given
	var problems []error
	for _, variable := range slices.Sorted(slices.Values(environ)) {
		name, text, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, testPrefix) {
			continue
		}
		key := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, envPrefix), "__", "."))
		if _, known := s.leaf(key); !known && serviceLink.MatchString(name) {
			continue
		}
		g, err := fromText(s, key, text, name, envName)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
			continue
		}
		found = append(found, g)
	}
	return found, problems
}

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "__"))
}

// fromSet reads the values of --set.
func fromSet(s *schema, assignments []string) ([]given, []error) {
	var found []given
	var problems []error
	for _, assignment := range assignments {
		key, text, ok := strings.Cut(assignment, "=")
		key = strings.TrimSpace(key)
		if key == "" {
			problems = append(problems, fmt.Errorf("--set %q: the key is missing; write --set KEY=VALUE", assignment))
			continue
		}
		if !ok {
			problems = append(problems, fmt.Errorf("--set %s: needs a value: write --set %s=VALUE", key, key))
			continue
		}
		g, err := fromText(s, key, text, "--set", func(key string) string { return key })
		if err != nil {
			problems = append(problems, fmt.Errorf("--set: %w", err))
			continue
		}
		found = append(found, g)
	}
	return found, problems
}

// fromText is a key whose value is one text: a list is comma-separated in it.
func fromText(s *schema, key, text, origin string, spell func(string) string) (given, error) {
	l, ok := s.leaf(key)
	switch {
	case !ok && key != "" && s.isSection(key):
		return given{}, fmt.Errorf("%s is a section; set one of its keys: %s", key, s.below(key))
	case !ok:
		return given{}, s.unknown(key, spell)
	}
	v := value{text: text}
	if l.takesList() {
		v = listOf(text)
	}
	return given{key: key, value: v, origin: origin}, nil
}

// document is a YAML file while it is read.
type document struct {
	schema   *schema
	name     string
	lookup   func(name string) (string, bool) // the environment, for ${NAME}
	found    []given
	problems []error
}

// fromFile reads a YAML file.
func fromFile(s *schema, name string, r io.Reader, lookup func(string) (string, bool)) ([]given, []error) {
	d := &document{schema: s, name: name, lookup: lookup}
	decoder := yaml.NewDecoder(r)
	var root yaml.Node
	switch err := decoder.Decode(&root); {
	case err == io.EOF: // an empty file, or one of comments
		return nil, nil
	case err != nil:
		return nil, []error{syntaxError(name, err)}
	}
	if decoder.Decode(new(yaml.Node)) != io.EOF {
		d.wrong(&root, "a second YAML document begins: keep one")
	}
	d.section("", root.Content[0])
	return d.found, d.problems
}

func (d *document) wrong(at *yaml.Node, format string, args ...any) {
	d.problems = append(d.problems, fmt.Errorf("%s:%d: %s", d.name, at.Line, fmt.Sprintf(format, args...)))
}

// section reads the keys of a mapping. Aliases are followed, which cannot run away: no
// section of the schema contains itself.
func (d *document) section(section string, n *yaml.Node) {
	n = target(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		if section == "" {
			d.wrong(n, "the file must be keys with values, such as kafka: {brokers: [127.0.0.1:9092]}")
		} else {
			d.wrong(n, "%s: is a section, with the keys %s", section, d.schema.below(section))
		}
		return
	}
	seen := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		name := n.Content[i]
		key := strings.TrimPrefix(section+"."+name.Value, ".")
		if line, twice := seen[key]; twice {
			d.wrong(name, "%s: is given twice, first in line %d", key, line)
			continue
		}
		seen[key] = name.Line
		if name.Value != "" && d.schema.isSection(key) {
			d.section(key, n.Content[i+1])
			continue
		}
		d.leaf(key, name, n.Content[i+1])
	}
}

// leaf reads the value of one key. A key without a value keeps its default.
func (d *document) leaf(key string, name, n *yaml.Node) {
	if _, ok := d.schema.leaf(key); !ok {
		d.wrong(name, "%v", d.schema.unknown(key, func(key string) string { return key }))
		return
	}
	if n = target(n); isNull(n) {
		return
	}
	v := value{isList: n.Kind == yaml.SequenceNode}
	texts := []*yaml.Node{n}
	if v.isList {
		texts, v.list = n.Content, []string{}
	}
	for _, item := range texts {
		item = target(item)
		if item.Kind != yaml.ScalarNode {
			d.wrong(item, "%s: holds a value, not a section", key)
			return
		}
		if !strings.HasPrefix(item.ShortTag(), "!!") {
			d.wrong(item, "%s: a value that begins with ! must stand in quotes", key)
			return
		}
		text, err := expand(item.Value, d.lookup)
		if err != nil {
			d.wrong(item, "%s: %v", key, err)
			return
		}
		v.text = text
		if v.isList {
			v.list = append(v.list, text)
		}
	}
	d.found = append(d.found, given{key: key, value: v, origin: fmt.Sprintf("%s:%d", d.name, name.Line)})
}

func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

var reference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand puts the environment's values in the place of ${NAME}. No other form is touched:
// $ConnectionString is what Event Hubs calls its user.
func expand(text string, lookup func(string) (string, bool)) (string, error) {
	var err error
	text = reference.ReplaceAllStringFunc(text, func(ref string) string {
		name := reference.FindStringSubmatch(ref)[1]
		value, ok := lookup(name)
		if !ok && err == nil {
			err = fmt.Errorf("the environment has no %s: export it, or write the value here in place of ${%s}", name, name)
		}
		return value
	})
	return text, err
}

var (
	syntaxLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	oneEarly   = regexp.MustCompile(`^did not find expected (',' or|key|'-' indicator|node content|<)`)
	badAlias   = regexp.MustCompile(`unknown anchor '.*' referenced`)
)

// syntaxError names the line, and quotes nothing of the file: a password that begins with *
// reads as an alias.
func syntaxError(name string, err error) error {
	text := err.Error()
	line := ""
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil {
			if oneEarly.MatchString(text) { // what yaml's parser says, not its scanner, counts from 0
				n++
			}
			line = fmt.Sprintf(":%d", n)
		}
	}
	text = badAlias.ReplaceAllString(text, "a value that begins with * must stand in quotes")
	return fmt.Errorf("%s%s: reading YAML: %s", name, line, strings.TrimSpace(text))
}
