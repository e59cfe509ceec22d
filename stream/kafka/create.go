package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Create makes the topics that are missing, as they must be, and returns their names. What
// is there stays as it is, right or wrong: see Check. It returns when they can be used.
func Create(ctx context.Context, admin *kadm.Client, topics Topics) (created []string, err error) {
	return create(ctx, admin, topics.Specs())
}

// inputRetention is 60 days: made history goes by the sign-ins' own time, and the brokers'
// week would have its beginning deleted before it is read.
const inputRetention = "5184000000"

// CreateInput makes the input topics that are missing, with the broker's own settings but
// for how long they are kept: to try prtwatch without an export. Event Hubs refuses; there an export makes them.
func CreateInput(ctx context.Context, admin *kadm.Client, names []string, partitions int32, replication int16) (created []string, err error) {
	var specs []Spec
	for _, name := range names {
		specs = append(specs, Spec{Topic: name, Partitions: partitions, Replication: replication, Settings: []Setting{
			{Name: "retention.ms", Value: inputRetention},
		}})
	}
	return create(ctx, admin, specs)
}

func create(ctx context.Context, admin *kadm.Client, specs []Spec) (created []string, err error) {
	for _, spec := range specs {
		settings := make(map[string]*string, len(spec.Settings))
		for _, s := range spec.Settings {
			settings[s.Name] = &s.Value
		}
		_, err := admin.CreateTopic(ctx, spec.Partitions, spec.Replication, settings, spec.Topic)
		switch {
		case errors.Is(err, kerr.TopicAlreadyExists):
		case err != nil:
			return created, spec.refused(err)
		default:
			created = append(created, spec.Topic)
		}
	}
	return created, await(ctx, admin, created)
}

// await waits until the brokers know the topics and every partition has its leader: they
// answer that a topic is made some moments before.
func await(ctx context.Context, admin *kadm.Client, names []string) error {
	for len(names) > 0 {
		there, err := listFresh(ctx, admin, names...)
		if err != nil {
			return fmt.Errorf("asking for the topics that were created: %w", err)
		}
		if there.Error() == nil && led(there) {
			return nil
		}
		if !wait(ctx, 50*time.Millisecond) {
			return fmt.Errorf("waiting for the topics that were created: %w", ctx.Err())
		}
	}
	return nil
}

func led(topics kadm.TopicDetails) bool {
	for _, topic := range topics {
		for _, p := range topic.Partitions {
			if p.Err != nil || p.Leader < 0 {
				return false
			}
		}
	}
	return true
}

// refused says what to do about a topic that the broker did not make.
func (s Spec) refused(err error) error {
	remedy := ""
	switch {
	case errors.Is(err, kerr.InvalidReplicationFactor):
		remedy = fmt.Sprintf("topics.replication is %d: there are not so many brokers; ", s.Replication)
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		remedy = "our user may not create topics: allow it, or let who may do it; "
	case errors.Is(err, kerr.UnsupportedVersion), errors.Is(err, kerr.InvalidRequest):
		remedy = "does this service create topics for Kafka clients? (Event Hubs: in the portal, or by the export itself); "
	}
	return fmt.Errorf("creating topic %s: %s%w", s.Topic, remedy, oneLine(err))
}
