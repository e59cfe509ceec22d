package kafka

import (
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Denied reports whether a broker said that our user has no right to a group, topic or transaction. Nobody but
// an operator ends that.
func Denied(err error) bool {
	return isAny(err, kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed)
}

// Moved reports whether a broker refused a commit because the group has moved on without this member, is about to,
// or was deleted.
func Moved(err error) bool {
	return isAny(err, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.FencedInstanceID,
		kerr.FencedMemberEpoch, kerr.StaleMemberEpoch, kerr.GroupIDNotFound)
}

func isAny(err error, of ...error) bool {
	return slices.ContainsFunc(of, func(e error) bool { return errors.Is(err, e) })
}
