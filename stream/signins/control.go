package signins

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"
)

// HeaderControl marks a record that is no sign-in; its value is the kind.
const HeaderControl = "control"

// KindTick is the kind of a tick. Later releases add kinds (a verdict); CheckControl names
// those that this one knows.
const KindTick = "tick"

// ControlOf returns which kind of control record has these headers; ok is false for a
// sign-in.
func ControlOf(headers []kgo.RecordHeader) (kind string, ok bool) {
	for _, h := range headers {
		if h.Key == HeaderControl {
			return string(h.Value), true
		}
	}
	return "", false
}

// CheckControl returns ErrNewer for a kind that this release does not know: only a later one
// can have written it, and it may not be passed over.
func CheckControl(kind string) error {
	if kind != KindTick {
		return fmt.Errorf("%w (control record %q)", ErrNewer, kind)
	}
	return nil
}

// Tick says how far the input has been read. The splitter writes one to every partition each
// minute, so that event time passes where no sign-in does.
type Tick struct {
	// Time is the time to which the input has been read: no sign-in that follows in the log
	// arrived in the input before it.
	Time time.Time
}

// Record returns the tick's record, without topic and partition. It has no key: it belongs to
// nobody, and whoever sends it names the partition.
func (t Tick) Record() *kgo.Record {
	return &kgo.Record{
		Headers: []kgo.RecordHeader{{Key: HeaderControl, Value: []byte(KindTick)}},
		Value:   AppendTick(nil, t),
	}
}

const fieldTickTime protowire.Number = 1

// AppendTick appends the value of a tick's record to dst.
func AppendTick(dst []byte, t Tick) []byte {
	return appendTime(append(dst, Version), fieldTickTime, t.Time)
}

// DecodeTick reads what AppendTick wrote. Its errors are those of Decode.
func DecodeTick(value []byte) (Tick, error) {
	body, err := bodyOf(value)
	if err != nil {
		return Tick{}, fmt.Errorf("decoding a tick: %w", err)
	}
	var t Tick
	for at := 0; at < len(body); {
		number, kind, n := protowire.ConsumeTag(body[at:])
		if n < 0 {
			return Tick{}, fmt.Errorf("decoding a tick: %w", corruptAt(at, n))
		}
		at += n
		size := protowire.ConsumeFieldValue(number, kind, body[at:])
		if size < 0 {
			return Tick{}, fmt.Errorf("decoding a tick: %w", corruptAt(at, size))
		}
		if number == fieldTickTime && kind == protowire.Fixed64Type {
			nanoseconds, _ := protowire.ConsumeFixed64(body[at:])
			t.Time = timeOf(nanoseconds)
		}
		at += size
	}
	if t.Time.IsZero() {
		return Tick{}, fmt.Errorf("decoding a tick: %w: it has no time", ErrCorrupt)
	}
	return t, nil
}
