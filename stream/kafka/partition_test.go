package kafka_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

// The hashes are those of UtilsTest.testMurmur2 in Apache Kafka.
func TestPartitionIsThatOfTheJavaClient(t *testing.T) {
	for key, hash := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		for _, n := range []int32{1, 3, 32, 1000003} {
			if got, want := kafka.Partition([]byte(key), n), (hash&0x7fffffff)%n; got != want {
				t.Errorf("Partition(%q, %d) = %d, want %d", key, n, got, want)
			}
		}
	}
}

func TestPartitionIsThatOfTheClientLibrary(t *testing.T) {
	library := kgo.StickyKeyPartitioner(nil).ForTopic("any")
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		if key == nil {
			key = []byte{} // a null key has no partition of its own, the empty one has
		}
		n := rapid.Int32Range(1, 1<<20).Draw(t, "n")
		if got, want := kafka.Partition(key, n), library.Partition(&kgo.Record{Key: key}, int(n)); int(got) != want {
			t.Fatalf("Partition = %d, the library's is %d", got, want)
		}
	})
}

func TestPartitionAllocatesNothing(t *testing.T) {
	key := []byte("user-0001@example.com")
	if n := testing.AllocsPerRun(100, func() { kafka.Partition(key, 32) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPartition(b *testing.B) {
	key := []byte("user-0001@example.com")
	b.ReportAllocs()
	for b.Loop() {
		kafka.Partition(key, 32)
	}
}
