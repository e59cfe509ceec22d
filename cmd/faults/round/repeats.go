package round

import (
	"math"
	"time"

	"github.com/prtwatch/prtwatch/cmd/faults/plan"
)

// With at-least-once an alert may come again when what took its sign-in in was undone between the
// alert and the profile that remembers it. What one member has in hand then is what it takes at
// once: that, and how soon it is done again, bound what may come again.

const (
	// members are those of an instance, each with a work of its own in hand.
	members = 2
	// workRecords are the most sign-ins that a member has in hand, stream/detect's usualPace.
	workRecords = 5000
	// uneven is how much denser than on average alerts may be among the sign-ins of one work.
	uneven = 2
	// againAfter is how much later than the longest standstill an alert may come again: a process
	// that is frozen between two steps, for 20 s at most, writes what it had in hand when it wakes up
	// (plan.Freeze), and then a busy machine may need as long.
	againAfter = 40 * time.Second
)

// undone is how many instances may have what they had in hand undone by a fault. An end in good
// order leaves nothing. What brokers or network make fail is tried again, and may fail once more
// before they are well.
var undone = map[string]int{
	plan.Stop: 0, plan.Join: 0,
	plan.Kill: 1, plan.Crash: 1, plan.Freeze: 1, plan.Nap: 1, plan.Hang: 1,
	plan.Deleted: 1, plan.Older: 1, plan.Truncated: 1, plan.Flipped: 1, plan.Compacted: 1, plan.Full: 1,
	plan.Point:   2, // when it is armed, and when it is met
	plan.Swapped: 2,
	plan.Outage:  Slots,
	plan.Cut:     2, plan.Reset: 2, plan.Slow: 2, plan.Throttle: 2, plan.HalfOpen: 2,
	plan.BrokerKill: 2 * Slots, plan.BrokerStop: 2 * Slots, plan.BrokerPause: 2 * Slots, plan.Coordinator: 2 * Slots, plan.Leaders: 2 * Slots,
}

// mayRepeat is how many alerts may have come again in a round with so many sign-ins and rows.
func (r *Result) mayRepeat(signIns, rows float64) int {
	if r.Delivery != atLeastOnce || signIns == 0 {
		return 0
	}
	instances := r.Damaged // each end that met a damaged table
	for name, n := range r.Begun {
		instances += n * undone[name]
	}
	return instances * members * int(math.Ceil(min(rows, uneven*workRecords*rows/signIns)))
}

// Repeated is how many alerts came again.
func (r *Result) Repeated() int {
	if r.Verdict == nil {
		return 0
	}
	return int(r.Verdict.Numbers()["repeated"])
}

const atLeastOnce = "at-least-once"
