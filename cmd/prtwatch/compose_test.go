package main

import (
	"bytes"
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
	Image, Build        string
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
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	MemLimit        string   `yaml:"mem_limit"`
	Restart         string
	StopGracePeriod string `yaml:"stop_grace_period"`
}

func readComposed(t *testing.T) composed {
	t.Helper()
	text, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var c composed
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		t.Fatalf("docker-compose.yml: %v", err)
	}
	return c
}

func TestComposeServicesArePinnedBoundedWatchedAndReachedFromThisMachineAlone(t *testing.T) {
	c := readComposed(t)
	pinned := regexp.MustCompile(`^[a-z0-9./-]+:v?\d+\.\d+\.\d+$`)
	unwatched := map[string]bool{
		"console": true, // whether its image has anything to ask it with could not be tried
	}
	var total uint64
	for name, s := range c.Services {
		ours := s.Image == "prtwatch:local" && s.Build == "."
		if !ours && !pinned.MatchString(s.Image) {
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

func TestComposeServicesFindTheirFilesVolumesAndEachOther(t *testing.T) {
	c := readComposed(t)
	for name, s := range c.Services {
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

func TestComposeUsesCommandsFlagsAndKeysThatThereAre(t *testing.T) {
	for name, s := range readComposed(t).Services {
		if s.Build == "" {
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
