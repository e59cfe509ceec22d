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

// Streams is the Kafka Streams application in deploy/bench/streams.
type Streams struct {
	Folder string // deploy/bench/streams, built
	// Set is more of its arguments, such as streams.commit.interval.ms=100.
	Set []string
}

// The partitions between its stages, and the settings of Java: deploy/bench/streams/README.md
// says how they were found.
const streamsPartitions = 8

var java = []string{"java", "-XX:+UseParallelGC", "-Xms768m", "-Xmx768m"}

// BuildStreams builds the application. It needs a JDK, while the broker makes do with a JRE.
func BuildStreams(ctx context.Context, folder string) error {
	if _, err := exec.LookPath("javac"); err != nil {
		return errors.New("there is no javac: the Kafka Streams application needs a JDK of Java 17 or later; install one")
	}
	cmd := exec.CommandContext(ctx, "mvn", "--batch-mode", "--quiet", "--file", filepath.Join(folder, "pom.xml"), "package")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the Kafka Streams application: mvn: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Name is streams.
func (Streams) Name() string { return "streams" }

// Run implements Contender.
func (s Streams) Run(ctx context.Context, raw Raw, number int) (o Outcome, err error) {
	name := prefix(s, number)
	output := name + ".alerts"
	if err := raw.Broker.Create(ctx, output, streamsPartitions); err != nil {
		return o, err
	}
	state := filepath.Join(raw.Dir, name)
	classes := filepath.Join(s.Folder, "target", "streams.jar") + ":" + filepath.Join(s.Folder, "target", "lib", "*")
	argv := append(append([]string{}, java...), "-cp", classes, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "com.github.prtwatch.bench.Main",
		"application="+name, "brokers="+raw.Broker.Addr, "input="+raw.Topic, "output="+output,
		fmt.Sprintf("partitions=%d", streamsPartitions), "state="+state)
	p, err := process.Start(s.Name(), logFile(raw, name), append(argv, s.Set...)...)
	if err != nil {
		return o, err
	}
	defer p.Kill()
	o, err = watch(ctx, p, raw, broker.Flow{
		First:  broker.Stage{Group: name, Topic: raw.Topic},
		Second: broker.Stage{Group: name, Topic: name + "-sign-ins-repartition"},
	})
	if err != nil {
		return o, err
	}
	if err := p.Stop(stopLimit); err != nil {
		return o, err
	}
	o.Flowing = true
	o.Alerts, err = alerts(ctx, raw.Broker, output)
	return o, errors.Join(err, raw.Broker.Delete(ctx, name), os.RemoveAll(state))
}
