package tenant

import (
	"fmt"
	"net/netip"
)

// odd is what is odd about a record: one of the cases that docs/semantics.md lists or real exports have shown, and a
// number that chooses among its variants.
type odd struct {
	kind oddKind
	how  uint8
}

type oddKind uint8

const (
	notOdd            oddKind = iota
	oddUncompressed           // IPv6 written in full, or upper case
	oddPort                   // ip:port
	oddMapped                 // IPv4-mapped IPv6
	oddCaller                 // no ipAddress, only callerIpAddress
	oddNoAddress              // neither
	oddNoise                  // something that is no address, or one of nowhere
	oddASN                    // absent, null, empty, or the other JSON type
	oddNoAgent                // no userAgent, or null
	oddResultType             // a number where a string is usual
	oddUPNCase                // the same UPN in another case
	oddNoUPN                  // empty, absent or null
	oddUSTime                 // 11/14/2025 1:48:53 AM
	oddOffsetTime             // +00:00, fewer fractional digits
	oddHour                   // exactly on the hour
	oddResource               // names that nearly are, or barely are, the query's terms
	oddAuthentication         // details that nearly have, or have, the term Multifactor
	oddKinds
)

func (o odd) is(kind oddKind) bool { return o.kind == kind }

// bend makes some events odd, and gives them the time that the oddity can express.
func (t *Tenant) bend(e *event) {
	if t.o.Odd == 0 || t.rng.Float64() >= t.o.Odd {
		return
	}
	e.odd = odd{oddKind(1 + t.rng.IntN(int(oddKinds)-1)), uint8(t.rng.IntN(256))}
	switch e.odd.kind {
	case oddUncompressed:
		e.network, _ = e.user.home(0, true)
	case oddUSTime:
		e.time = ceil(e.time, second)
	case oddHour:
		if t.o.Rate == 0 { // in the present an hour is too long to wait for
			e.time = ceil(e.time, hour)
		}
	case oddNoUPN:
		// All of them share one baseline. That it stays within the bounds, few users' are lost.
		if e.user.index > 2 {
			e.odd = odd{}
		}
	}
}

// pick chooses a variant.
func (o odd) pick(variants []string) string { return variants[int(o.how)%len(variants)] }

var (
	oddNoises    = []string{"not an address", "0.0.0.0", "10.0.0.1", "192.0.2.300", "192.0.2.1/32", "fe80::1"}
	oddResources = []string{
		"Microsoft Graphics", "MicrosoftGraph", "Microsoft  Graph", "microsoft graph powershell", "(Microsoft Graph)", "MICROSOFT GRAPH",
		"Device Management", "Windows Device Management Portal", "Windows 365", "Windows 3650", "Windows 365_beta", "Microsoft Intune API", "Microsoft Intunes",
	}
	oddDetails = []string{"x-multifactor_y", "Multifactor authentication", "MULTIFACTOR", "MultifactorAuthentication", "Multi-factor authentication", "xMultifactor"}
	oddASNs    = []string{"absent", "null", "empty", "other"}
	oddUPNs    = []string{"empty", "absent", "null"}
	oddAgents  = []string{"absent", "null", "empty"}
)

// appendAddress appends the address as the record writes it, whichever field that is in.
func (e *event) appendAddress(b []byte) []byte {
	a := e.network.addr
	switch e.odd.kind {
	case oddUncompressed:
		if e.odd.how%2 == 0 {
			return append(b, a.StringExpanded()...)
		}
		return fmt.Appendf(b, "%X:%X:%X:%X:%X:%X:%X:%X", words(a)...)
	case oddPort:
		return netip.AddrPortFrom(a, 1024+uint16(e.odd.how)*100).AppendTo(b)
	case oddMapped:
		if a.Is4() {
			return append(append(b, "::ffff:"...), a.String()...)
		}
	case oddNoise:
		return append(b, e.odd.pick(oddNoises)...)
	}
	return a.AppendTo(b)
}

func words(a netip.Addr) []any {
	b := a.As16()
	w := make([]any, 8)
	for i := range w {
		w[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
	}
	return w
}

// resource is the name that the record shows.
func (e *event) resource() string {
	if e.odd.is(oddResource) {
		return e.odd.pick(oddResources)
	}
	return e.app.resource
}
