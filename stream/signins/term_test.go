package signins

import (
	"math"
	"testing"

	"github.com/prtwatch/prtwatch/detector"
)

func TestATermIsFoundInARecordAndNowhereElse(t *testing.T) {
	for _, want := range []Term{{}, {1, 0}, {7, 3 << 16}, {math.MaxUint32, math.MaxUint64}} {
		value := Append(nil, full(), want)
		if got := TermOf(value); got != want {
			t.Errorf("%+v, not %+v", got, want)
		}
		var s detector.SignIn
		if err := Decode(value, &s); err != nil || s.ID != full().ID {
			t.Errorf("with term %+v: %v", want, err)
		}
		for n := range min(len(value), 17) {
			_ = TermOf(value[:n]) // whatever is cut off
		}
	}
	for _, value := range [][]byte{nil, {Version}, {Version + 1, 0xf5, 1}, AppendTick(nil, Tick{full().Arrived})} {
		if got := TermOf(value); got != (Term{}) {
			t.Errorf("%x has term %+v", value, got)
		}
	}
}

func TestOnlyWithinAGroupOneTermIsBeforeAnother(t *testing.T) {
	for _, c := range []struct {
		a, b Term
		want bool
	}{{Term{1, 1}, Term{1, 2}, true}, {Term{1, 2}, Term{1, 2}, false}, {Term{1, 3}, Term{1, 2}, false}, {Term{2, 1}, Term{1, 2}, false}, {Term{}, Term{1, 2}, false}} {
		if got := c.a.Before(c.b); got != c.want {
			t.Errorf("%+v before %+v: %t", c.a, c.b, got)
		}
	}
}
