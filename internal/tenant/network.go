package tenant

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// network is where a sign-in comes from.
type network struct {
	addr netip.Addr
	asn  uint32 // 0 where enrichment found none
	city *city
}

// city is a place as a record shows it.
type city struct {
	country, name, state string
	geo                  string
	offset               int64  // of local time from UTC
	diagnostic, table    string // the location, as either shape writes it
}

var cities = []city{
	{"DE", "Berlin", "Berlin", `"latitude":52.52436828613281,"longitude":13.410530090332031`, 1 * hour, "", ""},
	{"DE", "Hamburg", "Hamburg", `"latitude":53.57531738281250,"longitude":10.015340805053711`, 1 * hour, "", ""},
	{"US", "Boston", "Massachusetts", `"latitude":42.35843276977539,"longitude":-71.059768676757812`, -5 * hour, "", ""},
	{"IN", "Pune", "Maharashtra", `"latitude":18.51956939697266,"longitude":73.855346679687500`, 5*hour + 30*minute, "", ""},
	{"FR", "Lyon", "Rhone", `"latitude":45.74845886230469,"longitude":4.846710205078125`, 1 * hour, "", ""},
	{"ES", "Valencia", "Valencia", `"latitude":39.46975326538086,"longitude":-0.377390027046204`, 1 * hour, "", ""},
	{"NL", "Amsterdam", "Noord-Holland", `"latitude":52.37403106689453,"longitude":4.889689922332764`, 1 * hour, "", ""},
	{"GB", "Leeds", "Leeds", `"latitude":53.79647827148438,"longitude":-1.547850012779236`, 0, "", ""},
	{"JP", "Osaka", "Osaka", `"latitude":34.69374084472656,"longitude":135.502181396484375`, 9 * hour, "", ""},
	{"CA", "Toronto", "Ontario", `"latitude":43.70011138916016,"longitude":-79.416297912597656`, -5 * hour, "", ""},
}

func init() {
	for i := range cities {
		c := &cities[i]
		c.diagnostic = `{"city":"` + c.name + `","state":"` + c.state + `","countryOrRegion":"` + c.country + `","geoCoordinates":{` + c.geo + `}}`
		c.table = quoted(c.diagnostic)
	}
}

// sites are the offices: each its city, its ASN (RFC 5398) and the first of its eight addresses.
var sites = [...]struct {
	city int
	asn  uint32
	base uint32
}{{0, 64496, v4(192, 0, 2, 8)}, {2, 64497, v4(192, 0, 2, 64)}, {3, 64498, v4(192, 0, 2, 128)}}

// The other networks. Home providers share 198.18.0.0/15 (benchmarks), phones and other
// places 100.64.0.0/10 (carrier NAT), VPN, clouds and thieves the TEST-NETs.
const (
	isps, ispBits         = 12, 13
	carriers, carrierBits = 4, 19
	abroad, abroadBits    = 40, 14
	places, placeBits     = 30, 12

	ispASN, carrierASN, placeASN, abroadASN = 64512, 64540, 64600, 65000
	vpnASN, egressASN                       = 64499, 64500
	hostingASN, hostings                    = 64501, 11
)

var (
	ispBase     = v4(198, 18, 0, 0)
	carrierBase = v4(100, 64, 0, 0)
	abroadBase  = v4(100, 96, 0, 0)
	placeBase   = v4(100, 112, 0, 0)
	egressBase  = v4(203, 0, 113, 0)
	vpnBase     = v4(203, 0, 113, 128)
	hostingBase = v4(198, 51, 100, 0)
)

// hostingAddresses is how many addresses the hosting providers have, each an equal part.
const hostingAddresses = 253

// hosting is one of them, and whose it is.
func hosting(n uint32) (netip.Addr, uint32) { return addr4(hostingBase + 1 + n), hostingASN + n/23 }

func v4(a, b, c, d byte) uint32 { return binary.BigEndian.Uint32([]byte{a, b, c, d}) }

func addr4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// addr6 is an address of 2001:db8::/32: a /64 of it, and an address in that.
func addr6(subnet uint32, host uint64) netip.Addr {
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint32(b[4:], subnet)
	binary.BigEndian.PutUint64(b[8:], host)
	return netip.AddrFrom16(b)
}

// pool is the network of one of many providers that share a range.
func pool(base uint32, bits, which int, asn uint32, c *city, h uint64) network {
	n := network{addr4(base + uint32(which)<<bits + uint32(h)&(1<<bits-1)), asn + uint32(which), c}
	if chance(mix(h, 9)) < withoutASN {
		n.asn = 0
	}
	return n
}

// What mix is asked for.
const (
	drawTrip = iota + 100
	drawPlace
	drawVPN
	drawDesk
	drawHome
	drawCell
	drawWiFi
	drawEgress
	draw6
)

// where says from which network a device of the user signs in at a time, and what is not
// plain about that.
func (t *Tenant) where(u *user, d *device, at int64) (network, string) {
	n, hours := t.localDay(u, at)
	draw := func(what, when uint64) uint64 { return mix(u.seed, what, when) }
	today := uint64(int64(n))
	six := chance(draw(draw6, uint64(at))) < v6Share

	trip := uint64(int64(n+int(u.seed%4)) / (tripDays + 1))
	if h := draw(drawTrip, trip); chance(h) < newNetworkDays*travelShare/tripDays*(tripDays+1) {
		which := int(h % abroad)
		return pool(abroadBase, abroadBits, which, abroadASN, &cities[which%len(cities)], draw(drawTrip, today)), LabelTravel
	}
	if h := draw(drawPlace, today); chance(h) < newNetworkDays*placeShare && hours > 10 && hours < 16 {
		return pool(placeBase, placeBits, int(h%places), placeASN, u.city, h), LabelPlace
	}
	if d.kind == phone {
		return t.wherePhone(u, n, hours, six)
	}
	if h := draw(drawVPN, today); chance(h) < newNetworkDays*vpnShare {
		return network{addr4(vpnBase + uint32(h%120)), vpnASN, &cities[h%uint64(len(cities))]}, LabelVPN
	}
	if h := draw(drawEgress, uint64(at)); chance(h) < cloudEgress {
		return network{addr4(egressBase + uint32(h%120)), egressASN, &cities[6]}, LabelEgress
	}
	if t.atOffice(u, n, hours) {
		return u.officeNetwork(n), ""
	}
	return u.home(n, six)
}

// atOffice reports whether the user is at his desk.
func (t *Tenant) atOffice(u *user, n int, hours float64) bool {
	if hours < 8.5 || hours > 17.5 || !t.weekday(u, n) {
		return false
	}
	switch u.works {
	case office:
		return true
	case hybrid:
		return mix(u.seed, drawDesk, uint64(int64(n)))%5 < 3
	}
	return false
}

func (u *user) officeNetwork(n int) network {
	s := sites[u.site]
	return network{addr4(s.base + uint32(mix(u.seed, drawDesk, uint64(int64(n)))%8)), s.asn, u.city}
}

// home is the user's line at home: its address goes with what the provider does, its IPv6
// prefix stays and the address in it is another each day (rows 16 to 20).
func (u *user) home(n int, six bool) (network, string) {
	isp, label := u.isp, ""
	if n >= u.ispChange {
		isp = (isp + 1) % isps
		if n < u.ispChange+2 {
			label = LabelISP
		}
	}
	if six {
		return network{addr6(uint32(isp)<<28|uint32(u.index)&(1<<24-1), mix(u.seed, draw6, uint64(int64(n)))), uint32(ispASN + isp), u.city}, label
	}
	epoch := 0
	if u.homeEvery > 0 {
		epoch = (n + int(u.seed%10)) / u.homeEvery
	}
	return pool(ispBase, ispBits, isp, ispASN, u.city, mix(u.seed, drawHome, uint64(int64(epoch)), uint64(isp))), label
}

// wherePhone says where the phone is: it flips between Wi-Fi and cellular some times a day,
// and each attachment to the cellular network draws an address (rows 6, 12, 52).
func (t *Tenant) wherePhone(u *user, n int, hours float64, six bool) (network, string) {
	flips := 3 + u.seed%6
	slot := uint64(hours * float64(flips) / 24)
	wifi := 0.5
	if u.works == phoneOnly {
		wifi = 0.3
	}
	if chance(mix(u.seed, drawWiFi, uint64(int64(n)), slot)) < wifi {
		if t.atOffice(u, n, hours) {
			return u.officeNetwork(n), ""
		}
		return u.home(n, six)
	}
	attachment := uint64(hours * float64(u.attachments) / 24)
	h := mix(u.seed, drawCell, uint64(int64(n)), attachment)
	if six {
		return network{addr6(0xc0000000|uint32(u.carrier)<<26|uint32(h)&(1<<26-1), h), uint32(carrierASN + u.carrier), u.city}, LabelMobile
	}
	return pool(carrierBase, carrierBits, u.carrier, carrierASN, u.city, h), LabelMobile
}

// newHire reports whether the sign-in is of a new user's first day.
func (u *user) newHire(at int64) bool { return u.hired && at < u.joins+int64(24*time.Hour) }
