package detector

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func source(text string) Source { return Source{Name: "offices.txt", Text: strings.NewReader(text)} }

func parseAllowlist(t testing.TB, texts ...string) *Allowlist {
	t.Helper()
	var sources []Source
	for _, text := range texts {
		sources = append(sources, source(text))
	}
	a, err := ParseAllowlist(sources...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAnAllowlistHoldsTheRangesOfAllItsSources(t *testing.T) {
	plain := "\ufeff# offices\r\n\r\n192.0.2.0/28   # Delft\r\n  198.51.100.77\r\n2001:db8:1::/48#v6\n::ffff:203.0.113.5\n::ffff:203.0.113.128/121"
	watchlist := "# exported\nName,\"SearchKey\",Note\nA,198.51.100.200/29,\"two\nlines, quoted\"\n,,\nB, \"2001:db8:2::9\" ,\n"
	watchlist = strings.Replace(watchlist, ` "2001:db8:2::9" `, `"2001:db8:2::9"`, 1)
	a := parseAllowlist(t, plain, watchlist, "", "# nothing\n")
	if a.Len() != 7 {
		t.Errorf("%d ranges, want 7", a.Len())
	}
	for text, want := range map[string]bool{
		"192.0.2.0": true, "192.0.2.15": true, "192.0.2.16": false,
		"198.51.100.77": true, "198.51.100.78": false, "::ffff:198.51.100.77": true,
		"2001:db8:1:ffff::1": true, "2001:db8:3::1": false,
		"203.0.113.5": true, "203.0.113.6": false, "203.0.113.128": true, "203.0.113.255": true, "203.0.113.127": false,
		"198.51.100.199": false, "198.51.100.200": true, "198.51.100.207": true, "198.51.100.208": false,
		"2001:db8:2::9": true, "2001:db8:2::a": false,
	} {
		if got := a.Contains(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is allowed: %v, want %v", text, got, want)
		}
	}
}

func TestHostBitsOfARangeAreIgnored(t *testing.T) {
	a := parseAllowlist(t, "10.0.0.5/8\n10.255.0.0/8\n2001:db8::5/32")
	if a.Len() != 2 || !a.Contains(netip.MustParseAddr("10.200.0.1")) || !a.Contains(netip.MustParseAddr("2001:db8:ffff::")) {
		t.Errorf("%d ranges, or an address is missing", a.Len())
	}
}

func TestAnEmptyAllowlistHoldsNothing(t *testing.T) {
	for name, a := range map[string]*Allowlist{"nil": nil, "zero": {}, "parsed": parseAllowlist(t)} {
		if a.Len() != 0 || a.Contains(netip.MustParseAddr("192.0.2.7")) || a.Contains(netip.Addr{}) {
			t.Errorf("the %s allowlist holds something", name)
		}
	}
	if parseAllowlist(t, "0.0.0.0/0\n::/0").Contains(netip.Addr{}) {
		t.Error("the zero address lies in a range")
	}
}

func TestEverythingIsInTheRangesOfAllAddresses(t *testing.T) {
	v4, v6 := parseAllowlist(t, "0.0.0.0/0"), parseAllowlist(t, "::/0")
	quad, long := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	if !v4.Contains(quad) || v4.Contains(long) || v6.Contains(quad) || !v6.Contains(long) {
		t.Error("0.0.0.0/0 must hold all of IPv4 only, ::/0 all of IPv6 only")
	}
}

func TestAWrongLineIsNamedWithWhatWouldBeRight(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.0/24\n10.0.0/8\n":      `allowlist offices.txt:2: "10.0.0/8" is no network: write a CIDR such as 192.0.2.0/24 or an address such as 192.0.2.7`,
		"192.0.2.0/33":                  `allowlist offices.txt:1: "192.0.2.0/33" is no network: `,
		"\n# x\r\nexample.com # y":      `allowlist offices.txt:3: "example.com" is no network: `,
		"192.0.2.1 192.0.2.2":           `allowlist offices.txt:1: "192.0.2.1 192.0.2.2" is no network: `,
		"192.0.2.7:443":                 `allowlist offices.txt:1: "192.0.2.7:443" is no network: `,
		"fe80::1%eth0":                  `allowlist offices.txt:1: "fe80::1%eth0" is no network: `,
		"::ffff:192.0.2.0/24":           `allowlist offices.txt:1: "::ffff:192.0.2.0/24" reaches beyond the IPv4-mapped addresses: write the IPv4 range`,
		"Range,Note\n192.0.2.0/24,x":    `allowlist offices.txt:1: "Range,Note" is no network: `,
		"Note,SearchKey\nx\n":           `allowlist offices.txt:2: the column SearchKey is empty: write a CIDR`,
		"Note,SearchKey\n\"a\nb\",x\n":  `allowlist offices.txt:3: "x" is no network: `,
		"Note,SearchKey\n,\nx,\"1\"2\"": `allowlist offices.txt:3: reading CSV: `,
		"\xff\xfe1\x000\x00":            `allowlist offices.txt:1: the file is UTF-16: save it as UTF-8`,
		strings.Repeat("x", 10_000_000): `is no network`,
		"192.0.2.0/24\n\x00\xfe\n":      `allowlist offices.txt:2: "\x00\xfe" is no network: `,
	} {
		_, err := ParseAllowlist(source("10.0.0.0/8"), source(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 {
			t.Errorf("%.60q: %v\nwant %s", text, err, want)
		}
	}
}

func TestASourceThatCannotBeReadIsNamed(t *testing.T) {
	_, err := ParseAllowlist(Source{Name: "offices.txt", Text: iotest.ErrReader(fmt.Errorf("disk on fire"))})
	if err == nil || err.Error() != "reading allowlist offices.txt: disk on fire" {
		t.Error(err)
	}
}

func TestAnAllowlistHoldsWhatAWalkOverItsRangesFinds(t *testing.T) {
	// Few bits that vary, so that ranges nest, repeat and touch.
	quad := rapid.Custom(func(t *rapid.T) netip.Addr {
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], rapid.Uint32Range(0, 15).Draw(t, "high")<<28|rapid.Uint32Range(0, 15).Draw(t, "low"))
		return netip.AddrFrom4(raw)
	})
	long := rapid.Custom(func(t *rapid.T) netip.Addr {
		var raw [16]byte
		raw[0], raw[15] = rapid.ByteRange(0, 3).Draw(t, "high")<<6, rapid.ByteRange(0, 15).Draw(t, "low")
		return netip.AddrFrom16(raw)
	})
	addrs := rapid.OneOf(quad, long)
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		distinct := map[netip.Prefix]bool{}
		for range rapid.IntRange(0, 12).Draw(t, "ranges") {
			addr := addrs.Draw(t, "range")
			p := netip.PrefixFrom(addr, rapid.IntRange(0, addr.BitLen()).Draw(t, "bits"))
			distinct[p.Masked()] = true
			if addr.Is4() && rapid.Bool().Draw(t, "mapped") {
				p = netip.PrefixFrom(netip.AddrFrom16(addr.As16()), p.Bits()+96)
			}
			fmt.Fprintln(&text, p)
		}
		a, err := ParseAllowlist(source(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		if a.Len() != len(distinct) {
			t.Fatalf("%d ranges, want %d", a.Len(), len(distinct))
		}
		addr := addrs.Draw(t, "address")
		want := false
		for p := range distinct {
			want = want || p.Contains(addr)
		}
		if got := a.Contains(addr); got != want {
			t.Fatalf("%s is allowed: %v, want %v, by\n%s", addr, got, want, text.String())
		}
	})
}

func TestAnAllowlistIsReadByManyAtOnce(t *testing.T) {
	a := parseAllowlist(t, "192.0.2.0/24\n198.51.100.7\n2001:db8::/32")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 1000 {
				if !a.Contains(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})) {
					t.Error("an address is missing")
					return
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkAllowlistContains(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		b.Run(fmt.Sprintf("%d ranges", n), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 2))
			var text strings.Builder
			for range n {
				fmt.Fprintf(&text, "%d.%d.%d.0/24\n", random.IntN(256), random.IntN(256), random.IntN(256))
			}
			a := parseAllowlist(b, text.String())
			addrs := make([]netip.Addr, 1024)
			for i := range addrs {
				addrs[i] = netip.AddrFrom4([4]byte{byte(random.IntN(256)), byte(random.IntN(256)), byte(random.IntN(256)), 7})
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				a.Contains(addrs[i%len(addrs)])
			}
		})
	}
}
