package detect_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// from is the origin of the first sign-in that an owner of the input sends, follows that of a later one.
func from(offset int64) signins.Origin {
	return signins.Origin{Source: signins.Source{Number: 7, Partition: 3}, Place: signins.Place{Offset: offset}}
}

func follows(offset, after int64) signins.Origin {
	o := from(offset)
	o.After, o.Follows = signins.Place{Offset: after}, true
	return o
}

// What is there already is left out, by who comes next too, which knows of it from what the offset was
// committed with.
func TestASignInThatIsSplitAgainIsLeftOut(t *testing.T) {
	for _, delivery := range deliveries {
		t.Run(delivery.name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				h := newHouse(t, b)
				another := from(20)
				another.Source.Number++
				for n, turn := range []struct {
					of      signins.Origin
					id      string
					leftOut float64
				}{
					{signins.Origin{}, "of nowhere", 0},
					{from(20), "of 20", 0},
					{follows(21, 20), "of 21", 0},
					{from(20), "of 20 again", 1},
					{follows(21, 20), "of 21 again", 1},
					{follows(22, 21), "of 22", 0},
					{follows(25, 24), "of 25, and 24 did not come", 0},
					{follows(26, 25), "of 26", 0},
					{from(22), "of 22 again", 1},
					{follows(24, 22), "of 24", 0},
					{follows(25, 24), "of 25 again, and nobody knows", 0},
					{from(25), "of 25 once more", 1},
					{another, "of another source", 0},
					{signins.Origin{}, "of nowhere, again", 0},
				} {
					s := h.start("one", t.TempDir(), delivery.option)
					h.produceFrom(turn.of, signIn(turn.id, ada, fmt.Sprintf("192.0.2.%d", n+1), fmt.Sprint(64496+n), 2*n))
					h.judged()
					if err := s.stop(); err != nil { // what the brokers have committed is counted by then
						t.Fatal(err)
					}
					if got, _ := s.count("prtwatch_signins_split_again_total"); got != turn.leftOut {
						t.Errorf("%s: %v were left out, want %v", turn.id, got, turn.leftOut)
					}
				}
				h.wantAlerts("of nowhere", "of 20", "of 21", "of 22", "of 25, and 24 did not come", "of 26", "of 24", "of 25 again, and nobody knows",
					"of another source", "of nowhere, again")
			})
		})
	}
}

// A splitter is killed before it commits, and a user has more alerts in what it had split than his profile
// remembers.
func TestAFloodThatIsSplitAgainAlertsOnce(t *testing.T) {
	for _, delivery := range deliveries {
		t.Run(delivery.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, brokertest.Fake(t))
			var flood []*detector.SignIn
			var ids []string
			for i := range 400 {
				ids = append(ids, fmt.Sprint("s", i))
				flood = append(flood, signIn(ids[i], ada, "203.0.113.9", "64511", 3))
			}
			one := h.start("one", t.TempDir(), delivery.option)
			h.produceFrom(from(4), flood...)
			h.judged()
			if err := one.stop(); err != nil {
				t.Fatal(err)
			}
			h.produceFrom(from(4), flood...)
			h.start("two", t.TempDir(), delivery.option)
			h.judged()
			h.wantAlerts(ids...)
		})
	}
}

// What was judged in a transaction that was aborted comes again, and is no copy.
func TestAnAbortedTransactionForgetsWhatItHeard(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	var refused atomic.Int32
	h.refuseCommits(func(int32, int64) bool { return refused.Add(1) == 1 })
	h.produceFrom(from(4), signIn("first", ada, "192.0.2.1", "64500", 0), signIn("second", ada, "192.0.2.2", "64501", 2))
	h.start("one", t.TempDir())
	h.judged()
	h.wantAlerts("first", "second")
}
