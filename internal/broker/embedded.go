// Package broker is a Kafka inside this process (kfake), for the demo and, by way of
// brokertest, for tests. It must know nothing of sign-ins, alerts or prtwatch's topics.
// Start at StartEmbedded.
package broker

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Embedded is a Kafka of one broker inside this process, on a free port of 127.0.0.1. It
// does transactions, both group protocols and compaction; its data lives in memory and is
// gone with it.
type Embedded struct {
	// Cluster is the fake itself, for faults and for looking inside.
	Cluster *kfake.Cluster
}

// StartEmbedded starts one. Topics must be created: nothing appears by being asked for.
// The options are added to ours and win.
func StartEmbedded(opts ...kfake.Opt) (*Embedded, error) {
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("starting the embedded broker: %w", err)
	}
	return &Embedded{Cluster: cluster}, nil
}

// Addrs returns host:port of the broker.
func (e *Embedded) Addrs() []string { return e.Cluster.ListenAddrs() }

// Close stops the broker and drops its data.
func (e *Embedded) Close() { e.Cluster.Close() }
