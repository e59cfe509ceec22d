package detect

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/fault"
)

// steps marks those steps of a commit that the client takes by itself, inside End, and notes when it asks to
// join the group, and under which id.
type steps struct {
	roster *roster
	ids    *memberIDs
	client *kgo.Client
}

var (
	_ kgo.HookNewClient   = (*steps)(nil)
	_ kgo.HookBrokerRead  = (*steps)(nil)
	_ kgo.HookBrokerWrite = (*steps)(nil)
)

// OnNewClient hears of the client before that does anything.
func (s *steps) OnNewClient(client *kgo.Client) { s.client = client }

// OnBrokerRead hears of an answer.
func (*steps) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key == kmsg.TxnOffsetCommit.Int16() && err == nil {
		fault.Pass(fault.DetectOffsets)
	}
}

// OnBrokerWrite hears of a request, before its answer is read.
func (s *steps) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	switch {
	case key == kmsg.ConsumerGroupHeartbeat.Int16():
		id, _ := s.client.GroupMetadata()
		s.ids.is(id)
	case err != nil:
	case key == kmsg.EndTxn.Int16():
		fault.Pass(fault.DetectEnding)
	case key == kmsg.JoinGroup.Int16():
		s.roster.joins()
	}
}
