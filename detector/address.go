package detector

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
)

// maxNetworkText is the longest text by which a network is remembered as it came. The
// longest real one is an IPv6 address with a zone or a port, below this.
const maxNetworkText = 64

// Address returns the address of the sign-in in the form in which addresses are compared
// and remembered: parsed, an IPv4-mapped one unmapped, without port (192.0.2.7:443,
// [2001:db8::7]:443), as RFC 5952 writes it. A text that is no address, one with a zone
// included, stands for itself; where it is longer than any address its SHA-256 does, so that
// garbage cannot blow up a profile. A missing address is "".
func (s *SignIn) Address() string {
	_, text, _ := parseAddress(s.IP)
	return text
}

// parseAddress returns the address that text holds (the zero Addr where it holds none), its
// canonical form, and whether text is a bare dotted quad, the only form of which KQL's IPv4
// functions are not null.
//
// An octet with a leading zero (192.0.2.07) is no dotted quad here. What Kusto makes of one
// is not documented, libraries disagree whether it is octal, and Entra ID does not write it.
func parseAddress(text string) (addr netip.Addr, canonical string, quad bool) {
	if text == "" {
		return netip.Addr{}, "", false
	}
	addr, err := netip.ParseAddr(text)
	quad = err == nil && addr.Is4()
	if err != nil {
		var ap netip.AddrPort
		if ap, err = netip.ParseAddrPort(text); err == nil {
			addr = ap.Addr()
		}
	}
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, networkText(text), false
	}
	addr = addr.Unmap()
	return addr, canonicalText(addr, text), quad
}

// canonicalText is addr.String() that reuses text where that is canonical already, as it
// nearly always is: one allocation less for each sign-in.
func canonicalText(addr netip.Addr, text string) string {
	var buf [maxNetworkText]byte
	canonical := addr.AppendTo(buf[:0])
	if string(canonical) == text {
		return text
	}
	return string(canonical)
}

// networkText returns what text is remembered by when it is no address, or an ASN.
func networkText(text string) string {
	if len(text) <= maxNetworkText {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])[:maxNetworkText-len("sha256:")]
}
