package top

import (
	"math"
	"net/url"
	"time"
)

// over is for how long alerts, their ages and the cache are looked back at: within two seconds there is seldom an alert.
const over = time.Minute

// instance is one of them, and what it has said in the last minute.
type instance struct {
	url, name string
	readings  []*reading // of one process, the oldest first
	err       error      // of the last try
	silent    time.Time  // since when there are only errors
}

func newInstance(base string) *instance {
	in := &instance{url: base, name: base}
	if u, err := url.Parse(base); err == nil {
		in.name = u.Host + u.Path
	}
	return in
}

// note takes in what came of asking it.
func (in *instance) note(r *reading, err error, now time.Time) {
	if in.err = err; err != nil {
		if in.silent.IsZero() {
			in.silent = now
		}
		return
	}
	in.silent = time.Time{}
	if last := in.latest(); last != nil && last.restarted(r) {
		in.readings = nil
	}
	in.readings = append(in.readings, r)
	for len(in.readings) > 2 && r.at.Sub(in.readings[0].at) > over {
		in.readings = in.readings[1:]
	}
}

// latest is what it said last, nil for nothing.
func (in *instance) latest() *reading {
	if len(in.readings) == 0 {
		return nil
	}
	return in.readings[len(in.readings)-1]
}

// restarted reports whether another process said what came next: its counters begin anew.
func (r *reading) restarted(next *reading) bool {
	return !r.started.Equal(next.started) || next.judged < r.judged || next.alerts < r.alerts
}

// figures are what is made of readings. What cannot be said is NaN.
type figures struct {
	perSecond, perMinute float64 // sign-ins, alerts
	p50, p99             quantile
	hitRate              float64
	restored             float64 // the part of what is restored that is done
}

// figures compares the last reading with the one before, and with the first of the last minute.
func (in *instance) figures() figures {
	nan := math.NaN()
	f := figures{nan, nan, quantile{value: nan}, quantile{value: nan}, nan, nan}
	now := in.latest()
	if now == nil {
		return f
	}
	if all := plus(now.restored, now.toRestore); all > 0 {
		f.restored = now.restored / all
	}
	if len(in.readings) < 2 {
		return f
	}
	before, first := in.readings[len(in.readings)-2], in.readings[0]
	f.perSecond = (now.judged - before.judged) / now.at.Sub(before.at).Seconds()
	f.perMinute = (now.alerts - first.alerts) / now.at.Sub(first.at).Minutes()
	hits, misses := now.hits-first.hits, now.misses-first.misses
	if hits+misses > 0 {
		f.hitRate = hits / (hits + misses)
	}
	since := between(first.ages, now.ages)
	f.p50, f.p99 = quantileOf(.5, since), quantileOf(.99, since)
	return f
}

// between is what was observed after a reading.
func between(before, now []bucket) []bucket {
	since := make([]bucket, len(now))
	for i, b := range now {
		since[i] = b
		if i < len(before) {
			since[i].count -= before[i].count
		}
	}
	return since
}

// quantile is a value that a share of observations is not above, NaN where there are none.
type quantile struct {
	value float64
	above bool // it is more: it lies behind the last bound
}

// quantileOf is Prometheus's histogram_quantile: within a bucket observations are taken to be even.
func quantileOf(q float64, buckets []bucket) quantile {
	n := len(buckets)
	if n == 0 || buckets[n-1].count <= 0 {
		return quantile{value: math.NaN()}
	}
	want := q * buckets[n-1].count
	lower := bucket{}
	for _, b := range buckets {
		switch {
		case b.count < want:
			lower = b
			continue
		case math.IsInf(b.bound, 1):
			return quantile{lower.bound, true}
		case b.count == lower.count:
			return quantile{value: b.bound}
		}
		return quantile{value: lower.bound + (b.bound-lower.bound)*(want-lower.count)/(b.count-lower.count)}
	}
	return quantile{value: math.NaN()}
}
