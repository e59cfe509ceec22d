package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Denied returns which right to a group, topic or transaction our user has not, as a broker said; nil where it did not say
// so. Nobody but an operator ends that.
func Denied(err error) error {
	return which(err, kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed)
}

// Moved reports whether a broker refused a commit because the group has moved on without this member, is about to,
// or was deleted.
func Moved(err error) bool {
	return which(err, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.FencedInstanceID,
		kerr.FencedMemberEpoch, kerr.StaleMemberEpoch, kerr.GroupIDNotFound) != nil
}

// which returns the first of some errors that err is: it may be as many lines as a request has partitions.
func which(err error, of ...error) error {
	for _, e := range of {
		if errors.Is(err, e) {
			return e
		}
	}
	return nil
}
