package detect_test

import (
	"testing"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// Who owned the input before still had a sign-in in the air. It is left out, by who comes next too, which knows
// of the term from what the offset was committed with.
func TestACopyOfAnEarlierTermIsLeftOut(t *testing.T) {
	for _, delivery := range deliveries {
		t.Run(delivery.name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHouse(t, b)
				for n, turn := range []struct {
					term    signins.Term
					id      string
					leftOut float64
				}{
					{signins.Term{}, "of a splitter that says nothing", 0},
					{signins.Term{Group: 7, Number: 2}, "of the second", 0},
					{signins.Term{Group: 7, Number: 2}, "of the second once more", 0},
					{signins.Term{Group: 7, Number: 1}, "of the first", 1},
					{signins.Term{Group: 7, Number: 1}, "of the first once more", 1},
					{signins.Term{}, "of a splitter that says nothing, again", 0},
					{signins.Term{Group: 3, Number: 1}, "of another group", 0},
					{signins.Term{Group: 3, Number: 2}, "of its second", 0},
				} {
					s := h.start("one", t.TempDir(), delivery.option)
					h.produceIn(turn.term, signIn(turn.id, ada, "192.0.2."+string(rune('1'+n)), "6450"+string(rune('0'+n)), 2*n))
					h.judged()
					if got, _ := s.count("prtwatch_signins_superseded_total"); got != turn.leftOut {
						t.Errorf("%s: %v were left out, want %v", turn.id, got, turn.leftOut)
					}
					if err := s.stop(); err != nil {
						t.Fatal(err)
					}
				}
				h.wantAlerts("of a splitter that says nothing", "of the second", "of the second once more", "of a splitter that says nothing, again", "of another group", "of its second")
			})
		})
	}
}
