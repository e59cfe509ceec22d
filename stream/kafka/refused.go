package kafka

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Denied returns which right to a group, topic or transaction our user has not, as a broker said; nil where it did not say
// so. Nobody but an operator ends that.
func Denied(err error) error {
	return which(err, kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed)
}

// MaxOffsetMetadata is offset.metadata.max.bytes of a broker, where nobody has set it: how long may be what an offset
// is committed with.
const MaxOffsetMetadata = 4096

// CommitRefused says what to do where a group's offsets are not taken, now or later, and nobody but an operator ends that;
// nil where they may be.
func CommitRefused(group string, err error) error {
	refused, remedy := Denied(err), "grant the right to this user"
	switch {
	case refused != nil:
	case errors.Is(err, kerr.OffsetMetadataTooLarge):
		refused, remedy = kerr.OffsetMetadataTooLarge, fmt.Sprintf("set offset.metadata.max.bytes of the brokers to %d, their default, or more", MaxOffsetMetadata)
	case errors.Is(err, kerr.InvalidCommitOffsetSize):
		refused, remedy = kerr.InvalidCommitOffsetSize, "set max.message.bytes of topic __consumer_offsets to 1048588, its default, or more"
	default:
		return nil
	}
	return fmt.Errorf("committing offsets of group %s: %w; %s", group, refused, remedy)
}

// Moved reports whether a broker refused a commit because the group has moved on without this member, is about to,
// or was deleted.
func Moved(err error) bool {
	return which(err, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.FencedInstanceID,
		kerr.FencedMemberEpoch, kerr.StaleMemberEpoch, kerr.GroupIDNotFound) != nil
}

// Refused returns by which error a broker said that it will not have what a producer asked for, an id or a
// transaction; nil where it said no such thing, or that it cannot now.
func Refused(err error) error {
	return which(err, kerr.UnsupportedVersion, kerr.InvalidRequest, kerr.UnsupportedForMessageFormat,
		kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed)
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
