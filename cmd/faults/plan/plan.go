// Package plan says which fault is injected when: a function of a seed and of nothing else. It
// owns the list of faults with what each is and how often it comes. It must not know a process,
// a broker or a clock: what a step means where is the business of package round.
//
// Start at Plan.Next.
package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Fault is one kind of fault.
type Fault struct {
	Name   string
	About  string // one line, for who reads the list
	weight int    // how often it comes, relative to the others
}

// The names of the faults.
const (
	Kill        = "kill"
	Crash       = "crash"
	Freeze      = "freeze"
	Nap         = "nap"
	Stop        = "stop"
	Join        = "join"
	Point       = "point"
	Hang        = "hang"
	BrokerKill  = "broker-kill"
	BrokerStop  = "broker-stop"
	BrokerPause = "broker-pause"
	Coordinator = "coordinator"
	Leaders     = "leaders"
	Cut         = "cut"
	Reset       = "reset"
	Slow        = "slow"
	Throttle    = "throttle"
	HalfOpen    = "half-open"
	Outage      = "outage"
	Deleted     = "state-deleted"
	Older       = "state-older"
	Truncated   = "state-truncated"
	Flipped     = "state-flipped"
	Swapped     = "state-swapped"
	Compacted   = "compacted"
	Full        = "disk-full"
)

// Faults are all there are.
var Faults = []Fault{
	{Kill, "kill -9 of an instance, which is started again at once", 10},
	{Crash, "kill -9 of an instance, which comes back after its session is over", 4},
	{Freeze, "an instance is stopped (SIGSTOP) beyond session and transaction timeout and wakes up as a zombie", 4},
	{Nap, "an instance is stopped (SIGSTOP) for one to three seconds", 6},
	{Stop, "SIGTERM to an instance: exit code 0 within ten seconds; then it is started again", 8},
	{Join, "one more instance joins, or the one that did leaves", 7},
	{Point, "an instance kills itself between two steps of a commit", 14},
	{Hang, "an instance stops (SIGSTOP) between two steps of a commit until its transaction has timed out, and goes on there", 5},
	{BrokerKill, "kill -9 of one of the three brokers, which comes back after up to 15 seconds", 4},
	{BrokerStop, "one of the three brokers is stopped in good order and comes back after up to 15 seconds", 2},
	{BrokerPause, "one of the three brokers is stopped (SIGSTOP) for two to twelve seconds", 3},
	{Coordinator, "the broker that coordinates a group or the transactions of a member is killed", 3},
	{Leaders, "leaders and coordinators move to other brokers, which all stay up", 5},
	{Cut, "an instance reaches no broker for up to 15 seconds: connections are closed and refused", 4},
	{Reset, "all connections of an instance are reset", 6},
	{Slow, "each answer to an instance takes up to half a second for up to 15 seconds", 3},
	{Throttle, "an instance has 20 to 200 KB a second for up to 15 seconds", 3},
	{HalfOpen, "the connections of an instance stay open and carry nothing for up to 15 seconds", 4},
	{Outage, "all instances are killed; hours of sign-ins wait when they come back", 2},
	{Deleted, "an instance is killed and its state folder is deleted", 3},
	{Older, "an instance is killed and its state folder is put back as it was some time ago", 4},
	{Truncated, "an instance is killed and a file of its state is cut off", 3},
	{Flipped, "an instance is killed and a bit in a table of its state is flipped", 3},
	{Swapped, "two instances are killed and their state folders are swapped, not their names", 3},
	{Compacted, "an instance is killed and comes back, with an old state, when deletions of that time are gone from the baseline topic", 4},
	{Full, "the disk of an instance is full: it ends with code 1, and comes back when there is room", 3},
}

// Find returns the faults of the names, all where there are none. The error names what is none.
func Find(names []string) ([]Fault, error) {
	if len(names) == 0 {
		return Faults, nil
	}
	var found []Fault
	for _, name := range names {
		i := slices.IndexFunc(Faults, func(f Fault) bool { return f.Name == name })
		if i < 0 {
			var all []string
			for _, f := range Faults {
				all = append(all, f.Name)
			}
			return nil, fmt.Errorf("%s: is no fault; give one of %s", name, strings.Join(all, ", "))
		}
		found = append(found, Faults[i])
	}
	return found, nil
}

// Pace is how long it is from one fault to the next, on average, where nothing else is asked for.
const Pace = 5500 * time.Millisecond

// Step is one fault to inject.
type Step struct {
	After time.Duration // since the step before
	// Faults are names in the order of preference: the first that can be injected as things are
	// is. (A second broker cannot be killed while one is down.)
	Faults []string
	// Random decides all else: the target, how long, which bit.
	Random *rand.Rand
}

// Plan is the steps of one round. It belongs to one goroutine.
type Plan struct {
	faults []Fault
	pace   time.Duration
	random *rand.Rand
}

// Random returns the chance of one part of a round, which depends on the seed, the round and the
// part alone.
func Random(seed uint64, round int, part string) *rand.Rand {
	h := uint64(14695981039346656037) // FNV-1a
	for _, b := range []byte(part) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed^h, uint64(round)))
}

// New returns the plan of a round with some of the faults, one each pace on average.
func New(seed uint64, round int, pace time.Duration, faults []Fault) *Plan {
	return &Plan{faults: faults, pace: pace, random: Random(seed, round, "plan")}
}

// Next returns the next step; there is always one.
func (p *Plan) Next() Step {
	step := Step{After: Between(p.random, p.pace/2, p.pace*3/2)}
	left := slices.Clone(p.faults)
	for len(left) > 0 {
		i := p.draw(left)
		step.Faults = append(step.Faults, left[i].Name)
		left = slices.Delete(left, i, i+1)
	}
	step.Random = rand.New(rand.NewPCG(p.random.Uint64(), p.random.Uint64()))
	return step
}

// draw chooses one by weight.
func (p *Plan) draw(faults []Fault) int {
	sum := 0
	for _, f := range faults {
		sum += f.weight
	}
	n := p.random.IntN(sum)
	for i, f := range faults {
		if n -= f.weight; n < 0 {
			return i
		}
	}
	return len(faults) - 1
}

// Between draws a duration of [least, most).
func Between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}
