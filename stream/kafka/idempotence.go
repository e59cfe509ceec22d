package kafka

import "github.com/twmb/franz-go/pkg/kgo"

// WithoutProducerID are the options of a producer where brokers give no ids, and so cannot tell a request
// that is sent again. It has one at a time in flight to a broker, which all in-sync replicas must have: what a
// partition gets stays in order, and at worst comes again.
func WithoutProducerID() []kgo.Opt {
	return []kgo.Opt{
		kgo.DisableIdempotentWrite(),
		kgo.MaxProduceRequestsInflightPerBroker(1),
		kgo.RequiredAcks(kgo.AllISRAcks()),
	}
}
