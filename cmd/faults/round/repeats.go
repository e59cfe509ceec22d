package round

import (
	"math"
	"time"

	"github.com/prtwatch/prtwatch/cmd/faults/plan"
)

// With at-least-once an alert may come again when what took its sign-in in was undone between the
// alert and the profile that remembers it. What the members have in hand when a fault comes is not
// more than one takes at once, and not more than was not committed then. That bounds how many may
// come again, and how soon it is done again bounds when.

const (
	// members are those of an instance, each with a work of its own in hand.
	members = 2
	// workRecords are the most sign-ins that a member has in hand, stream/detect's usualPace.
	workRecords = 5000
	// Alerts come unevenly: among the sign-ins in hand there may be so many times what is usual, and,
	// for a theft is some alerts within minutes, so many more.
	uneven, theft = 2, 4
	// againAfter is how much later than the longest standstill an alert may come again: a process
	// that is frozen between two steps, for 20 s at most, writes what it had in hand when it wakes up
	// (plan.Freeze), and then a busy machine may need as long.
	againAfter = 40 * time.Second
)

// undone is of how many instances a fault may undo what is in hand, and how often. An end in good
// order leaves nothing. What brokers or network make fail is tried again, and may fail once more
// before they are well.
var undone = map[string]struct{ instances, times int }{
	plan.Stop: {}, plan.Join: {},
	plan.Kill: {1, 1}, plan.Crash: {1, 1}, plan.Freeze: {1, 1}, plan.Nap: {1, 1}, plan.Hang: {1, 1}, plan.Point: {1, 1},
	plan.Deleted: {1, 1}, plan.Older: {1, 1}, plan.Truncated: {1, 1}, plan.Flipped: {1, 1}, plan.Compacted: {1, 1}, plan.Full: {1, 1},
	plan.Swapped: {2, 1}, plan.Outage: {Slots, 1},
	plan.Cut: {1, 2}, plan.Reset: {1, 2}, plan.Slow: {1, 2}, plan.Throttle: {1, 2}, plan.HalfOpen: {1, 2},
	plan.BrokerKill: {Slots, 2}, plan.BrokerStop: {Slots, 2}, plan.BrokerPause: {Slots, 2}, plan.Coordinator: {Slots, 2}, plan.Leaders: {Slots, 2},
}

// spell is a time in which a fault may undo what is in hand.
type spell struct {
	fault    string
	from, to time.Time
}

// inHand is how many sign-ins the detecting group may have had in hand at any time until then, from
// the one before on.
type inHand struct {
	until   time.Time
	signIns int64
}

// mayRepeat is how many alerts may have come again in a round with so many sign-ins, of which so
// many are rows.
func mayRepeat(spells []spell, hands []inHand, signIns, rows float64) (alerts int) {
	for _, s := range spells {
		of := undone[s.fault]
		most, seen := 0.0, false
		for n, h := range hands {
			if !h.until.Before(s.from) && (n == 0 || !hands[n-1].until.After(s.to)) {
				most = max(most, float64(h.signIns))
			}
			seen = seen || !h.until.Before(s.to)
		}
		if !seen {
			most = signIns
		}
		most = min(most, float64(of.instances*members*workRecords))
		alerts += of.times * int(min(rows, theft+math.Ceil(uneven*most*rows/max(1, signIns))))
	}
	return alerts
}

// inHandNow returns how many sign-ins a group may have had in hand between the standing that was
// seen before and the one that is seen now, whatever it committed in between.
func (w *stillness) inHandNow(at standing) (signIns int64) {
	for p, is := range at {
		signIns += max(0, is.end-w.at[p].committed)
	}
	return signIns
}

// undid notes that what is in hand may have been undone by a fault since some time.
func (s *scene) undid(fault string, since time.Time) {
	if undone[fault].instances == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.spells = append(s.mu.spells, spell{fault, since, time.Now()})
}

// boundRepeats says whether more came again than may have, of a verdict.
func (s *scene) boundRepeats(n map[string]float64) {
	most := 0
	s.update(func(r *Result) {
		most = mayRepeat(s.mu.spells, s.mu.hands, n["sign_ins"], n["rows"])
		r.MayRepeat = most
	})
	if again := int(n["repeated"]); again > most {
		s.find("repeat", "%d alerts came again, and after these faults not more than %d may have: %v", again, most, s.mu.result.Begun)
	}
}

// Repeated is how many alerts came again.
func (r *Result) Repeated() int {
	if r.Verdict == nil {
		return 0
	}
	return int(r.Verdict.Numbers()["repeated"])
}

const atLeastOnce = "at-least-once"
