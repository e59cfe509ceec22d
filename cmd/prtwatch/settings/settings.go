// Package settings is the configuration of prtwatch as a whole: what sections there are,
// and how their values come from the file, the environment and --set. It owns the order of
// the sources, the errors about keys and types, where each value came from, and what may be
// shown of it. What a section's keys mean, their defaults and bounds are the business of the
// package that the section configures.
//
// Start at Load.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/detect"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/split"
)

// Config is the whole configuration.
type Config struct {
	// Instance names this process among those of its groups. Empty: the name that was made
	// with the state folder.
	Instance  string          `koanf:"instance"`
	Input     Input           `koanf:"input"`
	Kafka     kafka.Cluster   `koanf:"kafka"`
	Topics    kafka.Topics    `koanf:"topics"`
	Split     split.Config    `koanf:"split"`
	Detect    detect.Config   `koanf:"detect"`
	Delivery  string          `koanf:"delivery"`
	Detection detector.Config `koanf:"detection"`
	State     state.Config    `koanf:"state"`
	HTTP      HTTP            `koanf:"http"`
	Log       Log             `koanf:"log"`
	// StartTimeout is how long brokers may be unreachable at the start.
	StartTimeout time.Duration `koanf:"start_timeout"`
}

// Input is the `input` section: where the export arrives.
type Input struct {
	kafka.Cluster `koanf:",squash"`
	Topics        []string `koanf:"topics"`
	// Start is where a partition is read from of which nothing is committed (see
	// split.ParseStart).
	Start string `koanf:"start"`
}

// HTTP is the `http` section.
type HTTP struct {
	Listen string `koanf:"listen"` // host:port; an empty host is every interface
}

// Log is the `log` section.
type Log struct {
	Level  string `koanf:"level"`  // debug, info, warn or error
	Format string `koanf:"format"` // text, json, or auto: text on a terminal
}

// The values of `delivery`.
const (
	ExactlyOnce = "exactly-once"  // needs brokers with transactions
	AtLeastOnce = "at-least-once" // after a crash an alert may come again under the same id
)

// Default returns the configuration where nothing is set.
func Default() Config {
	return Config{
		Input: Input{
			Cluster: kafka.Cluster{Brokers: []string{}},
			Topics:  []string{"insights-logs-noninteractiveusersigninlogs"},
			Start:   "earliest",
		},
		Kafka:        kafka.DefaultCluster(),
		Topics:       kafka.DefaultTopics(),
		Split:        split.DefaultConfig(),
		Detect:       detect.DefaultConfig(),
		Delivery:     ExactlyOnce,
		Detection:    detector.DefaultConfig(),
		State:        state.DefaultConfig(),
		HTTP:         HTTP{Listen: "127.0.0.1:9187"},
		Log:          Log{Level: "info", Format: "auto"},
		StartTimeout: 30 * time.Second,
	}
}

// InputCluster is the cluster that the export arrives at: input's own brokers, else those of
// `kafka` with their tls and sasl.
func (c Config) InputCluster() kafka.Cluster {
	if len(c.Input.Brokers) == 0 {
		return c.Kafka
	}
	return c.Input.Cluster
}

// InputSection is the section that says where the input is: errors name it.
func (c Config) InputSection() string {
	if len(c.Input.Brokers) == 0 {
		return "kafka"
	}
	return "input"
}

// Sources is where a configuration comes from, in the order in which the later wins.
type Sources struct {
	File    string   // the path of a YAML file; empty: none
	Environ []string // in the form of os.Environ
	Set     []string // key=value
}

// Settings is a Config and where each value in it came from.
type Settings struct {
	Config

	schema  *schema
	origins map[string]string // by key; a key that is not here has its default
}

// Load reads and validates a configuration. Its error joins every problem that was found,
// one a line: those of keys and types, or where there are none those of the values.
func Load(sources Sources) (*Settings, error) {
	s := &Settings{Config: Default(), schema: schemaOf(reflect.TypeFor[Config]()), origins: map[string]string{}}
	found, problems := s.read(sources)
	problems = append(problems, s.assign(found)...)
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if err := s.Validate(); err != nil {
		return nil, s.withOrigins(err)
	}
	return s, nil
}

// read returns what the sources have, the later behind the earlier.
func (s *Settings) read(sources Sources) ([]given, []error) {
	var found []given
	var problems []error
	if sources.File != "" {
		text, err := os.ReadFile(sources.File)
		if err != nil {
			return nil, []error{fmt.Errorf("--config %s: %w; name a YAML file that can be read", sources.File, errors.Unwrap(err))}
		}
		found, problems = fromFile(s.schema, sources.File, bytes.NewReader(text), lookupIn(sources.Environ))
	}
	env, envProblems := fromEnvironment(s.schema, sources.Environ)
	set, setProblems := fromSet(s.schema, sources.Set)
	return append(append(found, env...), set...), append(append(problems, envProblems...), setProblems...)
}

func lookupIn(environ []string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, variable := range environ {
			if value, ok := strings.CutPrefix(variable, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
}

// assign puts the values over the defaults.
func (s *Settings) assign(found []given) []error {
	var problems []error
	k := koanf.New(".")
	for _, g := range found {
		l, _ := s.schema.leaf(g.key)
		v, err := l.convert(g.value)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %s: %w", g.origin, g.key, err))
			continue
		}
		s.origins[g.key] = g.origin
		if err := k.Load(confmap.Provider(map[string]any{g.key: v.Interface()}, "."), nil); err != nil {
			problems = append(problems, fmt.Errorf("%s: %s: %w", g.origin, g.key, err))
		}
	}
	// ZeroFields: a shorter list replaces its default instead of its first elements.
	if err := k.UnmarshalWithConf("", &s.Config, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{ZeroFields: true}}); err != nil {
		problems = append(problems, err)
	}
	return problems
}

// withOrigins adds to each problem where the value that it is about was set.
func (s *Settings) withOrigins(err error) error {
	var problems []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		key := line[:max(0, strings.IndexAny(line, ": ["))]
		if origin, ok := s.origins[key]; ok {
			line += " (set in " + origin + ")"
		}
		problems = append(problems, errors.New(line))
	}
	return errors.Join(problems...)
}
