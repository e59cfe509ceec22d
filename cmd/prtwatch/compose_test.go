package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"
	"go.yaml.in/yaml/v3"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
)

// composed is of docker-compose.yml what we use. Another key is a slip of the pen until it is added here.
type composed struct {
	Name     string
	Prtwatch any `yaml:"x-prtwatch"`
	Once     any `yaml:"x-once"`
	Instance any `yaml:"x-instance"`
	Services map[string]service
	Volumes  map[string]any
}

type service struct {
	Image string
	Build struct {
		Context string
		Args    map[string]string
	}
	PullPolicy          string `yaml:"pull_policy"`
	Entrypoint, Command []string
	Environment         map[string]string
	Profiles            []string
	DependsOn           map[string]struct{ Condition string } `yaml:"depends_on"`
	Ports, Volumes      []string
	Healthcheck         *struct {
		Disable           bool
		Test              []string
		Interval, Timeout string
		Retries           int
		StartPeriod       string `yaml:"start_period"`
	}
	Tmpfs           []string
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	MemLimit        string   `yaml:"mem_limit"`
	Restart         string
	StopGracePeriod string `yaml:"stop_grace_period"`
}

// eachComposed has a test look at docker-compose.yml, and at it with deploy/compose/kafka.yml over it.
func eachComposed(t *testing.T, look func(t *testing.T, c composed)) {
	t.Helper()
	var file map[string]any
	if err := yaml.Unmarshal(readCompose(t, "docker-compose.yml"), &file); err != nil {
		t.Fatalf("docker-compose.yml: %v", err)
	}
	t.Run("Redpanda", func(t *testing.T) { look(t, strictly(t, file)) })
	var over yaml.Node
	if err := yaml.Unmarshal(readCompose(t, "deploy/compose/kafka.yml"), &over); err != nil {
		t.Fatalf("deploy/compose/kafka.yml: %v", err)
	}
	if err := override(file, over.Content[0], ""); err != nil {
		t.Fatalf("deploy/compose/kafka.yml: %v", err)
	}
	t.Run("Kafka", func(t *testing.T) { look(t, strictly(t, file)) })
}

// readCompose returns a file, with the defaults of its variables in their places.
func readCompose(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`\$\{\w+:-([^}]*)\}`).ReplaceAll(text, []byte("$1"))
}

func strictly(t *testing.T, file map[string]any) (c composed) {
	t.Helper()
	text, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// override puts a mapping over another as Compose does: what is said of a command, an entrypoint or a test is said anew, other lists are
// added to, !override replaces and !reset takes away. What would do nothing is an error.
func override(base map[string]any, over *yaml.Node, at string) error {
	for i := 0; i < len(over.Content); i += 2 {
		key, value := over.Content[i].Value, over.Content[i+1]
		where := strings.TrimPrefix(at+"."+key, ".")
		before, there := base[key]
		tag := value.Tag
		switch {
		case !there && (at == "services" || !strings.HasPrefix(tag, "!!")):
			return fmt.Errorf("%s: there is no such thing to override", where)
		case tag == "!reset":
			delete(base, key)
			continue
		case tag == "!override":
			value.Tag = ""
		case !strings.HasPrefix(tag, "!!"):
			return fmt.Errorf("%s: Compose knows no %s", where, tag)
		}
		if within, ok := before.(map[string]any); ok && tag == "!!map" {
			if err := override(within, value, where); err != nil {
				return err
			}
			continue
		}
		var after any
		if err := value.Decode(&after); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if list, ok := before.([]any); ok && tag == "!!seq" && !slices.Contains([]string{"command", "entrypoint", "test"}, key) {
			after = append(slices.Clone(list), after.([]any)...)
		}
		base[key] = after
	}
	return nil
}

func TestComposeServicesArePinnedBoundedWatchedAndReachedFromThisMachineAlone(t *testing.T) {
	eachComposed(t, wantConfined)
}

func wantConfined(t *testing.T, c composed) {
	pinned := regexp.MustCompile(`^[a-z0-9./-]+:v?\d+\.\d+\.\d+$`)
	unwatched := map[string]bool{
		"console": true, // whether its image has anything to ask it with could not be tried
	}
	var total uint64
	for name, s := range c.Services {
		ours := s.Image == "prtwatch:local" && s.Build.Context == "."
		made := s.Image == "prtwatch-kafka:local" && s.PullPolicy == "never" // of deploy/compose/kafka
		if !ours && !made && !pinned.MatchString(s.Image) {
			t.Errorf("%s: image %s is neither pinned to a version nor ours", name, s.Image)
		}
		limit, err := humanize.ParseBytes(strings.Replace(s.MemLimit, "m", "MiB", 1))
		if err != nil || limit == 0 {
			t.Errorf("%s: mem_limit %q", name, s.MemLimit)
		}
		if len(s.Profiles) == 0 {
			total += limit
		}
		serves := s.Restart == "unless-stopped"
		watched := ours && s.Healthcheck == nil || s.Healthcheck != nil && len(s.Healthcheck.Test) > 0
		if serves && watched == unwatched[name] {
			t.Errorf("%s: is it watched? %t", name, watched)
		}
		if s.Restart == "" && len(s.Profiles) == 0 {
			t.Errorf("%s: no restart policy", name)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to others", name, port)
			}
		}
		if ours && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || len(s.Ports) > 0) {
			t.Errorf("%s: it can do more than it needs", name)
		}
	}
	if total > 4<<30 {
		t.Errorf("the limits of memory add up to %s, more than a laptop gives", humanize.IBytes(total))
	}
}

func TestComposeServicesFindTheirFilesVolumesAndEachOther(t *testing.T) { eachComposed(t, wantFound) }

func wantFound(t *testing.T, c composed) {
	dockerfile, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range c.Services {
		for arg := range s.Build.Args {
			if !regexp.MustCompile(`(?m)^ARG .*\b` + arg + `\b`).Match(dockerfile) {
				t.Errorf("%s: the Dockerfile has no argument %s", name, arg)
			}
		}
		for _, volume := range s.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if _, named := c.Volumes[source]; named {
				continue
			}
			if _, err := os.Stat(filepath.Join("../..", source)); err != nil || !strings.HasPrefix(source, "./") {
				t.Errorf("%s: volume %s: %v", name, source, err)
			}
		}
		for on, needs := range s.DependsOn {
			other, there := c.Services[on]
			switch needs.Condition {
			case "service_healthy":
				there = there && other.Healthcheck != nil && len(other.Healthcheck.Test) > 0
			case "service_completed_successfully":
				there = there && other.Restart != "unless-stopped"
			default:
				there = false
			}
			if !there {
				t.Errorf("%s: waits in vain for %s: %s", name, on, needs.Condition)
			}
		}
	}
}

func TestComposeUsesCommandsFlagsAndKeysThatThereAre(t *testing.T) { eachComposed(t, wantKnown) }

func wantKnown(t *testing.T, c composed) {
	for name, s := range c.Services {
		if s.Build.Context == "" {
			continue
		}
		var environ []string
		for _, key := range slices.Sorted(maps.Keys(s.Environment)) {
			environ = append(environ, key+"="+s.Environment[key])
		}
		if _, err := settings.Load(settings.Sources{Environ: environ}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		root := (&program{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}).root()
		command, rest, err := root.Find(s.Command)
		if err != nil || command == root {
			t.Errorf("%s: %v: %v", name, s.Command, err)
			continue
		}
		if err := command.ParseFlags(rest); err != nil {
			t.Errorf("%s: %v: %v", name, s.Command, err)
		}
	}
}
