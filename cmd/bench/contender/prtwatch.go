package contender

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/prtwatch/prtwatch/cmd/bench/broker"
	"github.com/prtwatch/prtwatch/cmd/bench/process"
)

// Prtwatch is prtwatch with its defaults.
type Prtwatch struct {
	Binary string
	// Set is more of its configuration, key=value.
	Set []string
}

// BuildPrtwatch builds the binary as it is shipped.
func BuildPrtwatch(ctx context.Context, repository, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", to, "./cmd/prtwatch")
	cmd.Dir = repository
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building prtwatch: %w: %s", err, out)
	}
	return nil
}

// Name is prtwatch.
func (Prtwatch) Name() string { return "prtwatch" }

// Run implements Contender.
func (w Prtwatch) Run(ctx context.Context, raw Raw, number int) (o Outcome, err error) {
	name := prefix(w, number)
	i := w.Instance(raw, name)
	if err := i.CreateTopics(ctx); err != nil {
		return o, err
	}
	p, err := i.Start()
	if err != nil {
		return o, err
	}
	defer p.Kill()
	if o, err = i.Watch(ctx, p); err != nil {
		return o, err
	}
	return o, errors.Join(p.Stop(stopLimit), raw.Broker.Delete(ctx, name), os.RemoveAll(i.State))
}

// Instance is one installation of prtwatch: a process, its topics, groups and state.
type Instance struct {
	State string // the folder

	prtwatch Prtwatch
	raw      Raw
	name     string
}

// Instance returns an installation whose topics, groups and files begin with name. Nothing is made.
func (w Prtwatch) Instance(raw Raw, name string) *Instance {
	return &Instance{State: filepath.Join(raw.Dir, name), prtwatch: w, raw: raw, name: name}
}

// Topic is the name of one of its topics: signins, baseline, alerts or dead_letter.
func (i *Instance) Topic(key string) string { return i.name + "." + key }

// Flow is its two stages.
func (i *Instance) Flow() broker.Flow {
	return broker.Flow{
		First:  broker.Stage{Group: i.name + ".split", Topic: i.raw.Topic},
		Second: broker.Stage{Group: i.name + ".detect", Topic: i.Topic("signins")},
	}
}

// config is what it is told: where things are, and else nothing that it has a default for.
func (i *Instance) config() (args []string) {
	set := []string{
		"kafka.brokers=" + i.raw.Broker.Addr, "input.topics=" + i.raw.Topic, "state.dir=" + i.State, "instance=bench",
		"split.group=" + i.Flow().First.Group, "detect.group=" + i.Flow().Second.Group,
		"http.listen=127.0.0.1:0", "log.format=text",
	}
	for _, key := range []string{"signins", "baseline", "alerts", "dead_letter"} {
		set = append(set, "topics."+key+"="+i.Topic(key))
	}
	for _, kv := range append(set, i.prtwatch.Set...) {
		args = append(args, "--set", kv)
	}
	return args
}

// CreateTopics makes its topics as its users do.
func (i *Instance) CreateTopics(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, i.prtwatch.Binary, append([]string{"topics", "--create"}, i.config()...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("prtwatch topics --create: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Watch waits until a process of the instance has judged all of the raw topic, and says what it took.
func (i *Instance) Watch(ctx context.Context, p *process.Process) (Outcome, error) {
	o, err := watch(ctx, p, i.raw, i.Flow())
	if err != nil {
		return o, err
	}
	o.Flowing = true
	o.Alerts, err = alerts(ctx, i.raw.Broker, i.Topic("alerts"))
	return o, err
}

// Start runs it, with more arguments where there are any.
func (i *Instance) Start(args ...string) (*process.Process, error) {
	argv := append([]string{i.prtwatch.Binary, "run"}, i.config()...)
	return process.Start("prtwatch", logFile(i.raw, i.name), append(argv, args...)...)
}
