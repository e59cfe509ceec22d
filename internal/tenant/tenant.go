// Package tenant makes the non-interactive sign-ins of a made tenant: people with offices,
// homes, phones and habits, and now and then a thief with a stolen token. It owns how they
// behave (rates.go has every rate with its source) and what their records look like, as
// diagnostic settings and as Log Analytics export write them. It serves `prtwatch gen`,
// the demo, tests and benchmarks, and must never know the rule that judges what it makes.
//
// The same options give the same bytes. Names are under example.com, addresses from the
// ranges for documentation, benchmarks and carrier NAT, ASNs from those for documentation
// and private use (network.go): nothing can be mistaken for someone.
//
// Start at Tenant.Next.
package tenant

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Shape is which export wrote the records.
type Shape uint8

// The shapes that Azure exports (docs/semantics.md): diagnostic settings, Log Analytics export, and record by record
// either of them.
const (
	Diagnostic Shape = iota
	Table
	Mixed
)

// ParseShape reads a shape's name.
func ParseShape(text string) (Shape, error) {
	for s, name := range shapeNames {
		if text == name {
			return Shape(s), nil
		}
	}
	return 0, fmt.Errorf("shape %q: none of diagnostic, table, mixed", text)
}

var shapeNames = [...]string{"diagnostic", "table", "mixed"}

// String returns the name that ParseShape reads.
func (s Shape) String() string { return shapeNames[s] }

// Options say what tenant to make. The zero value of a field is its default.
type Options struct {
	Users int       // default 100
	Start time.Time // when the sign-ins begin; default 2026-11-02, a Monday
	Seed  uint64

	// Days of history are made at the tenant's own pace, from Start. Then it ends, unless
	// Rate is given: then sign-ins go on for ever at Rate a second from the end of the
	// history (which may be 0 days), each dated when it is due; pacing is the caller's.
	Days int
	Rate float64

	Shape      Shape
	PerUserDay float64 // median sign-ins of a user on a working day; default 80
	// Odd is the share of records with one of the odd cases of docs/semantics.md (odd.go), 0 to 1.
	Odd float64
	// Thefts for each 1,000 user-days; default 2, negative for none. Far more than the world
	// has, as a tenant of 100 would show its first after years.
	Thefts float64
}

// maxDays is a century, so that no time leaves what 64 bits of nanoseconds hold.
const maxDays = 36500

func (o *Options) settle() error {
	if o.Users == 0 {
		o.Users = 100
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	}
	if o.PerUserDay == 0 {
		o.PerUserDay = signInsPerUserDay
	}
	if o.Thefts == 0 {
		o.Thefts = theftsPer1000UserDays
	}
	o.Thefts = max(0, o.Thefts)
	o.Start = o.Start.UTC().Truncate(100 * time.Nanosecond)
	switch {
	case o.Users < 0:
		return fmt.Errorf("users %d: at least 1 is needed", o.Users)
	case o.Days < 0 || o.Days > maxDays:
		return fmt.Errorf("days %d: not within 0 to %d", o.Days, maxDays)
	case o.Rate < 0:
		return fmt.Errorf("rate %g: it cannot be negative", o.Rate)
	case o.PerUserDay < 0:
		return fmt.Errorf("sign-ins per user-day %g: it cannot be negative", o.PerUserDay)
	case o.Odd < 0 || o.Odd > 1:
		return fmt.Errorf("share of odd cases %g: not within 0 to 1", o.Odd)
	case o.Days == 0 && o.Rate == 0:
		return fmt.Errorf("days 0 and rate 0: one of them is needed, or there are no sign-ins")
	case int(o.Shape) >= len(shapeNames):
		return fmt.Errorf("shape %d: none of diagnostic, table, mixed", o.Shape)
	}
	return nil
}

// SignIn is one record with what is known about it.
type SignIn struct {
	ID      string
	User    int       // index of the person; an odd record may hide the UPN
	Time    time.Time // the envelope's: what the record is ordered by, and exported at
	Created time.Time // when the sign-in itself happened
	// Label says what is not plain about it (see the Label constants); "" is plain.
	Label string
	// Theft numbers the theft that it belongs to from 1 (Steal returns the number), and Step
	// counts from 1 within it; 0 where there is none.
	Theft, Step int
	// Record is the JSON record without any envelope. Its memory is the caller's.
	Record []byte
}

// What a sign-in can be labelled.
const (
	LabelMobile  = "mobile"   // a phone on its cellular network, whose addresses come and go
	LabelTravel  = "travel"   // from another country, for some days
	LabelVPN     = "vpn"      // through a consumer VPN, for a day
	LabelPlace   = "place"    // from a café, a customer, a train
	LabelISP     = "isp"      // from home, after a change of provider
	LabelEgress  = "egress"   // made by a cloud on the user's behalf
	LabelNewHire = "new_hire" // on a new user's first day
	LabelRepeat  = "repeat"   // delivered again, with another envelope time
	LabelTheft   = "theft"    // by a thief who holds the user's token
)

// Tenant makes sign-ins. It belongs to one goroutine. Its memory grows with the users and
// the pace, not with the days.
type Tenant struct {
	o     Options
	rng   *rand.Rand
	users []*user
	id    guid // of the tenant
	wsid  guid // of its Log Analytics workspace

	policies policies
	days     queue[*user]  // by the next sign-in of each: what happens
	due      queue[*event] // by envelope time: what was not exported yet
	seq      uint64
	end      int64 // of the history
	tick     int64 // how many sign-ins the present has made
	last     int64 // envelope time of the newest that Next returned
	thefts   int
	block    []byte // records are cut from it
}

// New returns the tenant of the options. An error names the option that is wrong.
func New(o Options) (*Tenant, error) {
	if err := o.settle(); err != nil {
		return nil, err
	}
	t := &Tenant{o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x74656e616e74))}
	t.id, t.wsid = t.guid(), t.guid()
	t.policies = newPolicies(t)
	start := o.Start.UnixNano()
	t.end = start + int64(o.Days)*day
	t.last = start
	for i := range o.Users {
		u := newUser(t, i)
		t.users = append(t.users, u)
		if o.Days > 0 && t.planUntil(u, start) {
			t.days.push(u.next(), uint64(i), u)
		}
	}
	if o.Days == 0 {
		// The same people, begun anew, sign in anew: under ids that nobody has seen.
		t.rng = rand.New(rand.NewPCG(mix(o.Seed, uint64(start)), 0x70726573656e74))
	}
	return t, nil
}

const (
	second = int64(time.Second)
	minute = int64(time.Minute)
	hour   = int64(time.Hour)
	day    = 24 * hour
)

// Next returns the next sign-in by envelope time, never an earlier one than the last. It
// reports false at the end of the history where there is no rate.
func (t *Tenant) Next() (SignIn, bool) {
	// What happens at a time is exported minLag later at the earliest, so what is due before
	// then can be given out: nothing that is made from here on comes before it.
	for {
		next, more := t.days.min()
		if more && next < t.end {
			if at, ok := t.due.min(); ok && at < min(next+minLag, t.end) {
				return t.give(t.due.pop()), true
			}
			t.happen(t.days.pop())
			continue
		}
		at, ok := t.due.min()
		if ok && at < t.end {
			return t.give(t.due.pop()), true
		}
		if t.o.Rate == 0 {
			return SignIn{}, false
		}
		now := t.end + int64(float64(t.tick)*1e9/t.o.Rate)/100*100
		if ok && at <= now {
			return t.give(t.due.pop()), true
		}
		t.tick++
		t.present(now)
	}
}

// happen makes the user's next sign-in of his day's plan, and plans his next day when that
// was the last.
func (t *Tenant) happen(u *user) {
	s := u.plan[0]
	u.plan = u.plan[1:]
	e := t.signIn(u, s.device, &apps[s.app], s.at)
	e.time = s.at + t.lag()
	t.export(e)
	if t.planUntil(u, s.at) {
		t.days.push(u.next(), uint64(u.index), u)
	}
}

// planUntil plans days of the user until there is a sign-in at or after from. A user without any
// within the history is done.
func (t *Tenant) planUntil(u *user, from int64) bool {
	for {
		for len(u.plan) > 0 && u.plan[0].at < from {
			u.plan = u.plan[1:]
		}
		if len(u.plan) > 0 {
			return true
		}
		if t.dayStart(u, u.day) >= t.end {
			return false
		}
		t.planDay(u)
	}
}

// present makes one sign-in that is exported at now.
func (t *Tenant) present(now int64) {
	u := t.users[t.rng.IntN(len(t.users))]
	created := now - t.lag()
	device := u.deviceAt(t, created)
	e := t.signIn(u, device, &apps[pickApp(t.rng, u.devices[device].kind)], created)
	e.time = now
	t.export(e)
	if t.rng.Float64() < t.o.Thefts/1000/t.o.PerUserDay {
		t.steal(t.drawTheft(t.rng, u, now))
	}
}

// lag draws how much later than the sign-in its record is exported.
func (t *Tenant) lag() int64 {
	l := int64(lagMedian * logNormal(t.rng, lagSigma))
	return min(max(l, minLag), maxLag) / 100 * 100
}

// export queues a sign-in that has its envelope time, and for some a repeat: the same
// record with another envelope time.
func (t *Tenant) export(e *event) {
	t.bend(e)
	t.queue(e)
	if t.rng.Float64() >= repeats {
		return
	}
	again := *e
	again.label = LabelRepeat
	again.time += (minute + t.rng.Int64N(17*minute)) / 100 * 100
	if e.odd.is(oddUSTime) {
		again.time = ceil(again.time, second)
	}
	t.queue(&again)
}

func (t *Tenant) queue(e *event) {
	t.seq++
	t.due.push(e.time, t.seq, e)
}

// give renders what is due.
func (t *Tenant) give(e *event) SignIn {
	const blockSize = 256 << 10
	if cap(t.block)-len(t.block) < maxRecord {
		t.block = make([]byte, 0, blockSize)
	}
	from := len(t.block)
	t.block = t.render(t.block, e)
	t.last = e.time
	return SignIn{
		ID: e.id.String(), User: e.user.index, Time: time.Unix(0, e.time).UTC(), Created: time.Unix(0, e.created).UTC(),
		Label: e.label, Theft: e.theft, Step: e.step, Record: t.block[from:len(t.block):len(t.block)],
	}
}

// ceil rounds up to a whole unit.
func ceil(at, unit int64) int64 { return (at + unit - 1) / unit * unit }
