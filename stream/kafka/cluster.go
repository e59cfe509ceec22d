// Package kafka holds what every client of a Kafka cluster needs: which brokers and with
// what security, the topics and their settings, the partition of a key, the record of a
// dead letter. It must never know what a sign-in or a profile is.
//
// Start at Cluster.Options for clients, at Check for topics.
package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Cluster is where a Kafka is and how one gets in: the section `kafka`, and the part of
// `input` of the same shape.
type Cluster struct {
	Brokers []string `koanf:"brokers"` // host:port of some of the brokers
	TLS     TLS      `koanf:"tls"`
	SASL    SASL     `koanf:"sasl"`
}

// DefaultCluster is a Kafka on this machine, in the clear.
func DefaultCluster() Cluster { return Cluster{Brokers: []string{"127.0.0.1:9092"}} }

// eventHubsHost ends the host of every Event Hubs namespace, and eventHubsPort is where it
// speaks Kafka (Microsoft's azure-event-hubs-apache-kafka-overview.md).
const (
	eventHubsHost = ".servicebus.windows.net"
	eventHubsPort = "9093"
)

// eventHubsUser is whom only Event Hubs knows: the connection string is then the password. It
// tells a namespace of a sovereign cloud, or behind a name of one's own.
const eventHubsUser = "$ConnectionString"

// EventHubs reports whether the brokers are those of an Event Hubs namespace: it creates no
// topics for a Kafka client and takes no compressed batches.
func (c Cluster) EventHubs() bool {
	return c.SASL.User == eventHubsUser || c.SASL.Azure || c.namespace()
}

// namespace reports whether a broker's host is that of an Event Hubs namespace.
func (c Cluster) namespace() bool {
	return slices.ContainsFunc(c.Brokers, func(broker string) bool {
		host, _, _ := net.SplitHostPort(broker)
		return strings.HasSuffix(strings.ToLower(host), eventHubsHost)
	})
}

// CommitPace is how soon after one commit of offsets the next may follow: Event Hubs takes four
// a second and partition (Microsoft's apache-kafka-troubleshooting-guide.md), and of other brokers
// nobody needs more than some fifty.
func (c Cluster) CommitPace() time.Duration {
	if c.EventHubs() {
		return 250 * time.Millisecond
	}
	return 20 * time.Millisecond
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Key    string // as it is written in the file: kafka.brokers
	Value  string // what is there; never a secret
	Remedy string // what would be right
}

// Error names the key, the value and the remedy in one line.
func (p *Problem) Error() string { return fmt.Sprintf("%s: %s: %s", p.Key, p.Value, p.Remedy) }

// Validate reports every problem of the section, which is named kafka or input, at once:
// each is a *Problem, joined by errors.Join.
func (c Cluster) Validate(section string) error {
	var problems []error
	report := func(key, value, remedy string) {
		problems = append(problems, &Problem{Key: section + "." + key, Value: value, Remedy: remedy})
	}
	if len(c.Brokers) == 0 {
		report("brokers", "empty", "list at least one host:port")
	}
	for _, broker := range c.Brokers {
		if remedy := brokerRemedy(broker); remedy != "" {
			report("brokers", strconv.Quote(broker), remedy)
		}
	}
	c.TLS.validate(report)
	c.SASL.validate(report)
	if c.namespace() {
		if !c.TLS.Enabled {
			report("tls.enabled", "false", "Event Hubs speaks TLS only; set it to true")
		}
		if c.SASL.Mechanism == "" {
			report("sasl.mechanism", `""`, "Event Hubs wants PLAIN with user $ConnectionString and the connection string as password, or OAUTHBEARER with azure: true")
		}
	}
	return errors.Join(problems...)
}

// brokerRemedy says what is wrong with a broker's address, nothing where it is right.
func brokerRemedy(broker string) string {
	host, port, err := net.SplitHostPort(broker)
	if err != nil || host == "" {
		return "write it as host:port, such as kafka-1.example.com:9092"
	}
	if strings.Contains(host, "/") {
		return "write it as host:port, without a scheme"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "the port must be a number from 1 to 65535"
	}
	if strings.HasSuffix(strings.ToLower(host), eventHubsHost) && port != eventHubsPort {
		return "Event Hubs speaks Kafka on port " + eventHubsPort
	}
	return ""
}

// metadataAge is how soon at the latest a client sees a partition that was added. It is far
// below the 240 s after which Event Hubs drops an idle connection.
const metadataAge = 30 * time.Second

// Options returns the options that every client of the cluster starts from: brokers,
// security, the client's name, logging to log, and the hooks (see Metrics). It reads the
// files that the section names; an error names the key.
//
// All clients made from one result share its logger, which repeats a line that it has
// written at most once a minute: while a broker is down, some hundred lines a second say so.
func (c Cluster) Options(log *slog.Logger, hooks ...kgo.Hook) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID("prtwatch"),
		kgo.SoftwareNameAndVersion("prtwatch", softwareVersion()),
		kgo.WithLogger(newLogger(log)),
		kgo.MetadataMaxAge(metadataAge),
		kgo.WithDecompressor(newDecompressor()),
		kgo.WithHooks(hooks...),
	}
	if c.TLS.Enabled {
		if _, problem := c.TLS.config(); problem != nil {
			return nil, problem
		}
		opts = append(opts, kgo.Dialer(c.TLS.dial))
	}
	mechanism, err := c.SASL.mechanism(c.Brokers)
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		opts = append(opts, kgo.SASL(mechanism))
	}
	if c.EventHubs() {
		opts = append(opts, eventHubsOptions()...)
	}
	return opts, nil
}

// eventHubsOptions are what Microsoft asks of a Kafka client (its apache-kafka-configurations.md): no
// compression, a minute for a request, and no request of 1,046,528 bytes, at which it hangs up. No codec at all
// is no compression; kgo.NoCompression in the option would be written to by each client that is made of
// it (kgo.DefaultCompressor), at once by those that are made at once.
func eventHubsOptions() []kgo.Opt {
	return []kgo.Opt{
		kgo.ProducerBatchCompression(),
		kgo.ProducerBatchMaxBytes(1_000_000),
		kgo.BrokerMaxWriteBytes(1_046_527),
		kgo.RequestTimeoutOverhead(time.Minute),
	}
}

// softwareVersion is the version of this binary as brokers are told it, which take letters,
// digits, dots and dashes only (KIP-511).
func softwareVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	legal := func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '.', r == '-':
			return r
		}
		return '-'
	}
	return strings.Trim(strings.Map(legal, info.Main.Version), "-.")
}
