package state

import (
	"math"
	"slices"
)

// maxAlerts is how many alert ids a profile remembers (DESIGN, "The way of an event").
const maxAlerts = 256

// Profile is what is known of one user: for each address and each ASN of his the hours in
// which it was seen, and the ids of the alerts that he caused lately. It satisfies
// detector.History, whose hours it shares: a count of hours since the Unix epoch.
//
// Kept are the user's newest hour and the window+lateness hours before it. What is older
// goes when the newest hour advances, and at no other time, so what a profile answers
// depends on what it was told alone: never on when it was written, evicted from a cache
// or read back. Below the bounds the order in which hours are seen does not matter.
//
// Above them the network that was seen longest ago goes first. A late sign-in from a new
// network can be that one itself; then it is not kept. So a flood of late sign-ins pushes
// nothing newer out, and no flood makes a profile grow. What went is counted by hour.
type Profile struct {
	limits *limits
	newest int32 // of all networks; means nothing while there are none
	ips    networks
	asns   networks
	// alerts are in the order in which they were raised: repeats of a sign-in follow it
	// closely, so the one raised longest ago is the least likely to be repeated.
	alerts  []alert
	evicted []evicted // by rising hour

	// horizon is the hour before which what is asked comes later than the state is kept complete
	// for, by the partition's event time; noHorizon where that is not known. It is not encoded.
	horizon int32

	encoded int // bytes that the encoding had when it was last made or read

	offset int64 // that the encoding carries; 0 is none
	carry  int64 // what offset becomes when the profile has changed

	changed   bool   // since the last Commit
	evictions uint64 // since the last Commit
}

type alert struct {
	id   [16]byte
	hour int32
}

// evicted counts the networks that were given up and last seen in hour.
type evicted struct {
	hour  int32
	count uint32
}

const noHorizon = math.MinInt32

func newProfile(l *limits) *Profile {
	return &Profile{limits: l, horizon: noHorizon, ips: newNetworks(l.span()), asns: newNetworks(l.span())}
}

// seen reports whether there is any network, and so a newest hour.
func (p *Profile) seen() bool { return p.ips.len() > 0 || p.asns.len() > 0 }

// empty reports whether the profile says no more than that of a user who never came.
func (p *Profile) empty() bool { return !p.seen() && len(p.alerts) == 0 }

// floor is the earliest hour that is kept.
func (p *Profile) floor() int64 { return int64(p.newest) - int64(p.limits.span()) }

// expired reports whether the user was seen once, and in no hour that is kept before now.
func (p *Profile) expired(now int32) bool {
	return p.seen() && p.limits.expired(int64(p.newest), now)
}

// KnownIP reports whether the address was seen in an hour of [from, to].
func (p *Profile) KnownIP(ip string, from, to int32) bool { return p.known(&p.ips, ip, from, to) }

// KnownASN reports whether the ASN was seen in an hour of [from, to].
func (p *Profile) KnownASN(asn string, from, to int32) bool { return p.known(&p.asns, asn, from, to) }

func (p *Profile) known(n *networks, text string, from, to int32) bool {
	var key [maxKey]byte
	i, ok := n.find(appendKey(key[:0], text))
	if !ok {
		return false
	}
	_, _, ok = n.within(i, max(int64(from), p.floor()), int64(to))
	return ok
}

// See records that the user came from address ip in network asn in hour. An hour that is
// older than what is kept teaches nothing.
func (p *Profile) See(ip, asn string, hour int32) {
	switch {
	case !p.seen() || hour > p.newest:
		p.advance(hour)
	case int64(hour) < p.floor():
		return
	}
	p.see(&p.ips, p.limits.maxIPs, ip, hour)
	p.see(&p.asns, p.limits.maxASNs, asn, hour)
}

// advance makes hour the newest and lets go of what is now too old.
func (p *Profile) advance(hour int32) {
	p.newest, p.changed = hour, true
	floor := p.floor()
	p.ips.prune(floor)
	p.asns.prune(floor)
	p.alerts = slices.DeleteFunc(p.alerts, func(a alert) bool { return int64(a.hour) < floor })
	p.evicted = slices.DeleteFunc(p.evicted, func(e evicted) bool { return int64(e.hour) < floor })
}

func (p *Profile) see(n *networks, most int, text string, hour int32) {
	var scratch [maxKey]byte
	key := appendKey(scratch[:0], text)
	i, ok := n.find(key)
	if ok {
		p.changed = n.set(i, hour) || p.changed
		return
	}
	n.insert(i, key, hour)
	p.changed = true
	for n.len() > most {
		oldest := n.longestUnseen()
		p.count(n.newest[oldest])
		n.remove(oldest)
	}
}

// count records that a network was given up.
func (p *Profile) count(hour int32) {
	p.evictions++
	i, ok := slices.BinarySearchFunc(p.evicted, hour, func(e evicted, h int32) int { return int(int64(e.hour) - int64(h)) })
	if !ok {
		p.evicted = slices.Insert(p.evicted, i, evicted{hour: hour})
	}
	if e := &p.evicted[i]; e.count+1 != 0 {
		e.count++
	}
}

// Late reports whether hour lies more than the lateness behind the user's newest hour: the
// window before it is then no longer kept whole. Of a user of whom nothing is known it is
// the partition's event time that counts: he may have been swept.
func (p *Profile) Late(hour int32) bool {
	if !p.seen() {
		return hour < p.horizon
	}
	return int64(hour) < int64(p.newest)-int64(p.limits.lateness)
}

// Alerted reports whether the alert id is remembered.
func (p *Profile) Alerted(id [16]byte) bool {
	return slices.ContainsFunc(p.alerts, func(a alert) bool { return a.id == id })
}

// Remember keeps the id of an alert that was raised for a sign-in of hour: the 256 that
// were raised last, while their hour is one that is kept.
func (p *Profile) Remember(id [16]byte, hour int32) {
	if p.seen() && int64(hour) < p.floor() || p.Alerted(id) {
		return
	}
	if len(p.alerts) == maxAlerts {
		p.alerts = slices.Delete(p.alerts, 0, 1)
	}
	p.alerts = append(p.alerts, alert{id, hour})
	p.changed = true
}

// Counts returns how many addresses and ASNs were seen within [from, to], and the first
// and last of those hours (0 where there are none).
func (p *Profile) Counts(from, to int32) (ips, asns int, first, last int32) {
	low, high := max(int64(from), p.floor()), int64(to)
	for _, n := range []struct {
		of    *networks
		count *int
	}{{&p.ips, &ips}, {&p.asns, &asns}} {
		for i := range n.of.newest {
			f, l, ok := n.of.within(i, low, high)
			if !ok {
				continue
			}
			*n.count++
			if ips+asns == 1 {
				first, last = int32(f), int32(l)
			}
			first, last = min(first, int32(f)), max(last, int32(l))
		}
	}
	return ips, asns, first, last
}

// Evicted returns how many networks were given up to keep within the bounds and were last
// seen late enough to be in the window that ends at hour, or after it. One that came back
// and was given up again counts again.
func (p *Profile) Evicted(hour int32) int {
	n := 0
	for _, e := range p.evicted {
		if int64(e.hour) >= int64(hour)-int64(p.limits.window) {
			n += int(e.count)
		}
	}
	return n
}

// Carry says at which offset of its log the profile is, should it change: all that was before
// it is in the profile, and nothing else. The encoding carries that offset, so that of two
// profiles of a user it can be told which knows more. A profile that changes without it
// carries none.
func (p *Profile) Carry(offset int64) { p.carry = offset }

// Offset returns the offset that the profile carries, 0 where it carries none.
func (p *Profile) Offset() int64 { return p.offset }

// size estimates the memory of the profile in bytes.
func (p *Profile) size() int {
	const fixed = 384 // the struct itself
	return fixed + p.ips.size() + p.asns.size() + cap(p.alerts)*20 + cap(p.evicted)*8
}
