package split

import (
	"slices"
	"time"
)

// reach is how far splitting has come in the sign-ins' own time, in the hours that they are
// judged at, and keeps it from running far ahead of what is committed.
//
// What a process that is killed had not committed is split again, after the detecting stage
// has seen all that went out: a sign-in comes again behind its user's newest hour by as much
// as the reach has grown since it was split first. State judges exactly what is up to
// state.lateness behind; catching up would go through more than that between two commits.
//
// It is the sign-ins' time, for the records of a topic that was loaded at once, or is stamped
// on append, all have the same. And it is the second newest of what came lately: one message
// of an absurd date, early or late, moves nothing, and old sign-ins between new ones do not
// either. So where the input was silent for days, one message goes out ahead.
type reach struct {
	span   int32 // hours: how much it may grow beyond what is committed
	recent [256]int32
	n      int    // messages in all
	steps  []step // the flights that are not known to be committed
}

// step is flights that went out at one reach, the last of which is flight.
type step struct {
	hour   int32
	flight uint64
}

func newReach(span time.Duration) reach {
	return reach{span: int32(max(span, time.Hour) / time.Hour)}
}

// pass takes note of a message's hour and returns the reach with it.
func (r *reach) pass(hour int32) int32 {
	r.recent[r.n%len(r.recent)] = hour
	r.n++
	return r.at()
}

// at returns the reach: the second newest of the hours that came lately.
func (r *reach) at() int32 {
	newest, second := r.recent[0], r.recent[0]
	for i, h := range r.recent[:min(r.n, len(r.recent))] {
		switch {
		case i == 0 || h > newest:
			newest, second = h, newest
		case i == 1 || h > second:
			second = h
		}
	}
	return second
}

// beyond is how many hours lie between what is committed and a reach; 0 where all is.
func (r *reach) beyond(hour int32) int32 {
	if len(r.steps) == 0 {
		return 0
	}
	return hour - r.steps[0].hour
}

// goesOut notes that a flight goes out at a reach.
func (r *reach) goesOut(flight uint64, hour int32) {
	if n := len(r.steps); n > 0 && r.steps[n-1].hour == hour {
		r.steps[n-1].flight = flight
		return
	}
	r.steps = append(r.steps, step{hour: hour, flight: flight})
}

// committed notes that all flights up to one are.
func (r *reach) committed(flight uint64) {
	r.steps = slices.DeleteFunc(r.steps, func(s step) bool { return s.flight <= flight })
}

// nearer reports whether a commit of all flights up to one would bring what is committed nearer.
func (r *reach) nearer(flight uint64) bool {
	return len(r.steps) > 0 && r.steps[0].flight <= flight
}
