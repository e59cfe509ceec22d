package tenant

import "math/rand/v2"

// event is a sign-in before it is rendered. Everything that its record shows is in it, so
// that a repeat shows the same.
type event struct {
	time, created int64 // ns since 1970, whole units of 100
	user          *user
	device        *device
	app           *app
	network       network
	agent         string
	failure       *failure // nil is success
	id            guid
	correlation   guid
	session       guid
	millis        int
	claim         bool // the authentication details say that a claim in the token satisfied MFA
	table         bool
	odd           odd
	label         string
	theft, step   int
}

// failure is a result other than 0.
type failure struct{ code, text string }

var failureKinds = []failure{
	{"50158", "External security challenge was not satisfied."},
	{"50097", "Device authentication is required."},
	{"70043", "The refresh token has expired or is invalid due to sign-in frequency checks by conditional access."},
	{"700082", "The refresh token has expired due to inactivity."},
	{"50173", "The provided grant has expired due to it being revoked, a fresh auth token is needed."},
	{"53003", "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance."},
}

// signIn makes a user's own sign-in at a time.
func (t *Tenant) signIn(u *user, d uint8, a *app, at int64) *event {
	dev := &u.devices[d]
	e := t.newEvent(u, dev, a, at)
	e.network, e.label = t.where(u, dev, at)
	e.agent = dev.agent
	e.session = sessionOf(u, dev, at)
	if t.rng.Float64() < u.failures {
		e.failure = &failureKinds[t.rng.IntN(len(failureKinds))]
	}
	if u.newHire(at) {
		e.label = LabelNewHire
	}
	return e
}

// newEvent draws what each sign-in has of its own.
func (t *Tenant) newEvent(u *user, d *device, a *app, at int64) *event {
	return &event{
		created: at, user: u, device: d, app: a,
		id: t.guid(), correlation: t.guid(),
		millis: 40 + t.rng.IntN(160),
		claim:  t.rng.Float64() < previouslySatisfied,
		table:  t.o.Shape == Table || t.o.Shape == Mixed && t.rng.IntN(2) == 0,
	}
}

// sessionOf is the session of a device, a week long.
func sessionOf(u *user, d *device, at int64) guid {
	return randomGUID(rand.New(rand.NewPCG(mix(u.seed, uint64(d.kind)), uint64(at/(7*day)))))
}
