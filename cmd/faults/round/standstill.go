package round

import (
	"fmt"
	"strings"
	"time"
)

// Still is for how long a partition stood still though there was something to do with it, whatever
// became of the others: one of the input in the splitting group, where a partition also waits for
// hours of others that are before its own, and one of the sign-ins in the detecting group.
type Still struct{ Splitting, Detecting Standstill }

// Most is the longer of each.
func (s Still) Most(t Still) Still {
	return Still{s.Splitting.longer(t.Splitting), s.Detecting.longer(t.Detecting)}
}

// Standstill is the time in which nothing was committed of a partition that had more.
type Standstill struct {
	Partition int32
	From      time.Time
	For       time.Duration
	Amid      []string // the faults of that time, and of a little before: when each began or was done
}

func (s Standstill) longer(t Standstill) Standstill {
	if t.For > s.For {
		return t
	}
	return s
}

// String says which partition it was and what happened meanwhile, in seconds since the standstill began.
func (s Standstill) String() string {
	return fmt.Sprintf("partition %d, %.1f s from %s: %s", s.Partition, s.For.Seconds(), s.From.UTC().Format("15:04:05"), strings.Join(s.Amid, "; "))
}

// stillness measures for how long a partition stands still while there is something to do with
// it. That others move meanwhile does not count.
type stillness struct {
	at    standing
	moved map[int32]time.Time // or had nothing to do, as far as is known
}

// see takes in where a group is now, and returns how the partition that has moved least stands still.
func (w *stillness) see(now time.Time, at standing) (longest Standstill) {
	if w.moved == nil {
		w.moved = make(map[int32]time.Time)
	}
	for p, is := range at {
		was, known := w.at[p]
		if !known || is.committed != was.committed || is.committed >= is.end {
			w.moved[p] = now
		}
		longest = longest.longer(Standstill{Partition: p, From: w.moved[p], For: now.Sub(w.moved[p])})
	}
	w.at = at
	return longest
}

const (
	// stillAfter is for how long a partition may stand still while one fault follows the other. The
	// longest that one takes by itself are 20 s of a process that is stopped with the partition in hand, and
	// 25 s of a broker that is away and the election after it. In hours of faults two or three such together
	// came to 39 s; what waits for something that does not come passes this.
	stillAfter = time.Minute
	// leadUp is how long before a standstill its cause may have been: what was in hand then goes on to be committed.
	leadUp = 10 * time.Second
)

// boundStandstill says what happened while a partition of the detecting group stood still for longest, and
// that it was too long where it was. (One of the splitting group also waits for others in the order of hours.)
func (s *scene) boundStandstill() {
	s.update(func(r *Result) { r.Still.Detecting.Amid = amid(s.mu.events, r.Still.Detecting) })
	if still := s.mu.result.Still.Detecting; still.For > stillAfter {
		s.find("still", "%s", still)
	}
}

// amid are the faults of the journal that began or were done in a standstill, and shortly before it.
func amid(journal []entry, s Standstill) (faults []string) {
	for _, e := range journal {
		if since := e.Time.Sub(s.From); since > -leadUp && since < s.For {
			faults = append(faults, strings.TrimSpace(fmt.Sprintf("%+.1f %s %s %s %s", since.Seconds(), e.What, e.Name, e.Target, e.Detail)))
		}
	}
	return faults
}
