package tenant

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Theft is the story of one stolen token: whose, from where it is used, and how.
type Theft struct {
	User  int    // index of the victim
	UPN   string // his name, for the teller; Steal does not read it
	Start time.Time
	IP    netip.Addr // of 198.51.100.0/24 or another made range
	ASN   uint32
	Agent string // user agent; empty is the victim's own
	Steps []Step
}

// Step is one use of the token.
type Step struct {
	After    time.Duration // since Start; the envelope's time of its record
	App      string        // client application
	Resource string        // a pair with App that ThiefApps lists
	Failed   bool
	IP       netip.Addr // where it differs from the theft's
	What     string     // what the thief does, for the teller
}

// ThiefApps lists the client applications and resources that a Step can name.
func ThiefApps() (pairs [][2]string) {
	for _, a := range apps {
		pairs = append(pairs, [2]string{a.name, a.resource})
	}
	return pairs
}

// UPN returns the user principal name of a person, in lower case.
func (t *Tenant) UPN(user int) string { return t.users[user].upn }

// Name returns the display name of a person.
func (t *Tenant) Name(user int) string { return t.users[user].name }

// Users returns how many people there are; their indexes go from 0.
func (t *Tenant) Users() int { return len(t.users) }

// Plan writes a story to tell: the user's token is stolen at start and used every pace,
// from a hosting provider: first where the query does not look, then at Graph and at
// Intune. It takes place once it was given to Steal.
func (t *Tenant) Plan(user int, start time.Time, pace time.Duration) Theft {
	u := t.users[user]
	ip, asn := hosting(uint32(mix(u.seed, uint64(start.UnixNano())) % hostingAddresses))
	step := func(n int, a int, what string) Step {
		return Step{After: time.Duration(n) * pace, App: apps[a].name, Resource: apps[a].resource, What: what}
	}
	return Theft{
		User: user, UPN: u.upn, Start: start, Agent: "axios/1.7.9",
		IP: ip, ASN: asn,
		Steps: []Step{
			step(0, officeHome, "redeems the stolen refresh token for the Office home page, a resource that the query does not look at"),
			step(1, graphOffice, "turns to Microsoft Graph to read the directory"),
			step(2, intune, "asks for a token for Microsoft Intune"),
			step(3, graphOffice, "comes back to Microsoft Graph from the same address"),
		},
	}
}

// Steal makes a theft take place: its steps are exported at their times among the other
// sign-ins. It returns the number that marks them (SignIn.Theft). A theft of nobody, one
// that starts before what was exported already, and an application that is not known are
// refused.
func (t *Tenant) Steal(theft Theft) (int, error) {
	if theft.User < 0 || theft.User >= len(t.users) {
		return 0, fmt.Errorf("theft of user %d: there are users 0 to %d", theft.User, len(t.users)-1)
	}
	if len(theft.Steps) == 0 {
		return 0, fmt.Errorf("theft of user %d: it has no steps", theft.User)
	}
	for i, s := range theft.Steps {
		if theft.Start.Add(s.After).UnixNano() < t.last {
			return 0, fmt.Errorf("theft of user %d: step %d lies before %s, up to which sign-ins were made", theft.User, i+1, time.Unix(0, t.last).UTC().Format(time.RFC3339))
		}
		if appOf(s) == nil {
			return 0, fmt.Errorf("theft of user %d: step %d: no application %q asks for %q", theft.User, i+1, s.App, s.Resource)
		}
	}
	return t.steal(theft), nil
}

func appOf(s Step) *app {
	for i := range apps {
		if apps[i].name == s.App && apps[i].resource == s.Resource {
			return &apps[i]
		}
	}
	return nil
}

// steal queues the sign-ins of a theft. Their ids are of the theft alone, so that a theft more
// leaves the other sign-ins as they were.
func (t *Tenant) steal(theft Theft) int {
	t.thefts++
	u := t.users[theft.User]
	r := rand.New(rand.NewPCG(u.seed, uint64(theft.Start.UnixNano())))
	device := &u.devices[0]
	session := sessionOf(u, device, theft.Start.UnixNano()) // the token's, which is the victim's
	where := &cities[6+r.IntN(len(cities)-6)]
	for i, s := range theft.Steps {
		at := theft.Start.Add(s.After).UnixNano() / 100 * 100
		if at < t.last {
			at = ceil(t.last, 100)
		}
		e := &event{
			time: at, created: at - minLag, user: u, device: device, app: appOf(s),
			network: network{theft.IP, theft.ASN, where}, agent: theft.Agent,
			id: randomGUID(r), correlation: randomGUID(r), session: session,
			millis: 40 + r.IntN(160), table: t.o.Shape == Table || t.o.Shape == Mixed && r.IntN(2) == 0,
			label: LabelTheft, theft: t.thefts, step: i + 1,
		}
		if s.IP.IsValid() {
			e.network.addr = s.IP
		}
		if e.agent == "" {
			e.agent = device.agent
		}
		if s.Failed {
			e.failure = &failureKinds[r.IntN(len(failureKinds))]
		}
		t.queue(e)
	}
	return t.thefts
}

// drawTheft draws a theft of the user by the published figures.
func (t *Tenant) drawTheft(r *rand.Rand, u *user, start int64) Theft {
	theft := Theft{User: u.index, UPN: u.upn, Start: time.Unix(0, start).UTC()}
	theft.IP, theft.ASN = thiefNetwork(r, u)
	switch p := r.Float64(); { // row 48, shares assumption
	case p < 0.5:
		theft.Agent = "axios/1.7.9"
	case p < 0.9:
		theft.Agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
	}
	if r.Float64() < theftAfterFailures {
		for i := range 2 + r.IntN(2) {
			theft.Steps = append(theft.Steps, Step{After: time.Duration(i) * 20 * time.Minute, App: apps[officeHome].name, Resource: apps[officeHome].resource, Failed: true})
		}
		theft.Steps = append(theft.Steps, Step{After: 90 * time.Minute})
	} else {
		theft.Steps = append(theft.Steps, Step{})
	}
	first := firstApp(r)
	theft.Steps[len(theft.Steps)-1].use(first)
	begun := theft.Steps[len(theft.Steps)-1].After
	for _, after := range replays(r) {
		s := Step{After: begun + after}
		s.use(first)
		switch p := r.Float64(); { // where the token goes on to: assumption
		case p < 0.2:
			s.use(graphOffice)
		case p < 0.3:
			s.use(intuneAPI)
		}
		theft.Steps = append(theft.Steps, s)
	}
	return theft
}

func (s *Step) use(a int) { s.App, s.Resource = apps[a].name, apps[a].resource }

// firstApp draws where a stolen token is used first (rows 42, 44, 45, shares assumption).
func firstApp(r *rand.Rand) int {
	switch p := r.Float64(); {
	case p < 0.25:
		return officeHome
	case p < 0.50:
		return exchange
	case p < 0.80:
		return graphOffice
	case p < 0.95:
		return broker
	}
	return intune
}

// thiefNetwork draws the network that the token is used from.
func thiefNetwork(r *rand.Rand, u *user) (netip.Addr, uint32) {
	if r.Float64() < theftV6 {
		return addr6(0xbad00000|r.Uint32N(1<<16), r.Uint64()), hostingASN + r.Uint32N(hostings)
	}
	switch p := r.Float64(); {
	case p < theftHosting:
		return hosting(r.Uint32N(hostingAddresses))
	case p < theftHosting+theftVPN:
		return addr4(vpnBase + r.Uint32N(120)), vpnASN
	case p < theftHosting+theftVPN+theftResidential:
		n := uint32(r.IntN(isps))
		return addr4(ispBase + n<<ispBits + r.Uint32N(1<<ispBits)), ispASN + n
	}
	return addr4(ispBase + uint32(u.isp)<<ispBits + r.Uint32N(1<<ispBits)), uint32(ispASN + u.isp)
}

// replays draws when the token is used again, since its first use.
func replays(r *rand.Rand) (after []time.Duration) {
	var every, until time.Duration
	switch p := r.Float64(); {
	case p < theftShort:
		every, until = 2*time.Hour, time.Duration(1+r.IntN(10))*2*time.Hour
	case p < theftShort+theftPolling:
		every, until = 30*time.Minute, time.Duration(1+r.IntN(7))*24*time.Hour
	default:
		every, until = 75*time.Minute, time.Duration(1+r.IntN(30))*24*time.Hour
	}
	for at := every; at < until; at += every {
		after = append(after, at+time.Duration(r.Int64N(int64(10*time.Minute))))
	}
	return after
}
