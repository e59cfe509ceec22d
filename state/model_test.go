package state

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is a profile as its definition reads: sets of hours, scanned. It shares nothing
// with Profile.
type model struct {
	window, lateness, maxIPs, maxASNs int32
	ips, asns                         map[string]map[int32]bool
	alerts                            []modelAlert
	evicted                           []int32 // the newest hour of each
}

type modelAlert struct {
	id   [16]byte
	hour int32
}

func newModel(l *limits) *model {
	return &model{
		window: int32(l.window), lateness: int32(l.lateness), maxIPs: int32(l.maxIPs), maxASNs: int32(l.maxASNs),
		ips: map[string]map[int32]bool{}, asns: map[string]map[int32]bool{},
	}
}

func (m *model) clone() *model {
	c := *m
	c.ips, c.asns = map[string]map[int32]bool{}, map[string]map[int32]bool{}
	for k, v := range m.ips {
		c.ips[k] = maps.Clone(v)
	}
	for k, v := range m.asns {
		c.asns[k] = maps.Clone(v)
	}
	c.alerts, c.evicted = slices.Clone(m.alerts), slices.Clone(m.evicted)
	return &c
}

func latest(hours map[int32]bool) int32 { return slices.Max(slices.Collect(maps.Keys(hours))) }

func (m *model) newest() (newest int32, ok bool) {
	for _, of := range []map[string]map[int32]bool{m.ips, m.asns} {
		for _, hours := range of {
			if h := latest(hours); !ok || h > newest {
				newest, ok = h, true
			}
		}
	}
	return newest, ok
}

func (m *model) see(ip, asn string, hour int32) {
	newest, ok := m.newest()
	if ok && hour < newest-m.window-m.lateness {
		return
	}
	m.add(m.ips, ip, hour)
	m.add(m.asns, asn, hour)
	newest, _ = m.newest()
	m.expire(newest)
	m.bound(m.ips, m.maxIPs)
	m.bound(m.asns, m.maxASNs)
}

func (m *model) add(of map[string]map[int32]bool, text string, hour int32) {
	key := modelKey(text)
	if of[key] == nil {
		of[key] = map[int32]bool{}
	}
	of[key][hour] = true
}

// modelKey is what a network is kept as: it says which of those seen last in the same hour goes first.
func modelKey(text string) string {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" && ip.String() == text {
		return map[bool]string{true: "\xfc", false: "\xfd"}[ip.Is4()] + string(ip.AsSlice())
	}
	if len(text) > 64 || text != "" && text[0] >= 0xf8 {
		sum := sha256.Sum256([]byte(text))
		return "\xff" + string(sum[:])
	}
	return text
}

func (m *model) expire(newest int32) {
	old := func(h int32) bool { return h < newest-m.window-m.lateness }
	for _, of := range []map[string]map[int32]bool{m.ips, m.asns} {
		for k, hours := range of {
			maps.DeleteFunc(hours, func(h int32, _ bool) bool { return old(h) })
			if len(hours) == 0 {
				delete(of, k)
			}
		}
	}
	m.alerts = slices.DeleteFunc(m.alerts, func(a modelAlert) bool { return old(a.hour) })
	m.evicted = slices.DeleteFunc(m.evicted, old)
}

func (m *model) bound(of map[string]map[int32]bool, most int32) {
	for int32(len(of)) > most {
		keys := slices.Sorted(maps.Keys(of))
		slices.SortStableFunc(keys, func(a, b string) int { return int(latest(of[a]) - latest(of[b])) })
		m.evicted = append(m.evicted, latest(of[keys[0]]))
		delete(of, keys[0])
	}
}

func (m *model) remember(id [16]byte, hour int32) {
	newest, ok := m.newest()
	if ok && hour < newest-m.window-m.lateness || m.alerted(id) {
		return
	}
	m.alerts = append(m.alerts, modelAlert{id, hour})
	if len(m.alerts) > 256 {
		m.alerts = m.alerts[1:]
	}
}

func (m *model) alerted(id [16]byte) bool {
	return slices.ContainsFunc(m.alerts, func(a modelAlert) bool { return a.id == id })
}

func (m *model) known(of map[string]map[int32]bool, text string, from, to int32) bool {
	for h := range of[text] {
		if from <= h && h <= to {
			return true
		}
	}
	return false
}

func (m *model) late(hour int32) bool {
	newest, ok := m.newest()
	return ok && hour < newest-m.lateness
}

// answers is all that a profile says about some hours, so that two can be compared.
func (m *model) answers(from, to int32) string {
	var first, last int32
	var counts [2]int
	none := true
	out := ""
	for i, of := range []map[string]map[int32]bool{m.ips, m.asns} {
		for _, k := range slices.Sorted(maps.Keys(of)) {
			if m.known(of, k, from, to) {
				counts[i]++
				out += fmt.Sprintf("%d%q ", i, k)
			}
			for h := range of[k] {
				if from <= h && h <= to {
					if none || h < first {
						first = h
					}
					if none || h > last {
						last = h
					}
					none = false
				}
			}
		}
	}
	evicted := 0
	for _, h := range m.evicted {
		if h >= to+1-m.window {
			evicted++
		}
	}
	return fmt.Sprint(out, counts, first, last, evicted, m.late(to), m.late(from))
}

func answers(p *Profile, from, to int32) string {
	out := ""
	for i, n := range []*networks{&p.ips, &p.asns} {
		for j := range n.newest {
			k := n.keys.at(j) // what is hashed is asked for by its text elsewhere
			if _, _, ok := n.within(j, max(int64(from), p.floor()), int64(to)); ok {
				out += fmt.Sprintf("%d%q ", i, k)
			}
		}
	}
	ips, asns, first, last := p.Counts(from, to)
	return fmt.Sprint(out, [2]int{ips, asns}, first, last, p.Evicted(to+1), p.Late(to), p.Late(from))
}

var (
	genHour = rapid.OneOf(rapid.Int32Range(1000, 1060), rapid.Int32Range(940, 1020), rapid.Int32Range(-5, 5), rapid.Int32Range(1050, 1200))
	genText = rapid.OneOf(rapid.SampledFrom([]string{"", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:DB8::1", "::ffff:192.0.2.1", "fe80::1%eth0", "192.0.2.01", "64500"}),
		rapid.Map(rapid.IntRange(0, 12), func(i int) string { return fmt.Sprintf("198.51.100.%d", i) }),
		rapid.Map(rapid.IntRange(0, 2), func(i int) string { return fmt.Sprintf("%0*d", 64+i, i) }),
		rapid.SampledFrom([]string{"\xffnot ours", "\xfc\xc0\x00\x02\x01", "\xf8"}))
	genLimits = rapid.Custom(func(t *rapid.T) *limits {
		return &limits{
			window: rapid.IntRange(1, 70).Draw(t, "window"), lateness: rapid.IntRange(0, 70).Draw(t, "lateness"),
			maxIPs: rapid.IntRange(1, 6).Draw(t, "max_ips"), maxASNs: rapid.IntRange(1, 4).Draw(t, "max_asns"),
		}
	})
)

func alertID(i int) [16]byte { return [16]byte{0: byte(i), 1: byte(i >> 8), 15: 7} }

func TestAProfileAnswersLikeSetsOfHoursAlsoWhenItIsReadBackAtAnyTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := genLimits.Draw(t, "limits")
		p, m := newProfile(l), newModel(l)
		t.Repeat(map[string]func(*rapid.T){
			"see": func(t *rapid.T) {
				ip, asn, hour := genText.Draw(t, "ip"), genText.Draw(t, "asn"), genHour.Draw(t, "hour")
				before := string(p.appendTo(nil))
				p.changed = false
				p.See(ip, asn, hour)
				m.see(ip, asn, hour)
				if changed := before != string(p.appendTo(nil)); changed != p.changed {
					t.Fatalf("bytes changed: %v, marked changed: %v", changed, p.changed)
				}
			},
			"remember": func(t *rapid.T) {
				id, hour := alertID(rapid.IntRange(0, 9).Draw(t, "id")), genHour.Draw(t, "hour")
				p.Remember(id, hour)
				m.remember(id, hour)
			},
			"many alerts": func(t *rapid.T) {
				hour := genHour.Draw(t, "hour")
				for i := range rapid.IntRange(200, 300).Draw(t, "n") {
					p.Remember(alertID(100+i), hour)
					m.remember(alertID(100+i), hour)
				}
			},
			"read back": func(t *rapid.T) {
				bytes := p.appendTo(nil)
				q, err := decodeProfile(bytes, l)
				if err != nil {
					t.Fatal(err)
				}
				if again := q.appendTo(nil); string(again) != string(bytes) {
					t.Fatalf("%x reads back as %x", bytes, again)
				}
				p = q
			},
			"": func(t *rapid.T) {
				from := genHour.Draw(t, "from")
				for _, to := range []int32{from - 1, from, from + int32(l.window) - 1, genHour.Draw(t, "to")} {
					if got, want := answers(p, from, to), m.answers(from, to); got != want {
						t.Fatalf("[%d,%d]: got %s, want %s", from, to, got, want)
					}
				}
				text := genText.Draw(t, "text")
				if got, want := p.KnownIP(text, from, from+20), m.known(m.ips, modelKey(text), from, from+20); got != want {
					t.Fatalf("KnownIP(%q) = %v", text, got)
				}
				for i := range 400 {
					if got, want := p.Alerted(alertID(i)), m.alerted(alertID(i)); got != want {
						t.Fatalf("Alerted(%d) = %v", i, got)
					}
				}
			},
		})
	})
}

func TestBelowTheBoundsTheOrderOfSightingsAndTheirRepeatsDoNotMatter(t *testing.T) {
	type sighting struct {
		IP, ASN string
		Hour    int32
	}
	gen := rapid.Custom(func(t *rapid.T) sighting {
		return sighting{genText.Draw(t, "ip"), genText.Draw(t, "asn"), genHour.Draw(t, "hour")}
	})
	rapid.Check(t, func(t *rapid.T) {
		l := &limits{window: 40, lateness: rapid.IntRange(0, 70).Draw(t, "lateness"), maxIPs: 100, maxASNs: 100}
		seen := rapid.SliceOfN(gen, 1, 40).Draw(t, "sightings")
		learn := func(s []sighting) string {
			p := newProfile(l)
			for _, s := range s {
				p.See(s.IP, s.ASN, s.Hour)
			}
			return string(p.appendTo(nil))
		}
		twice := rapid.Permutation(append(slices.Clone(seen), seen...)).Draw(t, "shuffled")
		if a, b := learn(seen), learn(twice); a != b {
			t.Fatalf("%x in order, %x shuffled and doubled", a, b)
		}
	})
}
