package detect_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// logbook is a log that can be read while it is written.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logbook) kept(_ *detect.Config, d *detect.Deps) {
	d.Log = slog.New(slog.NewTextHandler(l, nil))
}

// The topic deletes what is older than its retention, judged or not.
func TestSignInsThatTheirTopicWillSoonDeleteAreWarnedOf(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		const warning = "more than half of what their topic keeps"
		h := newHouse(t, b)
		h.recreate(h.topics.Signins, map[string]string{"retention.ms": "600000"})
		record := func(s *detector.SignIn, age time.Duration) *kgo.Record {
			key := []byte(s.UPN)
			return &kgo.Record{
				Topic: h.topics.Signins, Partition: kafka.Partition(key, partitions), Key: key,
				Value: signins.Append(nil, s, signins.Origin{}), Timestamp: time.Now().Add(-age),
			}
		}
		var log logbook
		h.b.Produce(record(signIn("fresh", ada, "192.0.2.1", "64500", 0), 4*time.Minute))
		h.start("one", t.TempDir(), log.kept)
		h.judged()
		if strings.Contains(log.String(), warning) {
			t.Errorf("warned of what has waited for less than half of it:\n%s", log.String())
		}
		h.b.Produce(record(signIn("old", ada, "192.0.2.1", "64500", 1), 6*time.Minute))
		h.judged()
		if n := strings.Count(log.String(), warning); n != 1 {
			t.Errorf("warned %d times of what has waited for more than half of it:\n%s", n, log.String())
		}
	})
}
