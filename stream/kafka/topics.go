package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Topics is the section `topics`: what the topics are called and how they are made.
type Topics struct {
	Signins    string `koanf:"signins"`
	Baseline   string `koanf:"baseline"`
	Alerts     string `koanf:"alerts"`
	DeadLetter string `koanf:"dead_letter"`

	// Partitions is the count of the first three, and cannot change once they exist: another
	// count would send users away from their baseline.
	Partitions int32 `koanf:"partitions"`
	// Replication is how many copies of a topic are made. It matters only when it is. From
	// three on, what is acknowledged is on two brokers.
	Replication int16 `koanf:"replication"`
}

// DefaultTopics returns the names and counts of the contract.
func DefaultTopics() Topics {
	return Topics{
		Signins:     "prtwatch.signins",
		Baseline:    "prtwatch.baseline",
		Alerts:      "prtwatch.alerts",
		DeadLetter:  "prtwatch.dead-letter",
		Partitions:  32,
		Replication: 1,
	}
}

// legalName is what brokers take for a topic, but for "." and "..".
var legalName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// Validate reports every problem of the section topics at once: each is a *Problem, joined
// by errors.Join.
func (t Topics) Validate() error {
	var problems []error
	report := func(key, value, remedy string) {
		problems = append(problems, &Problem{Key: "topics." + key, Value: value, Remedy: remedy})
	}
	seen := make(map[string]string)
	for _, spec := range t.Specs() {
		if !legalName.MatchString(spec.Topic) || strings.Trim(spec.Topic, ".") == "" {
			report(spec.Key, strconv.Quote(spec.Topic), "a topic's name has 1 to 249 letters, digits, dots, dashes and underscores")
			continue
		}
		if other := seen[spec.Topic]; other != "" {
			report(spec.Key, strconv.Quote(spec.Topic), "topics."+other+" has the same name; each needs its own")
		}
		seen[spec.Topic] = spec.Key
	}
	if t.Partitions < 1 {
		report("partitions", strconv.Itoa(int(t.Partitions)), "at least 1")
	}
	if t.Replication < 1 {
		report("replication", strconv.Itoa(int(t.Replication)), "at least 1; 3 where there are three brokers")
	}
	return errors.Join(problems...)
}

// Spec is what one topic must be.
type Spec struct {
	Topic       string
	Key         string // of the section topics, that names it
	Partitions  int32
	Replication int16
	Settings    []Setting
}

// Setting is one setting of a topic.
type Setting struct {
	Name  string // as Kafka calls it
	Value string
	Rule  Rule
}

// Rule says when a topic that exists differs from what a setting wants.
type Rule uint8

// The rules. A difference is warned about unless its rule says more.
const (
	Equal     Rule = iota // any other value
	MustEqual             // any other value, and nothing may start
	AtLeast               // a smaller number; -1 is without bound
	AtMake                // nothing: it is only how we make the topic
)

// Days as the milliseconds of a topic's setting.
func days(n int) string {
	return strconv.FormatInt((time.Duration(n) * 24 * time.Hour).Milliseconds(), 10)
}

// Specs returns what each of the topics must be, where there are Replication copies of it.
//
// A topic's newest segment is neither deleted nor compacted, and lives a week by default:
// so it is closed each day. What we read back by its record's time is stamped on append,
// since retention goes by that and the sign-ins of a backlog are old when they are produced.
func (t Topics) Specs() []Spec {
	kept := func(n int) []Setting {
		return []Setting{
			{"cleanup.policy", "delete", Equal},
			{"retention.ms", days(n), AtLeast},
			{"segment.ms", days(1), AtMake},
		}
	}
	stamped := Setting{"message.timestamp.type", "LogAppendTime", Equal}
	// The default of a broker: it holds every record of ours, the largest being a dead letter.
	all := []Setting{{"max.message.bytes", strconv.Itoa(1<<20 + 12), AtLeast}}
	// What was acknowledged outlives the leader's disk. Of fewer copies two would be all, and no
	// write would pass while one broker is away: there it stays what the cluster has.
	if t.Replication >= 3 {
		all = append(all, Setting{"min.insync.replicas", "2", AtLeast})
	}
	return []Spec{
		{t.Signins, "signins", t.Partitions, t.Replication, slices.Concat(kept(7), []Setting{stamped}, all)},
		{t.Baseline, "baseline", t.Partitions, t.Replication, append([]Setting{
			{"cleanup.policy", "compact", MustEqual},
			{"delete.retention.ms", days(7), AtLeast},
			{"segment.ms", days(1), AtMake},
			{"segment.bytes", strconv.Itoa(64 << 20), AtMake},
		}, all...)},
		{t.Alerts, "alerts", t.Partitions, t.Replication, slices.Concat(kept(30), []Setting{stamped}, all)},
		{t.DeadLetter, "dead_letter", 1, t.Replication, append(kept(30), all...)},
	}
}

// ClusterID returns the id that the cluster was formatted with.
func ClusterID(ctx context.Context, admin *kadm.Client) (string, error) {
	m, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return "", fmt.Errorf("asking for the cluster's id: %w", err)
	}
	return m.Cluster, nil
}

// Identity is by what a topic is told from another of its name.
type Identity struct {
	ID         [16]byte // all zero where brokers are too old to have ids
	Partitions int32
}

// Identify asks which topics they are: one that is deleted and made anew under its old name
// has another id. A topic that is not there is not in the answer.
func Identify(ctx context.Context, admin *kadm.Client, names ...string) (map[string]Identity, error) {
	topics, err := listFresh(ctx, admin, names...)
	if err != nil {
		return nil, fmt.Errorf("asking for the ids of topics %s: %w", strings.Join(names, ", "), err)
	}
	there := make(map[string]Identity)
	for _, name := range names {
		switch detail, ok := topics[name]; {
		case !ok, errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
		case detail.Err != nil:
			return nil, fmt.Errorf("asking for the id of topic %s: %w", name, detail.Err)
		default:
			there[name] = Identity{detail.ID, int32(len(detail.Partitions))}
		}
	}
	return there, nil
}

// listFresh asks the brokers. ListTopics alone may answer from what the client has heard in
// the last seconds, when a topic was not there yet or was another of its name; asked for
// what we may do with the topic, it cannot. A topic that is not for our user has that as its error.
func listFresh(ctx context.Context, admin *kadm.Client, names ...string) (kadm.TopicDetails, error) {
	ctx = kadm.WithAuthorizedOps(ctx)
	topics, err := admin.ListTopics(ctx, names...)
	if Denied(err) == nil {
		return topics, err
	}
	topics = make(kadm.TopicDetails) // of one answer kadm returns nothing where one topic is refused
	for _, name := range names {
		one, err := admin.ListTopics(ctx, name)
		switch denied := Denied(err); {
		case denied != nil:
			topics[name] = kadm.TopicDetail{Topic: name, Err: denied}
		case err != nil:
			return nil, err
		default:
			maps.Copy(topics, one)
		}
	}
	return topics, nil
}
