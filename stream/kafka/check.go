package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Difference is one way in which a topic is not what it must be.
type Difference struct {
	Topic   string
	Setting string // existence, partitions, replication, or as Kafka calls it
	Have    string
	Want    string
	Fatal   bool   // nothing may start; otherwise it is worth a warning
	Remedy  string // what to do, for a person
}

// The settings of a Difference that are no topic configuration.
const (
	Existence   = "existence"
	Partitions  = "partitions"
	Replication = "replication"
	Rights      = "rights"
)

// String is one line: what differs, and what to do.
func (d Difference) String() string {
	switch d.Setting {
	case Existence:
		return fmt.Sprintf("topic %s is %s: %s", d.Topic, d.Have, d.Remedy)
	case Rights:
		return fmt.Sprintf("topic %s: our user may not %s: %s", d.Topic, d.Want, d.Remedy)
	}
	return fmt.Sprintf("topic %s: %s is %s, not %s: %s", d.Topic, d.Setting, d.Have, d.Want, d.Remedy)
}

// Fatal returns an error of one line for each fatal difference, nil where there is none.
func Fatal(differences []Difference) error {
	var errs []error
	for _, d := range differences {
		if d.Fatal {
			errs = append(errs, errors.New(d.String()))
		}
	}
	return errors.Join(errs...)
}

// Check compares the topics with their specification, and asks whether the input topics,
// which may live on another cluster, are there. A missing topic, another partition count
// and a baseline that is not only compacted are fatal. An error means that a cluster did
// not answer, not that a topic is wrong.
func Check(ctx context.Context, admin *kadm.Client, topics Topics, inputAdmin *kadm.Client, inputTopics []string) ([]Difference, error) {
	differences, err := checkOwn(ctx, admin, topics, nil)
	if err != nil {
		return nil, err
	}
	missing, err := CheckInput(ctx, inputAdmin, inputTopics)
	return append(differences, missing...), err
}

// Uses is what a process does with topics: what it has to be allowed on each, by its key of the section topics.
type Uses map[string][]kadm.ACLOperation

// CheckUses compares those topics with their specification that a process uses, and asks whether our user may do
// that: what it may not is fatal. Brokers that do not tell are believed to allow it.
func CheckUses(ctx context.Context, admin *kadm.Client, topics Topics, uses Uses) ([]Difference, error) {
	return checkOwn(ctx, admin, topics, uses)
}

// CheckInput asks whether the input topics are there, and whether our user may do this with them. Their settings
// and partition counts are their owner's.
func CheckInput(ctx context.Context, admin *kadm.Client, names []string, use ...kadm.ACLOperation) ([]Difference, error) {
	if len(names) == 0 {
		return nil, nil // to a broker, no names are all topics
	}
	there, err := listFresh(ctx, admin, names...)
	if err != nil {
		return nil, fmt.Errorf("asking for the input topics %s: %w", strings.Join(names, ", "), err)
	}
	var differences []Difference
	for _, name := range names {
		if d, absent := absence(there[name], name, use, "correct input.topics, create it where the export is set up, or try one with `prtwatch topics --create --input`"); absent {
			differences = append(differences, d)
			continue
		}
		differences = append(differences, lacking(there[name], use)...)
	}
	return differences, nil
}

// checkOwn checks the topics of which there is a use; all where uses is nil.
func checkOwn(ctx context.Context, admin *kadm.Client, topics Topics, uses Uses) ([]Difference, error) {
	unused := func(spec Spec) bool { return uses != nil && uses[spec.Key] == nil }
	specs := slices.DeleteFunc(topics.Specs(), unused)
	var names []string
	for _, spec := range specs {
		names = append(names, spec.Topic)
	}
	there, err := listFresh(ctx, admin, names...)
	if err != nil {
		return nil, fmt.Errorf("asking for the topics %s: %w", strings.Join(names, ", "), err)
	}
	var differences []Difference
	var present []Spec
	for i, spec := range specs {
		if d, absent := absence(there[spec.Topic], spec.Topic, uses[spec.Key], "run `prtwatch topics --create`, or correct topics."+spec.Key); absent {
			differences = append(differences, d)
			continue
		}
		differences = append(differences, spec.shape(there[spec.Topic])...)
		differences = append(differences, lacking(there[spec.Topic], uses[spec.Key])...)
		// What its settings must be goes by the copies that it has, not by those that we would make.
		topics.Replication = int16(there[spec.Topic].Partitions.NumReplicas())
		present = append(present, slices.DeleteFunc(topics.Specs(), unused)[i])
	}
	settings, err := checkSettings(ctx, admin, present)
	return append(differences, settings...), err
}

// lacking returns what our user may not do with a topic. Who is told of a topic may describe it; where that is not
// among what a broker says we may, it does not say.
func lacking(detail kadm.TopicDetail, use []kadm.ACLOperation) (differences []Difference) {
	if !slices.Contains(detail.AuthorizedOperations, kadm.OpDescribe) {
		return nil
	}
	for _, op := range use {
		if !slices.Contains(detail.AuthorizedOperations, op) {
			differences = append(differences, Difference{
				Topic: detail.Topic, Setting: Rights, Have: allNames(detail.AuthorizedOperations), Want: nameOf(op), Fatal: true,
				Remedy: "grant our user " + nameOf(op) + " on it",
			})
		}
	}
	return differences
}

// nameOf is what Kafka's documents and tools call an operation.
func nameOf(op kadm.ACLOperation) string {
	switch op {
	case kadm.OpRead:
		return "Read"
	case kadm.OpWrite:
		return "Write"
	case kadm.OpDescribe:
		return "Describe"
	}
	return op.String()
}

func allNames(ops []kadm.ACLOperation) string {
	var names []string
	for _, op := range ops {
		names = append(names, nameOf(op))
	}
	return strings.Join(names, ", ")
}

// absence returns the difference of a topic that is not there, or not for us, who would use it so.
func absence(detail kadm.TopicDetail, name string, use []kadm.ACLOperation, remedy string) (Difference, bool) {
	d := Difference{Topic: name, Setting: Existence, Want: "there", Fatal: true}
	switch {
	case errors.Is(detail.Err, kerr.TopicAuthorizationFailed):
		if use == nil {
			use = []kadm.ACLOperation{kadm.OpDescribe}
		}
		d.Have, d.Remedy = "not ours to see", "grant our user "+allNames(use)+" on it, or create it"
	case errors.Is(detail.Err, kerr.UnknownTopicOrPartition), detail.Err == nil && detail.Topic == "":
		d.Have, d.Remedy = "missing", remedy
	case errors.Is(detail.Err, kerr.InvalidTopicException):
		d.Have, d.Remedy = "no legal name", "correct it"
	default:
		return d, false
	}
	return d, true
}

// shape compares partition and replica counts.
func (s Spec) shape(detail kadm.TopicDetail) []Difference {
	var differences []Difference
	if have := len(detail.Partitions); have != int(s.Partitions) {
		remedy := fmt.Sprintf("set topics.partitions to %d, or name other topics: the count of a topic in use cannot change", have)
		if s.Key == "dead_letter" {
			remedy = "name another topic as topics.dead_letter: it has one partition"
		}
		differences = append(differences, Difference{
			Topic: s.Topic, Setting: Partitions, Have: strconv.Itoa(have), Want: strconv.Itoa(int(s.Partitions)),
			Fatal: true, Remedy: remedy,
		})
	}
	if have := detail.Partitions.NumReplicas(); have < int(s.Replication) {
		differences = append(differences, Difference{
			Topic: s.Topic, Setting: Replication, Have: strconv.Itoa(have), Want: strconv.Itoa(int(s.Replication)),
			Remedy: "reassign its partitions to more brokers, or correct topics.replication",
		})
	}
	return differences
}

func checkSettings(ctx context.Context, admin *kadm.Client, specs []Spec) ([]Difference, error) {
	var differences []Difference
	for _, spec := range specs { // one at a time: of one answer kadm returns nothing where one topic is refused
		configs, err := admin.DescribeTopicConfigs(ctx, spec.Topic)
		if err != nil && Denied(err) == nil {
			return nil, fmt.Errorf("asking for the settings of topic %s: %w", spec.Topic, err)
		}
		var config kadm.ResourceConfig
		if err == nil {
			config, err = configs.On(spec.Topic, nil)
		}
		if err == nil {
			err = config.Err
		}
		if err != nil {
			differences = append(differences, Difference{
				Topic: spec.Topic, Setting: "settings", Have: "not ours to see", Want: "checked",
				Remedy: "grant our user DescribeConfigs on it (" + brief(err) + ")",
			})
			continue
		}
		differences = append(differences, spec.settings(config)...)
	}
	return differences, nil
}

// brief is an error without the explanation that the client gives with a broker's.
func brief(err error) string {
	if said, ok := errors.AsType[*kerr.Error](err); ok {
		return said.Message
	}
	return err.Error()
}

// settings compares a topic's settings. One that the broker does not have is no difference.
func (s Spec) settings(config kadm.ResourceConfig) []Difference {
	have := make(map[string]string, len(config.Configs))
	for _, c := range config.Configs {
		if c.Value != nil {
			have[c.Key] = *c.Value
		}
	}
	var differences []Difference
	for _, want := range s.Settings {
		value, known := have[want.Name]
		if !known || want.satisfied(value) {
			continue
		}
		differences = append(differences, Difference{
			Topic: s.Topic, Setting: want.Name, Have: value, Want: want.text(), Fatal: want.Rule == MustEqual,
			Remedy: fmt.Sprintf("`kafka-configs.sh --bootstrap-server BROKERS --alter --entity-type topics --entity-name %s --add-config %s=%s` sets it", s.Topic, want.Name, want.Value),
		})
	}
	return differences
}

// satisfied reports whether a topic with this value is as the setting wants it.
func (s Setting) satisfied(have string) bool {
	switch s.Rule {
	case AtMake:
		return true
	case AtLeast:
		is, err1 := strconv.ParseInt(have, 10, 64)
		atLeast, err2 := strconv.ParseInt(s.Value, 10, 64)
		return err1 == nil && err2 == nil && (is < 0 || is >= atLeast)
	}
	return have == s.Value
}

// text is what is wanted, for a person.
func (s Setting) text() string {
	if s.Rule == AtLeast {
		return "at least " + s.Value
	}
	return s.Value
}
