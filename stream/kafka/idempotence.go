package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Refused reports whether a broker said that it will not have what a producer asked for, an id or a
// transaction, rather than that it cannot now.
func Refused(err error) bool {
	for _, final := range []error{
		kerr.UnsupportedVersion, kerr.InvalidRequest, kerr.UnsupportedForMessageFormat,
		kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed,
	} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

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
