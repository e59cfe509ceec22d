package signins

import (
	"math"
	"testing"

	"github.com/prtwatch/prtwatch/detector"
)

func TestAnOriginTravelsWithASignIn(t *testing.T) {
	for _, want := range []Origin{
		{},
		{Source: Source{Number: 1}},
		{Source: Source{7, 31}, Place: Place{1 << 40, 52}},
		{Source: Source{7, 31}, Place: Place{1 << 40, 0}, After: Place{1<<40 - 3, 17}, Follows: true},
		{Source: Source{7, 31}, Place: Place{5, 1}, Follows: true},
		{Source: Source{math.MaxUint32, math.MaxInt32}, Place: Place{math.MaxInt64, math.MaxInt32}, After: Place{0, math.MaxInt32}, Follows: true},
	} {
		in := full()
		value := Append(nil, in, want)
		if got := OriginOf(value); got != want {
			t.Errorf("%+v came as %+v", want, got)
		}
		var out detector.SignIn
		if err := Decode(value, &out); err != nil || out.ID != in.ID || out.UPN != in.UPN {
			t.Errorf("with origin %+v: %v", want, err)
		}
	}
}

func TestWhatHasNoOriginIsOfNone(t *testing.T) {
	whole := Append(nil, full(), Origin{Source: Source{7, 3}, Place: Place{300, 2}, After: Place{299, 1}, Follows: true})
	for _, value := range [][]byte{nil, {}, {Version}, {Version + 1}, whole[:4], whole[:8], []byte("text"), AppendTick(nil, Tick{full().Arrived})} {
		if got := OriginOf(value); got != (Origin{}) {
			t.Errorf("%x is of origin %+v", value, got)
		}
	}
}

func TestPlacesAreInTheOrderOfTheInput(t *testing.T) {
	places := []Place{{-1, 0}, {0, 0}, {0, 1}, {1, 0}, {1, 7}, {20, 3}}
	for i, a := range places {
		for j, b := range places {
			if got := a.Compare(b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%v against %v is %d", a, b, got)
			}
		}
	}
}
