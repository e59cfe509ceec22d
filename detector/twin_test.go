package detector

import (
	"net"
	"regexp"
	"strings"
	"time"
)

// twin judges by the words of docs/semantics.md, "Preset kql", over a plain list of all that came
// before. It shares no code with the detector.
type twin struct {
	created   bool          // event_time: created
	byID      bool          // identity: upn_or_id
	maxFuture time.Duration // how far ahead of its arrival a sign-in is believed
	allowed   []string      // CIDRs, of IPv4
	seen      []twinSeen
	alerted   map[string]bool // by user and sign-in id
}

type twinSeen struct {
	user, ip, asn string
	hour          time.Time // the upper edge
}

type twinVerdict struct {
	outcome     string
	reason      string
	clamped     bool
	ips, asns   int
	first, last string
}

var (
	twinResource = regexp.MustCompile(`(?i)(?:^|[^\pL\p{Nd}])(?:Microsoft Intune|Microsoft Intune API|Device Management|Windows 365|Microsoft Graph)(?:$|[^\pL\p{Nd}])`)
	twinQuad     = regexp.MustCompile(`^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$`)
)

func (w *twin) judge(s *SignIn) twinVerdict {
	var v twinVerdict
	at := s.Generated
	if w.created && !s.Created.IsZero() {
		at = s.Created
	}
	if !s.Arrived.IsZero() && at.Sub(s.Arrived) > w.maxFuture {
		at, v.clamped = s.Arrived, true
	}
	hour := at.UTC().Truncate(time.Hour)
	if hour.Before(at) {
		hour = hour.Add(time.Hour)
	}
	now := twinSeen{user: strings.ToLower(s.UPN), ip: twinAddress(s.IP), asn: s.ASN, hour: hour}
	if w.byID && s.UPN == "" {
		now.user = s.UserID
	}
	v.outcome = w.outcome(s, now, &v)
	w.seen = append(w.seen, now)
	return v
}

func (w *twin) outcome(s *SignIn, now twinSeen, v *twinVerdict) string {
	ips, asns := map[string]bool{}, map[string]bool{}
	for _, past := range w.seen {
		age := now.hour.Sub(past.hour)
		if past.user != now.user || age < time.Hour || age > 335*time.Hour {
			continue
		}
		ips[past.ip], asns[past.asn] = true, true
		text := past.hour.Format(time.RFC3339)
		if v.first == "" || text < v.first {
			v.first = text
		}
		v.last = max(v.last, text)
	}
	v.ips, v.asns = len(ips), len(asns)
	key := now.user + "\x00" + s.ID
	switch {
	case s.ResultType != "0":
		return "failed"
	case !twinQuad.MatchString(s.IP) || net.ParseIP(s.IP) == nil:
		return "other_address"
	case w.allows(s.IP):
		return "allowlisted"
	case !twinResource.MatchString(s.ResourceName):
		return "other_resource"
	case s.MFA != 0:
		return "multi_factor"
	case ips[now.ip]:
		return "known_address"
	case asns[now.asn]:
		return "known_network"
	case w.alerted[key]:
		return "repeated"
	}
	w.alerted[key] = true
	v.reason = "new_network"
	if len(ips) == 0 {
		v.reason = "no_baseline"
	}
	return "alerted"
}

func (w *twin) allows(ip string) bool {
	for _, cidr := range w.allowed {
		if _, network, err := net.ParseCIDR(cidr); err == nil && network.Contains(net.ParseIP(ip)) {
			return true
		}
	}
	return false
}

func twinAddress(text string) string {
	if ip := net.ParseIP(text); ip != nil {
		return ip.String() // writes an IPv4-mapped address as IPv4
	}
	if host, _, err := net.SplitHostPort(text); err == nil {
		if ip := net.ParseIP(host); ip != nil {
			return ip.String()
		}
	}
	return text
}
