package kafka

import (
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// MaxDeadLetter is where the bytes of a dead letter are cut: such a record fits every
// broker's default of 1 MiB a message, with its headers.
const MaxDeadLetter = 900 << 10

// The headers of a dead letter. Their values are text.
const (
	HeaderReason    = "reason"    // why the record could not be read, one snake_case word
	HeaderTopic     = "topic"     // where it came from
	HeaderPartition = "partition" // decimal
	HeaderOffset    = "offset"    // decimal
	HeaderRecord    = "record"    // which record of the message, from 0; only where it is not the message itself
	HeaderTruncated = "truncated" // only where the bytes were cut: their full size
)

// DeadLetter returns the record that keeps what could not be read of raw: the bytes of its
// record-th record, or of the whole message where record is -1 and its envelope is
// unreadable. It copies the bytes. Its partition is 0, the topic's only one.
func DeadLetter(topic string, raw *kgo.Record, record int, reason string, bytes []byte) *kgo.Record {
	header := func(key, value string) kgo.RecordHeader {
		return kgo.RecordHeader{Key: key, Value: []byte(value)}
	}
	letter := &kgo.Record{
		Topic: topic,
		Value: slices.Clone(bytes[:min(len(bytes), MaxDeadLetter)]), // a null value stays null
		Headers: []kgo.RecordHeader{
			header(HeaderReason, reason),
			header(HeaderTopic, raw.Topic),
			header(HeaderPartition, strconv.Itoa(int(raw.Partition))),
			header(HeaderOffset, strconv.FormatInt(raw.Offset, 10)),
		},
	}
	if record >= 0 {
		letter.Headers = append(letter.Headers, header(HeaderRecord, strconv.Itoa(record)))
	}
	if len(bytes) > MaxDeadLetter {
		letter.Headers = append(letter.Headers, header(HeaderTruncated, strconv.Itoa(len(bytes))))
	}
	return letter
}
