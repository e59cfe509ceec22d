package detector

// History is what is known of one user: the hours in which each address and each ASN of
// his was seen, and the alerts he caused lately. A profile of package state satisfies it;
// the types are plain so that neither package knows the other.
//
// An hour is a count of hours since the Unix epoch, written as its upper edge (see HourOf).
// Addresses are canonical texts (see SignIn.Address); the empty text is an address and an
// ASN like any other. A History belongs to one goroutine.
type History interface {
	// KnownIP reports whether the address was seen in an hour of [from, to].
	KnownIP(ip string, from, to int32) bool
	// KnownASN reports the same of an ASN.
	KnownASN(asn string, from, to int32) bool
	// See records that the user came from address ip in network asn in hour. Order does
	// not matter, and seeing the same again changes nothing.
	See(ip, asn string, hour int32)
	// Late reports whether hour lies further behind the newest hour of the user than the
	// history is kept complete for: what is judged at it, is judged on what is left.
	Late(hour int32) bool
	// Alerted reports whether the alert id is remembered.
	Alerted(id [16]byte) bool
	// Remember keeps the id of an alert that was raised for a sign-in of hour.
	Remember(id [16]byte, hour int32)
	// Counts returns how many addresses and ASNs were seen within [from, to], and the first
	// and last of those hours (0 where there are none).
	Counts(from, to int32) (ips, asns int, first, last int32)
	// Evicted returns how many networks of the user were given up to keep within the bounds
	// and would else still count at hour.
	Evicted(hour int32) int
}
