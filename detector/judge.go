package detector

import (
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Detector judges sign-ins by one configuration. It is immutable and safe for use by many
// goroutines; the allowlist, which may be reloaded, is handed to Judge.
type Detector struct {
	cfg       Config
	rule      Rule
	resources terms
}

// New returns the detector for a valid configuration; for another one it returns what
// Validate says.
func New(cfg Config) (*Detector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Detector{cfg: cfg, rule: PRTReuse(), resources: newTerms(cfg.Resources)}, nil
}

// UserKey returns whose baseline the sign-in belongs to, which is also the key of every
// record of his: the lower-cased UPN, which may be empty. With `identity: upn_or_id` it is
// the object id, as it came, where the UPN is empty.
func (d *Detector) UserKey(s *SignIn) string {
	if s.UPN == "" && d.cfg.Identity == IdentityUPNOrID {
		return s.UserID
	}
	return strings.ToLower(s.UPN)
}

// Verdict is what Judge found.
type Verdict struct {
	Outcome Outcome
	Alert   *Alert // nil unless Outcome is Alerted
	Late    bool   // judged on what was left: the history no longer reaches back in full
	Clamped bool   // judged at its arrival: it is dated too far in the future
}

// Outcome names the step that decided. Its String is a Prometheus label value.
type Outcome uint8

// The outcomes, in the order in which Judge asks.
const (
	Failed       Outcome = iota // the sign-in did not succeed
	OtherAddress                // the address is not a bare dotted quad: the query never sees it
	Allowlisted
	OtherResource
	MultiFactor
	KnownAddress
	KnownNetwork
	Repeated // alerted already under this sign-in id
	Alerted
)

var outcomeNames = [...]string{
	Failed:        "failed",
	OtherAddress:  "other_address",
	Allowlisted:   "allowlisted",
	OtherResource: "other_resource",
	MultiFactor:   "multi_factor",
	KnownAddress:  "known_address",
	KnownNetwork:  "known_network",
	Repeated:      "repeated",
	Alerted:       "alerted",
}

// String returns the outcome in snake_case.
func (o Outcome) String() string {
	if int(o) >= len(outcomeNames) {
		return "unknown"
	}
	return outcomeNames[o]
}

// successResult is the ResultType of a sign-in that succeeded.
const successResult = "0"

// Judge decides whether s alerts, given what h knows of its user, and teaches h. It must be
// called for every sign-in of the user, whatever its result, in the order of the log. A nil
// allowlist is an empty one. The alert and the history share the texts of s, but not s itself.
//
// The verdict comes first and the teaching second. As the hours that count end before the
// sign-in's own, what arrives within an hour changes nothing for the rest of that hour.
func (d *Detector) Judge(s *SignIn, allowed *Allowlist, h History) Verdict {
	t := d.eventTime(s)
	judged, clamped := d.clamp(t, s.Arrived)
	hour := HourOf(judged)
	from, to := hour-Window, hour-1
	addr, ip, quad := parseAddress(s.IP)
	asn := networkText(s.ASN)

	v := Verdict{Late: h.Late(hour), Clamped: clamped}
	if v.Outcome = d.screen(s, addr, quad, allowed); v.Outcome == Alerted {
		switch {
		case h.KnownIP(ip, from, to):
			v.Outcome = KnownAddress
		case h.KnownASN(asn, from, to):
			v.Outcome = KnownNetwork
		default:
			id := alertID(d.rule.ID, s.ID)
			if h.Alerted(id) {
				v.Outcome = Repeated
				break
			}
			v.Alert = d.newAlert(s, id, t, ip, baselineOf(h, hour), v)
			h.Remember(id, hour)
		}
	}
	// Preset hardened (switches learn_from, probation) teaches less than everything.
	h.See(ip, asn, hour)
	return v
}

// screen asks all that the sign-in alone can answer, and returns Alerted for a candidate:
// whether that one alerts is up to its user's past.
func (d *Detector) screen(s *SignIn, addr netip.Addr, quad bool, allowed *Allowlist) Outcome {
	switch {
	case s.ResultType != successResult:
		return Failed
	case !quad: // preset hardened (switch ipv6) judges IPv6 too
		return OtherAddress
	case allowed.Contains(addr):
		return Allowlisted
	case !d.resources.in(s.ResourceName): // preset hardened (switch resources): or its id
		return OtherResource
	case s.MFA&MFAMentioned != 0: // preset hardened (switch mfa): a fresh MFA
		return MultiFactor
	}
	return Alerted
}

// eventTime returns the time that decides the sign-in's hour.
func (d *Detector) eventTime(s *SignIn) time.Time {
	if d.cfg.EventTime == EventTimeCreated && !s.Created.IsZero() {
		return s.Created
	}
	return s.Generated
}

// Hour returns the hour that Judge judges s at.
func (d *Detector) Hour(s *SignIn) int32 {
	at, _ := d.clamp(d.eventTime(s), s.Arrived)
	return HourOf(at)
}

// clamp returns the time to judge at: the arrival where t lies more than max_future after
// it, so that one record dated in the future does not close its user's window.
func (d *Detector) clamp(t, arrived time.Time) (time.Time, bool) {
	if !arrived.IsZero() && t.After(arrived.Add(d.cfg.MaxFuture)) {
		return arrived, true
	}
	return t, false
}

// alertID returns the id of the alert on a sign-in: a function of the rule and the sign-in's
// id, so that each copy of a sign-in that is delivered twice has the same.
func alertID(rule uuid.UUID, signIn string) uuid.UUID {
	return uuid.NewSHA1(rule, []byte(signIn))
}

// baselineOf returns what is known of the user at hour.
func baselineOf(h History, hour int32) AlertBaseline {
	ips, asns, first, last := h.Counts(hour-Window, hour-1)
	b := AlertBaseline{IPs: ips, ASNs: asns, Evicted: h.Evicted(hour)}
	if !b.empty() {
		b.FirstHour, b.LastHour = formatHour(first), formatHour(last)
	}
	return b
}
