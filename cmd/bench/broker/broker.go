// Package broker runs the Apache Kafka that everything is measured on: one broker, started by
// deploy/kafka/kafka on ports and in a folder of its own. It owns the broker, and how far groups
// and topics are. It must not know what the records are, nor who is measured.
//
// Start at Start; flow.go says when a pipeline of two groups is done.
package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/cmd/bench/process"
)

// Broker is a broker that runs.
type Broker struct {
	Addr   string // where clients connect
	Client *kgo.Client
	Admin  *kadm.Client

	script string
	env    []string
	dir    string
	pid    int
}

// Options say where the broker is run.
type Options struct {
	Repository string // the folder that has deploy/kafka
	Dir        string // for its data and log
	Port       int    // for clients; the next one is its controller's. 0 finds two
}

// Needs says in one line what a broker needs and is not here; nil where nothing is missing.
func Needs() error {
	for _, needed := range []struct{ program, why string }{
		{"java", "Kafka and the Kafka Streams application need Java 17 or later"},
		{"mvn", "Kafka and the Kafka Streams application are fetched and built with Maven"},
	} {
		if _, err := exec.LookPath(needed.program); err != nil {
			return fmt.Errorf("there is no %s: %s; install it", needed.program, needed.why)
		}
	}
	return nil
}

// Start starts a broker on an empty folder. When it fails it leaves no process behind.
func Start(ctx context.Context, o Options) (*Broker, error) {
	if err := Needs(); err != nil {
		return nil, err
	}
	if o.Port == 0 {
		port, err := freePorts()
		if err != nil {
			return nil, err
		}
		o.Port = port
	}
	b := &Broker{
		Addr:   net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port)),
		script: filepath.Join(o.Repository, "deploy", "kafka", "kafka"),
		dir:    o.Dir,
		env: append(os.Environ(), "KAFKA_PORT="+strconv.Itoa(o.Port), "KAFKA_CONTROLLER_PORT="+strconv.Itoa(o.Port+1),
			"KAFKA_DIR="+o.Dir),
	}
	err := b.run(ctx, "up")
	if err == nil {
		err = b.connect()
	}
	if err != nil {
		// What the script has started goes on without it.
		return nil, errors.Join(err, b.run(context.Background(), "down"))
	}
	return b, nil
}

func (b *Broker) connect() error {
	text, err := os.ReadFile(filepath.Join(b.dir, "broker.pid"))
	if err != nil {
		return err
	}
	if b.pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("reading the broker's process id: %w", err)
	}
	b.Client, err = kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		return err
	}
	b.Admin = kadm.NewClient(b.Client)
	return nil
}

func (b *Broker) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, b.script, args...)
	cmd.Env = b.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("deploy/kafka/kafka %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Close stops the broker and deletes its data.
func (b *Broker) Close() error {
	b.Client.Close()
	return b.run(context.Background(), "down", "--delete")
}

// Usage is what the broker has taken since it was started.
func (b *Broker) Usage() (process.Usage, error) {
	u, err := process.Of(b.pid)
	if err != nil {
		return u, fmt.Errorf("reading what the broker takes: %w", err)
	}
	return u, nil
}

// Create makes a topic and returns when its partitions are led. Records are kept for ever, as what
// is written happened weeks ago.
func (b *Broker) Create(ctx context.Context, topic string, partitions int32) error {
	if _, err := b.Admin.CreateTopic(ctx, partitions, 1, map[string]*string{"retention.ms": kadm.StringPtr("-1")}, topic); err != nil {
		return fmt.Errorf("creating topic %s: %w", topic, err)
	}
	for {
		topics, err := b.Admin.ListTopics(ctx, topic)
		if err == nil {
			err = topics.Error()
		}
		if err == nil && len(topics[topic].Partitions) == int(partitions) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for topic %s: %w", topic, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Delete deletes every topic whose name begins so: what is measured next must not share the disk's
// and the broker's time with what is done.
func (b *Broker) Delete(ctx context.Context, prefix string) error {
	topics, err := b.Admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("listing topics: %w", err)
	}
	var names []string
	for _, name := range topics.Names() {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if _, err := b.Admin.DeleteTopics(ctx, names...); err != nil {
		return fmt.Errorf("deleting topics %s...: %w", prefix, err)
	}
	return nil
}

// Version is Kafka's, as the broker's jar has it in its name.
func (b *Broker) Version() string {
	jars, _ := filepath.Glob(filepath.Join(filepath.Dir(b.script), "target", "lib", "kafka_*.jar"))
	if len(jars) == 0 {
		return "unknown"
	}
	name := strings.TrimSuffix(filepath.Base(jars[0]), ".jar")
	return name[strings.LastIndexByte(name, '-')+1:]
}

// freePorts returns a port that is free, as is the next one. They are below those that Linux
// gives out by itself, so that nobody comes by one by chance.
func freePorts() (int, error) {
	const first, last = 21000, 21098
	for port := first; port < last; port += 2 {
		if free(port) && free(port+1) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no two ports beside each other from %d to %d are free", first, last)
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
