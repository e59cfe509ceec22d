package detect

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/fault"
)

// steps marks those steps of a commit that the client takes by itself, inside End, and notes when it asks to
// join the group.
type steps struct{ roster *roster }

var (
	_ kgo.HookBrokerRead  = steps{}
	_ kgo.HookBrokerWrite = steps{}
)

// OnBrokerRead hears of an answer.
func (steps) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key == kmsg.TxnOffsetCommit.Int16() && err == nil {
		fault.Pass(fault.DetectOffsets)
	}
}

// OnBrokerWrite hears of a request.
func (s steps) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	switch {
	case err != nil:
	case key == kmsg.EndTxn.Int16():
		fault.Pass(fault.DetectEnding)
	case key == kmsg.JoinGroup.Int16():
		s.roster.joins()
	}
}
