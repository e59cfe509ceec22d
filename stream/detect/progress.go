package detect

import (
	"fmt"
	"slices"
	"time"
)

// progress is how far a restore has come, in offsets of the baseline partition: a few more than
// its records, and many more where it was compacted.
type progress struct {
	from, at, end int64
	began         time.Time // zero while nothing is read yet
	waits         string    // why it cannot begin, in words
}

func (p progress) done() int64      { return p.at - p.from }
func (p progress) remaining() int64 { return p.end - p.at }

// pace returns how many offsets a second the restore has passed by now, and how long the rest
// takes at that pace; zero where nothing has moved yet.
func (p progress) pace(now time.Time) (perSecond float64, left time.Duration) {
	took := now.Sub(p.began)
	if p.done() == 0 || took <= 0 {
		return 0, 0
	}
	perSecond = float64(p.done()) / took.Seconds()
	return perSecond, time.Duration(float64(p.remaining()) / perSecond * float64(time.Second))
}

// restores are restores that go on at the same time.
type restores []progress

// sum is the progress of all. Their paces add up; some may wait for others to end.
func (rs restores) sum(now time.Time) (done, all int64, perSecond float64, left time.Duration) {
	for _, p := range rs {
		pace, _ := p.pace(now)
		done += p.done()
		all += p.end - p.from
		perSecond += pace
	}
	if perSecond > 0 {
		left = time.Duration(float64(all-done) / perSecond * float64(time.Second))
	}
	return done, all, perSecond, left
}

// say is the progress of all in words. Those that are over count among what is done; of those that
// cannot begin one is named.
func (rs restores) say(now time.Time, over restores) string {
	done, all, perSecond, left := rs.sum(now)
	doneBefore, allBefore, _, _ := over.sum(now)
	done, all = done+doneBefore, all+allBefore
	said := fmt.Sprintf("restoring %d partitions, %d of %d records read", len(rs), done, all)
	if perSecond > 0 {
		said += fmt.Sprintf(", %.0f a second, about %s left", perSecond, roundUp(left))
	}
	var waits []string
	for _, p := range rs {
		if p.waits != "" {
			waits = append(waits, p.waits)
		}
	}
	if len(waits) > 0 {
		said += "; " + slices.Min(waits)
	}
	if len(waits) > 1 {
		said += fmt.Sprintf("; so do %d others", len(waits)-1)
	}
	return said
}

// roundUp returns d in whole seconds.
func roundUp(d time.Duration) time.Duration { return (d + time.Second - 1).Truncate(time.Second) }
