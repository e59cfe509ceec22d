package state

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
)

// kql are the limits by default, with the query's window.
func kql() *limits { return newLimits(DefaultConfig(), 335) }

func TestALateSignInFindsItsWholeWindowUpToTheLateness(t *testing.T) {
	p := newProfile(kql())
	const newest = 490_000
	p.See("192.0.2.1", "64500", newest-48-335)
	p.See("192.0.2.2", "64501", newest)
	if late := int32(newest - 48); p.Late(late) || !p.KnownIP("192.0.2.1", late-335, late-1) {
		t.Error("the far edge of a window that ends 48 hours back is lost")
	}
	if !p.Late(newest - 49) {
		t.Error("49 hours back is not late")
	}
	p.See("192.0.2.2", "64501", newest+1)
	if ips, asns, first, last := p.Counts(0, math.MaxInt32); ips != 1 || asns != 1 || first != newest || last != newest+1 {
		t.Errorf("an hour later the network is not forgotten: %d %d %d %d", ips, asns, first, last)
	}
}

func TestAFloodOfNetworksNeitherGrowsAProfileNorPushesOutWhatIsNewerThanIt(t *testing.T) {
	l := kql()
	p := newProfile(l)
	for i := range 500 {
		p.See(fmt.Sprintf("own %d", i), fmt.Sprint(i%50), 1000)
	}
	for i := range 20_000 {
		p.See(fmt.Sprintf("flood %d", i), fmt.Sprint("flood", i), 990+int32(i%10))
	}
	for i := range 500 {
		if !p.KnownIP(fmt.Sprintf("own %d", i), 1000, 1000) {
			t.Fatalf("network %d was pushed out by an earlier one", i)
		}
	}
	if got := p.Evicted(1001); got != 40_000 {
		t.Errorf("evicted %d, want 40000", got)
	}
	for i := range 20_000 {
		p.See(fmt.Sprintf("flood %d", i), fmt.Sprint("flood", i), 1001+int32(i%3))
	}
	if p.ips.len() != 500 || p.asns.len() != 50 {
		t.Errorf("%d addresses and %d ASNs are kept", p.ips.len(), p.asns.len())
	}
	if n := p.size(); n > 200<<10 {
		t.Errorf("the profile takes %d bytes of memory", n)
	}
	if p.Evicted(1003+335) == 0 || p.Evicted(1003+336) != 0 {
		t.Error("evictions are forgotten at the wrong hour")
	}
}

// worst is the largest profile that the limits allow.
func worst(l *limits) *Profile {
	p := newProfile(l)
	newest := int32(math.MaxInt32)
	p.newest = newest
	fill := func(n *networks, count int) {
		for i := range count {
			n.insert(i, fmt.Appendf(nil, "%064d", i), newest-int32(i%2))
			n.before.replace(i, bytes.Repeat([]byte{0xff}, n.most))
		}
	}
	fill(&p.ips, l.maxIPs)
	fill(&p.asns, l.maxASNs)
	for i := range maxAlerts {
		p.alerts = append(p.alerts, alert{alertID(i), newest - int32(l.span())})
	}
	for h := l.span(); h >= 0; h-- {
		p.evicted = append(p.evicted, evicted{newest - int32(h), math.MaxUint32})
	}
	return p
}

func TestTheLargestProfileFitsARecord(t *testing.T) {
	widest := DefaultConfig()
	widest.Lateness, widest.MaxIPs, widest.MaxASNs = maxLateness, maxMaxIPs, maxMaxASNs
	for name, cfg := range map[string]Config{"default": DefaultConfig(), "widest": widest} {
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		l := newLimits(cfg, 335)
		got, bound := len(worst(l).appendTo(nil)), l.largestProfile()
		if got > bound || bound > MaxProfileBytes {
			t.Errorf("%s: %d bytes, bound %d, limit %d", name, got, bound, MaxProfileBytes)
		}
		t.Logf("%s: %d bytes, bound %d", name, got, bound)
		p, err := decodeProfile(worst(l).appendTo(nil), l)
		if err != nil || p.ips.len() != l.maxIPs {
			t.Errorf("%s does not read back: %v", name, err)
		}
	}
}

func TestSightingsOfOneHourAreOneChange(t *testing.T) {
	p := newProfile(kql())
	for _, hour := range []int32{1000, 990} {
		p.See("192.0.2.1", "64500", hour)
		if !p.changed {
			t.Errorf("hour %d is no news", hour)
		}
		p.changed = false
		p.See("192.0.2.1", "64500", hour)
		if p.changed {
			t.Errorf("hour %d is news twice", hour)
		}
	}
	p.Remember(alertID(1), 1000)
	if !p.changed {
		t.Error("an alert alone does not change the profile")
	}
}

func TestALongTextIsKnownByItsHashAndIsNoOtherText(t *testing.T) {
	p := newProfile(kql())
	long := strings.Repeat("x", 1<<20)
	p.See(long, "64500", 1000)
	if !p.KnownIP(long, 1000, 1000) || p.KnownIP(long+"x", 1000, 1000) || p.KnownIP(string(appendKey(nil, long)), 1000, 1000) {
		t.Error("a long text is taken for another")
	}
	if n := len(p.appendTo(nil)); n > 200 {
		t.Errorf("it takes %d bytes", n)
	}
}

// typical is a user with 12 addresses in 3 networks, on workdays.
func typical(l *limits) *Profile {
	p := newProfile(l)
	for hour := int32(0); hour < 335; hour++ {
		if hour%24 > 7 && hour%24 < 18 {
			p.See(fmt.Sprintf("203.0.113.%d", hour*7%12), fmt.Sprint(64500+hour%3), 490_000+hour)
		}
	}
	return p
}

func BenchmarkProfile(b *testing.B) {
	l := kql()
	p := typical(l)
	encoded := p.appendTo(nil)
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			p.appendTo(nil)
		}
		b.ReportMetric(float64(len(encoded)), "encoded-B")
		b.ReportMetric(float64(p.size()), "memory-B")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodeProfile(encoded, l); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("known", func(b *testing.B) {
		for b.Loop() {
			p.KnownIP("203.0.113.7", 490_000, 490_334)
		}
	})
	b.Run("unknown", func(b *testing.B) {
		for b.Loop() {
			p.KnownIP("198.51.100.1", 490_000, 490_334)
		}
	})
	b.Run("see again", func(b *testing.B) {
		for b.Loop() {
			p.See("203.0.113.7", "64500", 490_334)
		}
	})
	b.Run("see anew", func(b *testing.B) {
		hour := int32(490_334)
		for b.Loop() {
			hour++
			p.See("203.0.113.7", "64500", hour)
		}
	})
	full := worst(l)
	b.Run("see above the bounds", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			full.See(fmt.Sprint("198.51.100.", i), "64500", math.MaxInt32)
		}
		b.ReportMetric(float64(full.size()), "memory-B")
	})
}
