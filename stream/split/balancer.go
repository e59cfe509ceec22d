package split

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// leaderTakesAll is a group balancer that gives every partition to the group's leader and
// none to the others, who stand by. The order of the merge holds over the whole input only
// if one member reads all of it; and the coordinator keeps a leader for as long as it lives,
// so members come and go without a partition moving.
//
// It is cooperative, so that a new member does not stop the active one.
type leaderTakesAll struct{}

var _ kgo.GroupBalancer = leaderTakesAll{}

// ProtocolName implements kgo.GroupBalancer. A member with another balancer cannot join
// the group.
func (leaderTakesAll) ProtocolName() string { return "prtwatch-leader-takes-all" }

// IsCooperative implements kgo.GroupBalancer.
func (leaderTakesAll) IsCooperative() bool { return true }

// JoinGroupMetadata implements kgo.GroupBalancer. The generation lets the leader tell a
// member that still owns a partition from one that only believes so.
func (leaderTakesAll) JoinGroupMetadata(topics []string, owned map[string][]int32, generation int32) []byte {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version = 2
	meta.Topics = topics
	meta.Generation = generation
	for _, topic := range slices.Sorted(maps.Keys(owned)) {
		part := kmsg.NewConsumerMemberMetadataOwnedPartition()
		part.Topic, part.Partitions = topic, owned[topic]
		meta.OwnedPartitions = append(meta.OwnedPartitions, part)
	}
	return meta.AppendTo(nil)
}

// ParseSyncAssignment implements kgo.GroupBalancer.
func (leaderTakesAll) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	return kgo.ParseConsumerSyncAssignment(assignment)
}

// MemberBalancer implements kgo.GroupBalancer.
func (b leaderTakesAll) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	balancer, err := kgo.NewConsumerBalancer(b, members)
	return balancer, balancer.MemberTopics(), err
}

// Balance implements kgo.ConsumerBalancerBalance.
func (leaderTakesAll) Balance(b *kgo.ConsumerBalancer, topics map[string]int32) kgo.IntoSyncAssignment {
	plan := b.NewPlan()
	b.EachMember(func(member *kmsg.JoinGroupResponseMember, _ *kmsg.ConsumerMemberMetadata) {
		if member.MemberID != b.Info().LeaderID {
			return
		}
		for topic, n := range topics {
			for p := range n {
				plan.AddPartition(member, topic, p)
			}
		}
	})
	plan.AdjustCooperative(b)
	return plan
}
