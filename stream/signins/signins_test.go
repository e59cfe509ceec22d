package signins

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/prtwatch/prtwatch/detector"
)

// full is a sign-in with every field set, each to something else.
func full() *detector.SignIn {
	s := &detector.SignIn{MFA: detector.MFAMentioned, Truncated: true, DeviceManaged: new(bool), DeviceCompliant: new(bool)}
	*s.DeviceManaged = true
	s.Generated = time.Date(2026, 11, 23, 10, 16, 5, 123456700, time.UTC)
	s.Created = time.Date(2026, 11, 23, 10, 14, 3, 1, time.UTC)
	s.Arrived = time.Date(2026, 11, 23, 10, 18, 0, 0, time.UTC)
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String {
			f.SetString(v.Type().Field(i).Name + " é")
		}
	}
	return s
}

func TestNoFieldOfASignInIsLost(t *testing.T) {
	want := full()
	v := reflect.ValueOf(want).Elem()
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("the test does not set %s", v.Type().Field(i).Name)
		}
	}
	var got detector.SignIn
	if err := Decode(Append(nil, want, Origin{}), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&got, want) {
		t.Errorf("got  %+v\nwant %+v", &got, want)
	}
}

func drawSignIn(t *rapid.T) *detector.SignIn {
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringN(0, -1, detector.MaxText))
	instant := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(0, rapid.Int64Min(0).Draw(t, "nanoseconds")).UTC()
	})
	orZero := rapid.OneOf(rapid.Just(time.Time{}), instant)
	truth := rapid.Ptr(rapid.Bool(), true)
	s := &detector.SignIn{
		Generated: instant.Draw(t, "Generated"), Created: orZero.Draw(t, "Created"), Arrived: orZero.Draw(t, "Arrived"),
		MFA: detector.MFA(rapid.Byte().Draw(t, "MFA")), Truncated: rapid.Bool().Draw(t, "Truncated"),
		DeviceManaged: truth.Draw(t, "DeviceManaged"), DeviceCompliant: truth.Draw(t, "DeviceCompliant"),
	}
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String {
			f.SetString(text.Draw(t, v.Type().Field(i).Name))
		}
	}
	s.ID = "x" + s.ID
	return s
}

func TestWhatIsAppendedIsDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawSignIn(t)
		got := full() // must leave no trace
		prefix := []byte("before")
		value := Append(prefix, want, Origin{})
		if !bytes.HasPrefix(value, prefix) {
			t.Fatal("Append changed what was there")
		}
		if err := Decode(value[len(prefix):], got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestTextsOfADecodedSignInOutliveTheValue(t *testing.T) {
	value := Append(nil, full(), Origin{})
	var s detector.SignIn
	if err := Decode(value, &s); err != nil {
		t.Fatal(err)
	}
	clear(value)
	if !reflect.DeepEqual(&s, full()) {
		t.Error("a text changed with the bytes that it was decoded from")
	}
}

func TestAFieldOfALaterReleaseIsSkipped(t *testing.T) {
	value := Append(nil, full(), Origin{})
	value = protowire.AppendTag(value, 40, protowire.BytesType)
	value = protowire.AppendString(value, "later")
	value = protowire.AppendTag(value, 41, protowire.VarintType)
	value = protowire.AppendVarint(value, 1<<63)
	value = protowire.AppendTag(value, 42, protowire.Fixed64Type)
	value = protowire.AppendFixed64(value, 7)
	value = protowire.AppendTag(value, 43, protowire.Fixed32Type)
	value = protowire.AppendFixed32(value, 7)
	value = protowire.AppendTag(value, 44, protowire.BytesType)
	value = protowire.AppendString(value, "")
	var got detector.SignIn
	if err := Decode(value, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&got, full()) {
		t.Errorf("got %+v", &got)
	}
}

func TestANewerVersionIsToldFromCorruptBytes(t *testing.T) {
	whole := Append(nil, full(), Origin{})
	for _, c := range []struct {
		name  string
		value []byte
		want  error
	}{
		{"the next version", append([]byte{Version + 1}, whole[1:]...), ErrNewer},
		{"the next version, in another format", []byte{Version + 1, 0xff, 0xff}, ErrNewer},
		{"nothing", nil, ErrCorrupt},
		{"version 0", append([]byte{0}, whole[1:]...), ErrCorrupt},
		{"some text", []byte("no sign-in"), ErrCorrupt},
		{"a version alone", []byte{Version}, ErrCorrupt},
		{"cut off", whole[:len(whole)-1], ErrCorrupt},
		{"cut in a text", whole[:40], ErrCorrupt},
		{"no id", Append(nil, &detector.SignIn{Generated: full().Generated}, Origin{}), ErrCorrupt},
		{"no time", Append(nil, &detector.SignIn{ID: "a"}, Origin{}), ErrCorrupt},
		{"a text of 2^63 bytes", append([]byte{Version, 0x0a}, protowire.AppendVarint(nil, 1<<63)...), ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s detector.SignIn
			err := Decode(c.value, &s)
			if !errors.Is(err, c.want) || errors.Is(err, ErrNewer) == errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if c.want == ErrNewer && !strings.Contains(err.Error(), "upgrade") {
				t.Errorf("%q does not say what to do", err)
			}
		})
	}
}

func TestTicksAndOtherControlRecords(t *testing.T) {
	want := Tick{Time: time.Date(2026, 11, 23, 10, 0, 0, 123, time.UTC)}
	record := want.Record()
	kind, ok := ControlOf(record.Headers)
	if !ok || kind != KindTick || CheckControl(kind) != nil {
		t.Fatalf("the headers say %q, %v", kind, ok)
	}
	if got, err := DecodeTick(record.Value); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	if kind, ok := ControlOf([]kgo.RecordHeader{{Key: "traceparent", Value: []byte("tick")}}); ok {
		t.Errorf("a sign-in was taken for a control record %q", kind)
	}
	if err := CheckControl("verdict"); !errors.Is(err, ErrNewer) {
		t.Errorf("an unknown kind: %v", err)
	}
	if _, err := DecodeTick([]byte{Version + 1}); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer tick: %v", err)
	}
	for _, value := range [][]byte{nil, {}, {0}, {Version}, {Version, 9, 1}} {
		if _, err := DecodeTick(value); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%x: %v", value, err)
		}
	}
}

var rewrite = flag.Bool("rewrite", false, "write the golden file anew (a change to it breaks every topic that exists)")

// What version 1 wrote must be readable by every later release, and what this release writes
// by those that wrote version 1.
func TestTheBytesOfVersionOne(t *testing.T) {
	path := "testdata/version1.hex"
	ours := fmt.Sprintf("%x\n%x\n", Append(nil, full(), Origin{}), AppendTick(nil, Tick{full().Arrived}))
	if *rewrite {
		if err := os.WriteFile(path, []byte(ours), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(golden) != ours {
		t.Errorf("the format has changed:\n%s\n%s", golden, ours)
	}
	lines := strings.Fields(string(golden))
	value, err := hex.DecodeString(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	var s detector.SignIn
	if err := Decode(value, &s); err != nil || !reflect.DeepEqual(&s, full()) {
		t.Errorf("read %+v, %v", &s, err)
	}
	value, err = hex.DecodeString(lines[1])
	if err != nil {
		t.Fatal(err)
	}
	if tick, err := DecodeTick(value); err != nil || tick.Time != full().Arrived {
		t.Errorf("read %+v, %v", tick, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Append(nil, full(), Origin{}))
	f.Add(AppendTick(nil, Tick{full().Arrived}))
	f.Add([]byte{Version, 0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{Version, 0x0b, 0x0b, 0x0b})
	f.Fuzz(func(t *testing.T, value []byte) {
		DecodeTick(value)
		var s, again detector.SignIn
		if err := Decode(value, &s); err != nil {
			if errors.Is(err, ErrNewer) == errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if err := Decode(Append(nil, &s, Origin{}), &again); err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	s, dst := full(), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		dst = Append(dst[:0], s, Origin{})
	}
	b.SetBytes(int64(len(dst)))
}

func BenchmarkDecode(b *testing.B) {
	value := Append(nil, full(), Origin{})
	var s detector.SignIn
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Decode(value, &s); err != nil {
			b.Fatal(err)
		}
	}
}
