package detector

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAddressesAreComparedParsedUnmappedAndWithoutPort(t *testing.T) {
	for _, c := range []struct {
		text, want string
		quad       bool
	}{
		{"192.0.2.7", "192.0.2.7", true},
		{"192.0.2.7:443", "192.0.2.7", false},
		{"::ffff:192.0.2.7", "192.0.2.7", false},
		{"::FFFF:C000:0207", "192.0.2.7", false},
		{"[::ffff:192.0.2.7]:443", "192.0.2.7", false},
		{"2001:0DB8:0000:0000:0000:0000:0000:0007", "2001:db8::7", false},
		{"[2001:db8::7]:443", "2001:db8::7", false},
		{"2001:db8:0:1:0:0:0:7", "2001:db8:0:1::7", false},
		{"", "", false},
		{"192.0.2.07", "192.0.2.07", false},
		{"192.0.2", "192.0.2", false},
		{"192.0.2.256", "192.0.2.256", false},
		{"192.0.2.7:99999", "192.0.2.7:99999", false},
		{" 192.0.2.7", " 192.0.2.7", false},
		{"192.0.2.7/32", "192.0.2.7/32", false},
		{"fe80::1%eth0", "fe80::1%eth0", false},
		{"FE80::1%eth0", "FE80::1%eth0", false},
		{"PII Removed", "PII Removed", false},
	} {
		s := SignIn{IP: c.text}
		if got := s.Address(); got != c.want {
			t.Errorf("%q is compared as %q, want %q", c.text, got, c.want)
		}
		addr, _, quad := parseAddress(c.text)
		if quad != c.quad {
			t.Errorf("%q is a bare dotted quad: %v", c.text, quad)
		}
		if quad && !addr.Is4() {
			t.Errorf("%q is a quad, its address is %v", c.text, addr)
		}
	}
}

func TestEveryWritingOfAnAddressIsTheSameAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var raw [16]byte
		copy(raw[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes"))
		if rapid.Bool().Draw(t, "mapped") {
			copy(raw[:12], net.IPv4zero[:12])
		}
		addr := netip.AddrFrom16(raw)
		want := addr.Unmap().String()
		port := netip.AddrPortFrom(addr, rapid.Uint16().Draw(t, "port"))
		for _, text := range []string{
			addr.String(), addr.StringExpanded(), strings.ToUpper(addr.StringExpanded()), port.String(),
			want, netip.AddrPortFrom(addr.Unmap(), port.Port()).String(),
		} {
			s := SignIn{IP: text}
			if got := s.Address(); got != want {
				t.Fatalf("%q is compared as %q, want %q", text, got, want)
			}
		}
	})
}

func TestALongTextIsRememberedByItsDigest(t *testing.T) {
	a, b := SignIn{IP: strings.Repeat("x", MaxText)}, SignIn{IP: strings.Repeat("x", MaxText-1) + "y"}
	if len(a.Address()) > maxNetworkText || a.Address() == b.Address() {
		t.Errorf("%q and %q", a.Address(), b.Address())
	}
	if s := (SignIn{IP: strings.Repeat("x", maxNetworkText)}); s.Address() != s.IP {
		t.Errorf("a text of %d bytes became %q", len(s.IP), s.Address())
	}
}
