package kafka_test

import (
	"bytes"
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

var unreadable = &kgo.Record{Topic: "export", Partition: 7, Offset: 1234567890123}

func TestADeadLetterSaysWhyAndWhereFrom(t *testing.T) {
	letter := kafka.DeadLetter("dead", unreadable, 3, "no_time", []byte(`{"id":1}`))
	want := map[string]string{"reason": "no_time", "topic": "export", "partition": "7", "offset": "1234567890123", "record": "3"}
	if got := headers(letter); !maps.Equal(got, want) {
		t.Errorf("headers %v, want %v", got, want)
	}
	if letter.Topic != "dead" || letter.Partition != 0 || letter.Key != nil || string(letter.Value) != `{"id":1}` {
		t.Errorf("topic %s, partition %d, key %q, value %q", letter.Topic, letter.Partition, letter.Key, letter.Value)
	}
}

func TestADeadLetterIsCutAndSaysItsFullSize(t *testing.T) {
	for size, truncated := range map[int]string{900 << 10: "", 900<<10 + 1: "921601", 5 << 20: "5242880"} {
		letter := kafka.DeadLetter("dead", unreadable, -1, "not_json", make([]byte, size))
		if len(letter.Value) != min(size, 900<<10) || headers(letter)["truncated"] != truncated {
			t.Errorf("of %d bytes: %d kept, truncated %q, want %q", size, len(letter.Value), headers(letter)["truncated"], truncated)
		}
	}
}

func TestADeadLetterOwnsItsBytes(t *testing.T) {
	reused := []byte("what was unreadable")
	letter := kafka.DeadLetter("dead", unreadable, -1, "not_json", reused)
	clear(reused)
	if string(letter.Value) != "what was unreadable" {
		t.Errorf("value is now %q", letter.Value)
	}
}

func TestANullValueStaysNull(t *testing.T) {
	if letter := kafka.DeadLetter("dead", unreadable, -1, "null", nil); letter.Value != nil {
		t.Errorf("value %q", letter.Value)
	}
}

func TestTheLargestDeadLetterIsTakenByItsTopic(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		topics := topicsOf(b)
		mustCreate(t, b, topics)
		incompressible := make([]byte, 2<<20)
		for i, x := 0, uint32(1); i < len(incompressible); i++ {
			x = x*1664525 + 1013904223
			incompressible[i] = byte(x >> 24)
		}
		b.Produce(kafka.DeadLetter(topics.DeadLetter, unreadable, -1, "not_json", incompressible))
		got := b.ReadAll(topics.DeadLetter)
		if len(got) != 1 || !bytes.Equal(got[0].Value, incompressible[:kafka.MaxDeadLetter]) {
			t.Errorf("%d dead letters", len(got))
		}
	})
}

func headers(r *kgo.Record) map[string]string {
	got := make(map[string]string)
	for _, h := range r.Headers {
		got[h.Key] = string(h.Value)
	}
	return got
}
