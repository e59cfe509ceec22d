package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// passage is one sign-in of a format's story. Phase says when it comes: what is "judged" is in the profiles, what is
// "waiting" has been split and not judged, and the "next" come after the upgrade.
type passage struct {
	Phase string    `json:"phase"`
	ID    string    `json:"id"`
	User  string    `json:"user"`
	IP    string    `json:"ip"`
	ASN   string    `json:"asn"`
	At    time.Time `json:"at"`
	Fails bool      `json:"fails,omitempty"`
}

// story is told to every format: it needs every field of a profile, the far edge of the window,
// and an alert that is remembered.
func story(now time.Time) (all []passage) {
	last := now.UTC().Truncate(time.Hour).Add(-time.Hour) // the hour of what comes next
	see := func(phase, user, ip, asn string, hoursBack, minute int, fails bool) {
		all = append(all, passage{
			Phase: phase, ID: fmt.Sprintf("sign-in-%d", len(all)+1), User: user, IP: ip, ASN: asn,
			At: last.Add(-time.Duration(hoursBack)*time.Hour - time.Duration(minute)*time.Minute), Fails: fails,
		})
	}
	const ann, bob, carol, dave, eve = "ann@example.com", "bob@example.com", "carol@example.com", "dave@example.com", "eve@example.com"
	see("judged", ann, "203.0.113.2", "64503", 336, 1, true) // forgotten by then
	see("judged", ann, "203.0.113.1", "64501", 335, 1, true) // just known
	for day := range 10 {
		see("judged", ann, "198.51.100.7", "64500", 300-24*day, 2, true)
		see("judged", bob, fmt.Sprintf("2001:db8:%d::1", 1+day), "64504", 299-24*day, 3, true)
	}
	see("judged", bob, "", "", 60, 4, true)
	see("judged", bob, "no address, but a text that is longer than any address", "64505", 59, 5, true)
	see("judged", bob, "198.51.100.9:443", "64506", 58, 6, true)
	for n := range 40 {
		see("judged", dave, fmt.Sprintf("192.0.2.%d", n), fmt.Sprint(64496+n%12), 80-n, 7, n%3 > 0)
	}
	see("judged", "", "198.51.100.20", "64507", 40, 8, false) // alerts: nobody's first
	see("judged", carol, "198.51.100.30", "64508", 30, 9, false)
	repeated := all[len(all)-1] // alerts, and comes again under the same id
	slices.SortStableFunc(all, func(x, y passage) int { return x.At.Compare(y.At) })

	repeated.Phase, repeated.At = "waiting", last.Add(-150*time.Minute)
	all = append(all, repeated)
	see("waiting", ann, "198.51.100.7", "64509", 2, 20, false)  // a known address
	see("waiting", ann, "198.51.100.40", "64500", 2, 19, false) // a known network
	see("waiting", ann, "198.51.100.41", "64510", 2, 18, false) // alerts
	see("next", ann, "203.0.113.1", "64510", 0, 17, false)      // known for an hour more
	see("next", ann, "203.0.113.2", "64503", 0, 16, false)      // alerts
	see("next", bob, "198.51.100.9", "64511", 0, 15, false)     // the address is known without its port
	see("next", bob, "198.51.100.50", "64505", 0, 14, false)    // known by the network of a text
	see("next", bob, "198.51.100.51", "64511", 0, 13, false)    // alerts
	see("next", dave, "192.0.2.39", "64511", 0, 12, false)      // known
	see("next", dave, "198.51.100.52", "64509", 0, 11, false)   // alerts
	see("next", carol, "198.51.100.30", "64508", 0, 10, false)  // known since it alerted
	see("next", eve, "198.51.100.53", "64508", 0, 9, false)     // alerts: nothing is known of him
	see("next", "", "198.51.100.20", "64511", 0, 8, false)      // known
	return all
}

// inPhase returns what comes in a phase, as a test writes it.
func inPhase(story []passage, phase string) (list []made) {
	for _, p := range story {
		if p.Phase == phase {
			list = append(list, made{id: p.ID, user: p.User, ip: p.IP, asn: p.ASN, at: p.At, fails: p.Fails})
		}
	}
	return list
}

// profiles are by user: the hours in which each network was seen, and the ids of what alerted.
type profiles map[string]*formatProfile

type formatProfile struct {
	IPs    map[string][]int32 `json:"ips"`
	ASNs   map[string][]int32 `json:"asns"`
	Alerts []string           `json:"alerts,omitempty"`
}

// learned is what the judged passages teach, by the rule as it is written down: every sign-in is
// remembered under its hour (docs/semantics.md).
func learned(story []passage) profiles {
	learned := make(profiles)
	for _, p := range story {
		if p.Phase != "judged" {
			continue
		}
		of := learned[p.User]
		if of == nil {
			of = &formatProfile{IPs: map[string][]int32{}, ASNs: map[string][]int32{}}
			learned[p.User] = of
		}
		hour := detector.HourOf(p.At)
		ip := strings.TrimSuffix(p.IP, ":443") // baselines know addresses without their port
		of.IPs[ip], of.ASNs[p.ASN] = append(of.IPs[ip], hour), append(of.ASNs[p.ASN], hour)
	}
	return learned
}

// wantProfiles compares a state with what a format's folder says of it.
func (l *left) wantProfiles(t *testing.T, store *state.Store) {
	t.Helper()
	ips, asns := make(map[string]bool), make(map[string]bool)
	for _, p := range l.profiles {
		maps.Copy(ips, asSet(slices.Collect(maps.Keys(p.IPs))))
		maps.Copy(asns, asSet(slices.Collect(maps.Keys(p.ASNs))))
	}
	for user, want := range l.profiles {
		lease, err := store.Lease(t.Context(), kafka.Partition([]byte(user), formatPartitions))
		if err != nil {
			t.Fatal(err)
		}
		got, err := lease.Profile(user)
		if err != nil {
			t.Fatal(err)
		}
		newest := int32(math.MinInt32)
		for _, hours := range want.IPs {
			newest = max(newest, slices.Max(hours))
		}
		for hour := newest - detector.Window; hour <= newest+1; hour++ {
			for ip := range ips {
				if known := slices.Contains(want.IPs[ip], hour); got.KnownIP(ip, hour, hour) != known {
					t.Errorf("%q was at address %q in hour %d: want %t", user, ip, hour, known)
				}
			}
			for asn := range asns {
				if known := slices.Contains(want.ASNs[asn], hour); got.KnownASN(asn, hour, hour) != known {
					t.Errorf("%q was in network %q in hour %d: want %t", user, asn, hour, known)
				}
			}
		}
		for _, id := range want.Alerts {
			if !got.Alerted(uuid.MustParse(id)) {
				t.Errorf("%q: the alert %s is forgotten", user, id)
			}
		}
		if err := lease.Release(); err != nil {
			t.Fatal(err)
		}
	}
}

func asSet(list []string) map[string]bool {
	set := make(map[string]bool)
	for _, one := range list {
		set[one] = true
	}
	return set
}
