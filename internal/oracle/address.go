package oracle

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// dottedQuad reads a bare IPv4 address, the only thing that ipv4_is_in_any_range is not
// null for.
func dottedQuad(text string) (net.IP, bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 4 {
		return nil, false
	}
	ip := make(net.IP, 4)
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return nil, false
		}
		ip[i] = byte(n)
	}
	return ip, true
}

// inAnyRange is ipv4_is_in_any_range.
func (q *Query) inAnyRange(text string) (in, null bool) {
	ip, ok := dottedQuad(text)
	if !ok {
		return false, true
	}
	for _, network := range q.allowed {
		if network.Contains(ip) {
			return true, false
		}
	}
	return false, false
}

// parseRange reads a CIDR or an address. An IPv6 range is nil: no IPv4 address is in it,
// unless it is a range of IPv4-mapped ones, which is the IPv4 range.
func parseRange(text string) (*net.IPNet, error) {
	address, length, isRange := strings.Cut(text, "/")
	ip := net.ParseIP(address)
	if ip == nil {
		return nil, fmt.Errorf("allowlist entry %q: neither a network nor an address", text)
	}
	width := 32
	if strings.Contains(address, ":") {
		width = 128
	}
	ones := width
	if isRange {
		n, err := strconv.Atoi(length)
		if err != nil || n < 0 || n > width {
			return nil, fmt.Errorf("allowlist entry %q: the prefix length is not within 0 to %d", text, width)
		}
		ones = n
	}
	if width == 128 {
		if ip.To4() == nil || ones < 96 {
			return nil, nil
		}
		ones -= 96
	}
	mask := net.CIDRMask(ones, 32)
	return &net.IPNet{IP: ip.To4().Mask(mask), Mask: mask}, nil
}

// canonical is an address as baselines compare it: parsed, unmapped and without its port.
// What does not parse compares as the text that it is.
func canonical(text string) string {
	if ip := net.ParseIP(text); ip != nil {
		return ip.String() // prints an IPv4-mapped address as the IPv4 address
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return text
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return text
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip.String()
	}
	return text
}
