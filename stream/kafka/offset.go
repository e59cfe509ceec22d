package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The timestamps that ask OffsetOf for an end of the log.
const (
	StartOfLog = -2
	EndOfLog   = -1
)

// OffsetOf asks the leader of a partition for the first offset of a record that is no older than a
// timestamp (milliseconds, or an end of the log), as far as isolation sees; -1 where there is none.
// It asks for one partition: others, whose leaders may be away, are not waited for.
func OffsetOf(ctx context.Context, client *kgo.Client, topic string, partition int32, timestamp int64, isolation kgo.IsolationLevel) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	if isolation == kgo.ReadCommitted() {
		req.IsolationLevel = 1
	}
	t, p := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, timestamp
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return -1, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return -1, errors.New("no answer")
	}
	answer := resp.Topics[0].Partitions[0]
	return answer.Offset, kerr.ErrorForCode(answer.ErrorCode)
}
