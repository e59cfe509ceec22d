package tenant_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/prtwatch/prtwatch/internal/tenant"
)

func newTenant(t interface {
	Helper()
	Fatal(...any)
}, o tenant.Options,
) *tenant.Tenant {
	t.Helper()
	made, err := tenant.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// take returns at most n sign-ins.
func take(made *tenant.Tenant, n int) (all []tenant.SignIn) {
	for len(all) < n {
		s, ok := made.Next()
		if !ok {
			break
		}
		all = append(all, s)
	}
	return all
}

func drawOptions(t *rapid.T) tenant.Options {
	return tenant.Options{
		Users: rapid.IntRange(1, 20).Draw(t, "users"),
		Days:  rapid.IntRange(0, 3).Draw(t, "days"),
		Start: time.Date(2026, 11, 1, rapid.IntRange(0, 23).Draw(t, "hour"), 17, 3, 0, time.UTC),
		Seed:  rapid.Uint64().Draw(t, "seed"),
		Rate:  rapid.SampledFrom([]float64{0.01, 5, 3000}).Draw(t, "rate"),
		Shape: rapid.SampledFrom([]tenant.Shape{tenant.Diagnostic, tenant.Table, tenant.Mixed}).Draw(t, "shape"),
		Odd:   rapid.SampledFrom([]float64{0, 0.3, 1}).Draw(t, "odd"), Thefts: 50,
		PerUserDay: rapid.SampledFrom([]float64{0, 1, 30}).Draw(t, "per user and day"),
	}
}

func TestSameOptionsMakeTheSameBytesInOrderOfTimeAndEachIsARecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOptions(t)
		a, b := take(newTenant(t, o), 300), take(newTenant(t, o), 300)
		if len(a) != 300 {
			t.Fatalf("%d sign-ins of a tenant that goes on for ever", len(a))
		}
		seen := map[string]bool{}
		var last time.Time
		for i, s := range a {
			if !bytes.Equal(s.Record, b[i].Record) || s.ID != b[i].ID || s.Label != b[i].Label {
				t.Fatalf("sign-in %d differs between two tenants of the same options", i)
			}
			if s.Time.Before(last) {
				t.Fatalf("sign-in %d of %s comes after one of %s", i, s.Time, last)
			}
			last = s.Time
			if seen[s.ID] != (s.Label == tenant.LabelRepeat) {
				t.Fatalf("sign-in %d %s: seen before %t, label %q", i, s.ID, seen[s.ID], s.Label)
			}
			seen[s.ID] = true
			checkRecord(t, o, s)
		}
	})
}

// checkRecord holds what every record has, odd or not.
func checkRecord(t *rapid.T, o tenant.Options, s tenant.SignIn) {
	var fields map[string]any
	if err := json.Unmarshal(s.Record, &fields); err != nil {
		t.Fatalf("record is not JSON: %v\n%s", err, s.Record)
	}
	properties, diagnostic := fields["properties"].(map[string]any)
	when, layouts := fields["time"], []string{time.RFC3339Nano, "1/2/2006 3:04:05 PM"}
	id := properties["id"]
	if diagnostic {
		if o.Shape == tenant.Table || fields["category"] != "NonInteractiveUserSignInLogs" {
			t.Fatalf("record of shape %s: %s", o.Shape, s.Record)
		}
	} else {
		when, id = fields["TimeGenerated"], fields["Id"]
		if o.Shape == tenant.Diagnostic || fields["Type"] != "AADNonInteractiveUserSignInLogs" || fields["TenantId"] == fields["AADTenantId"] {
			t.Fatalf("record of shape %s: %s", o.Shape, s.Record)
		}
		var policies []any
		if err := json.Unmarshal([]byte(fields["ConditionalAccessPolicies"].(string)), &policies); err != nil || len(policies) == 0 {
			t.Fatalf("policies are no text of JSON: %v: %s", err, s.Record)
		}
	}
	if id != s.ID {
		t.Fatalf("id %v, record says %v", s.ID, id)
	}
	for _, layout := range layouts {
		if at, err := time.Parse(layout, when.(string)); err == nil {
			if !at.Equal(s.Time) {
				t.Fatalf("time %s, record says %v", s.Time, when)
			}
			return
		}
	}
	t.Fatalf("time in no known form: %v", when)
}

func TestHistoryEndsAndStaysWithinItsDays(t *testing.T) {
	o := tenant.Options{Users: 30, Days: 20, Seed: 3}
	made := newTenant(t, o)
	all := take(made, 1e6)
	start := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	if n := len(all); n < 20000 || n > 100000 {
		t.Errorf("%d sign-ins of 30 users in 20 days (seed 3)", n)
	}
	if first, last := all[0].Time, all[len(all)-1].Time; first.Before(start) || !last.Before(start.AddDate(0, 0, 20)) || last.Before(start.AddDate(0, 0, 20).Add(-time.Hour)) {
		t.Errorf("sign-ins from %s to %s", first, last)
	}
	if _, more := made.Next(); more {
		t.Error("goes on after its end")
	}
}

func TestPresentIsSpacedByItsRateFromTheEndOfTheHistory(t *testing.T) {
	made := newTenant(t, tenant.Options{Users: 50, Seed: 1, Rate: 100})
	start := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	var plain int
	for _, s := range take(made, 10000) {
		if s.Label != tenant.LabelRepeat && s.Label != tenant.LabelTheft {
			if want := start.Add(time.Duration(plain) * 10 * time.Millisecond); !s.Time.Equal(want) {
				t.Fatalf("sign-in %d is exported at %s, not %s", plain, s.Time, want)
			}
			plain++
		}
	}
}

func TestPresentBegunAnewIsTheSamePeopleUnderNewIDs(t *testing.T) {
	seen, people := map[string]bool{}, map[string]bool{}
	for _, o := range []tenant.Options{
		{Users: 20, Seed: 1, Days: 3},
		{Users: 20, Seed: 1, Rate: 100, Start: time.Date(2026, 11, 5, 0, 0, 0, 0, time.UTC)},
		{Users: 20, Seed: 1, Rate: 100, Start: time.Date(2026, 11, 6, 0, 0, 0, 0, time.UTC)},
	} {
		ids := map[string]bool{}
		for _, s := range take(newTenant(t, o), 2000) {
			if seen[s.ID] {
				t.Fatalf("%s is another sign-in's too", s.ID)
			}
			ids[s.ID] = true
			people[upn.FindString(strings.ToLower(string(s.Record)))] = true
		}
		maps.Copy(seen, ids) // afterwards: a repeat has the id of the first
	}
	if len(people) != 20 {
		t.Errorf("%d people, not 20", len(people))
	}
}

var upn = regexp.MustCompile(`"userprincipalname":"[^"]+"`)

func TestEveryLabelOccursAboutAsOftenAsItsRate(t *testing.T) {
	counts := map[string]int{}
	all := take(newTenant(t, tenant.Options{Users: 400, Days: 14, Seed: 5, PerUserDay: 15}), 1e7)
	thefts := map[int]bool{}
	for _, s := range all {
		counts[s.Label]++
		if s.Theft > 0 {
			thefts[s.Theft] = true
		}
		if (s.Label == tenant.LabelTheft) != (s.Step > 0) && s.Label != tenant.LabelRepeat {
			t.Fatalf("label %q with step %d", s.Label, s.Step)
		}
	}
	t.Logf("seed 5: %d sign-ins, %d thefts, labels %v", len(all), len(thefts), counts)
	if len(thefts) < 5 || len(thefts) > 30 {
		t.Errorf("%d thefts in 5,600 user-days at 2 per 1,000", len(thefts))
	}
	for label, share := range map[string][2]float64{
		"": {0.5, 0.9}, tenant.LabelRepeat: {0.027, 0.033}, tenant.LabelMobile: {0.05, 0.3}, tenant.LabelEgress: {0.005, 0.03},
		tenant.LabelTravel: {0.0003, 0.01}, tenant.LabelVPN: {0.0001, 0.01}, tenant.LabelPlace: {0.0003, 0.01}, tenant.LabelNewHire: {0.00001, 0.01},
		tenant.LabelISP: {0.00001, 0.01}, tenant.LabelTheft: {0.0001, 0.02},
	} {
		if got := float64(counts[label]) / float64(len(all)); got < share[0] || got > share[1] {
			t.Errorf("label %q on a share of %.5f, not within %v", label, got, share)
		}
	}
}

func TestAMedianWorkingDayHasTheSignInsThatWereAskedFor(t *testing.T) {
	perDay := map[[2]int]int{}
	for _, s := range take(newTenant(t, tenant.Options{Users: 300, Days: 5, Seed: 8, Thefts: -1}), 1e7) {
		if s.Label != tenant.LabelRepeat {
			perDay[[2]int{s.User, s.Created.YearDay()}]++
		}
	}
	var counts []int
	for _, n := range perDay {
		counts = append(counts, n)
	}
	slices.Sort(counts)
	median, p99 := counts[len(counts)/2], counts[len(counts)*99/100]
	t.Logf("seed 8: median %d, p99 %d", median, p99)
	if median < 65 || median > 95 || p99 < 500 || p99 > 1200 {
		t.Errorf("median %d and p99 %d sign-ins a user and day, not about 80 and 800", median, p99)
	}
}

func TestExportLagsTheSignInAsMeasured(t *testing.T) {
	for _, s := range take(newTenant(t, tenant.Options{Users: 50, Days: 3, Seed: 2}), 1e6) {
		lag := s.Time.Sub(s.Created)
		if s.Label != tenant.LabelRepeat && (lag < 28*time.Second || lag > 1077*time.Second) {
			t.Fatalf("sign-in %s was exported %s after it happened (seed 2)", s.ID, lag)
		}
	}
}

func TestRepeatShowsTheSameProperties(t *testing.T) {
	properties := map[string]string{}
	repeats := 0
	for _, s := range take(newTenant(t, tenant.Options{Users: 20, Days: 4, Seed: 4, Odd: 0.3}), 1e6) {
		_, p, _ := strings.Cut(string(s.Record), `"properties":`)
		if first, ok := properties[s.ID]; ok {
			repeats++
			if first != p {
				t.Fatalf("repeat of %s differs (seed 4):\n%s\n%s", s.ID, first, p)
			}
		}
		properties[s.ID] = p
	}
	if repeats == 0 {
		t.Error("no repeats")
	}
}

func TestRecordsAreAsBigAndAsRedundantAsRealOnes(t *testing.T) {
	for _, shape := range []tenant.Shape{tenant.Diagnostic, tenant.Table} {
		var sizes []int
		var policies, total int
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		for _, s := range take(newTenant(t, tenant.Options{Users: 100, Days: 1, Seed: 1, Shape: shape}), 3000) {
			var fields map[string]json.RawMessage
			if err := json.Unmarshal(s.Record, &fields); err != nil {
				t.Fatal(err)
			}
			p := fields["ConditionalAccessPolicies"]
			if p == nil {
				var properties map[string]json.RawMessage
				if err := json.Unmarshal(fields["properties"], &properties); err != nil {
					t.Fatal(err)
				}
				p = properties["appliedConditionalAccessPolicies"]
			}
			policies += len(p)
			total += len(s.Record)
			sizes = append(sizes, len(s.Record))
			z.Write(s.Record)
		}
		z.Close()
		slices.Sort(sizes)
		ratio, share := float64(total)/float64(zipped.Len()), float64(policies)/float64(total)
		t.Logf("%s: %d to %d bytes, median %d, policies %.0f %%, gzip %.1f to 1", shape, sizes[0], sizes[len(sizes)-1], sizes[len(sizes)/2], 100*share, ratio)
		// The real samples zip 10 to 1 over 14 records of 4 KB; with more of them, and with
		// more policies, better.
		if median := sizes[len(sizes)/2]; median < 3500 || median > 5600 || share < 0.45 || share > 0.8 || ratio < 6 || ratio > 20 {
			t.Errorf("%s: median %d bytes, policies %.2f of them, gzip %.1f to 1", shape, median, share, ratio)
		}
	}
}

func TestAddressesAndNetworksAreMadeOnes(t *testing.T) {
	var ranges []netip.Prefix
	for _, r := range strings.Fields("192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 100.64.0.0/10 198.18.0.0/15") {
		ranges = append(ranges, netip.MustParsePrefix(r))
	}
	for _, s := range take(newTenant(t, tenant.Options{Users: 60, Days: 4, Seed: 9, Thefts: 50}), 6000) {
		var r struct {
			Properties struct {
				IP  netip.Addr `json:"ipAddress"`
				ASN uint32     `json:"autonomousSystemNumber"`
				UPN string     `json:"userPrincipalName"`
			}
		}
		if err := json.Unmarshal(s.Record, &r); err != nil {
			t.Fatal(err)
		}
		p := r.Properties
		if !slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(p.IP) }) {
			t.Fatalf("address %s is someone's (seed 9)", p.IP)
		}
		if p.ASN != 0 && (p.ASN < 64496 || p.ASN > 65534) {
			t.Fatalf("ASN %d is someone's (seed 9)", p.ASN)
		}
		if !strings.HasSuffix(p.UPN, ".example.com") {
			t.Fatalf("UPN %s is someone's (seed 9)", p.UPN)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	made := newTenant(t, tenant.Options{Users: 5000, Rate: 1})
	seen := map[string]bool{}
	for i := range made.Users() {
		if upn := made.UPN(i); seen[upn] || upn != strings.ToLower(upn) {
			t.Fatalf("UPN %s of user %d", upn, i)
		}
		seen[made.UPN(i)] = true
	}
}

func TestTokenIdentifierIsTheIDInTheOrderOfWindows(t *testing.T) {
	check := func(record []byte) {
		var r struct {
			Properties struct {
				ID    string
				Token string `json:"uniqueTokenIdentifier"`
			}
		}
		if err := json.Unmarshal(record, &r); err != nil {
			t.Fatal(err)
		}
		id, err := hex.DecodeString(strings.ReplaceAll(r.Properties.ID, "-", ""))
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(id[0:4])
		slices.Reverse(id[4:6])
		slices.Reverse(id[6:8])
		if want := base64.RawURLEncoding.EncodeToString(id); want != r.Properties.Token {
			t.Errorf("token identifier of %s is %s, not %s", r.Properties.ID, r.Properties.Token, want)
		}
	}
	// A real one first, so that the check itself is right.
	check([]byte(`{"properties":{"id":"2c145df4-1280-43b6-979e-1d4602dc1800","uniqueTokenIdentifier":"9F0ULIAStkOXnh1GAtwYAA"}}`))
	for _, s := range take(newTenant(t, tenant.Options{Rate: 1}), 100) {
		check(s.Record)
	}
}

func TestScriptedTheftTakesPlaceStepByStepAndLeavesTheOthersAsTheyWere(t *testing.T) {
	o := tenant.Options{Users: 20, Days: 1, Rate: 50, Seed: 6, Thefts: -1}
	without, with := newTenant(t, o), newTenant(t, o)
	var before []tenant.SignIn
	start := time.Date(2026, 11, 3, 0, 0, 10, 0, time.UTC)
	plan := with.Plan(7, start, 3*time.Second)
	number, err := with.Steal(plan)
	if err != nil {
		t.Fatal(err)
	}
	var steps int
	for {
		s, _ := with.Next()
		if s.Time.After(start.Add(time.Minute)) {
			break
		}
		if s.Theft == 0 {
			before = append(before, s)
			continue
		}
		step := plan.Steps[steps]
		steps++
		if s.Theft != number || s.Step != steps || s.Label != tenant.LabelTheft || s.User != 7 || !s.Time.Equal(start.Add(step.After)) {
			t.Errorf("step %d came as %+v", steps, s)
		}
		for _, text := range []string{plan.IP.String(), plan.UPN, step.Resource, plan.Agent} {
			if !bytes.Contains(s.Record, []byte(`"`+text+`"`)) {
				t.Errorf("step %d does not show %q: %s", steps, text, s.Record)
			}
		}
	}
	if steps != len(plan.Steps) {
		t.Errorf("%d of %d steps took place", steps, len(plan.Steps))
	}
	for i, s := range take(without, len(before)) {
		if !bytes.Equal(s.Record, before[i].Record) {
			t.Fatalf("sign-in %d is another one because of the theft (seed 6)", i)
		}
	}
	if _, err := with.Steal(plan); err == nil {
		t.Error("a theft in the past was accepted")
	}
}

func TestMessagesHoldEveryRecordOnceWithinTheirBounds(t *testing.T) {
	var p tenant.Packer
	var messages [][]byte
	signIns := take(newTenant(t, tenant.Options{Rate: 10, Seed: 1}), 2000)
	for _, s := range signIns {
		if m := p.Add(s.Record); m != nil {
			messages = append(messages, m)
		}
	}
	messages = append(messages, p.Flush())
	if p.Flush() != nil {
		t.Error("an empty message")
	}
	next := 0
	for i, m := range messages {
		if len(m) > tenant.MaxMessageBytes || i < len(messages)-1 && len(m) < 200<<10 {
			t.Errorf("message %d has %d bytes", i, len(m))
		}
		var envelope struct{ Records []json.RawMessage }
		if err := json.Unmarshal(m, &envelope); err != nil {
			t.Fatal(err)
		}
		for _, r := range envelope.Records {
			if !bytes.Equal(r, signIns[next].Record) {
				t.Fatalf("record %d is another one in its message", next)
			}
			next++
		}
	}
	if next != len(signIns) {
		t.Errorf("%d of %d records in messages", next, len(signIns))
	}
	few := tenant.Packer{MaxRecords: 3}
	for i, s := range signIns[:4] {
		if full := few.Add(s.Record) != nil; full != (i == 3) {
			t.Errorf("record %d filled a message of three: %t", i, full)
		}
	}
}

func TestMemoryDoesNotGrowWithTheDays(t *testing.T) {
	made := newTenant(t, tenant.Options{Users: 40, Days: 400, Seed: 1, PerUserDay: 10})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	pass := func(n int) {
		for range n {
			if _, ok := made.Next(); !ok {
				t.Fatal("ended")
			}
		}
	}
	pass(10_000)
	before := heap()
	pass(90_000)
	if after := heap(); after > before+2<<20 {
		t.Errorf("the heap grew from %d to %d bytes over 90,000 sign-ins", before, after)
	}
	runtime.KeepAlive(made)
}

func TestWrongOptionsAreNamed(t *testing.T) {
	for name, o := range map[string]tenant.Options{
		"users": {Users: -1, Days: 1}, "days": {Days: -1}, "days 50000": {Days: 50000}, "rate": {Rate: -1}, "odd": {Odd: 2, Days: 1}, "shape": {Shape: 9, Days: 1},
		"days 0 and rate 0": {}, "user-day": {PerUserDay: -1, Days: 1},
	} {
		if _, err := tenant.New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s, err := tenant.ParseShape("mixed"); s != tenant.Mixed || err != nil {
		t.Error(s, err)
	}
	if _, err := tenant.ParseShape("flat"); err == nil {
		t.Error("a shape called flat")
	}
}

func BenchmarkNext(b *testing.B) {
	for _, o := range []tenant.Options{{Users: 1000, Days: 36500}, {Users: 1000, Days: 36500, Shape: tenant.Table}, {Users: 1000, Rate: 1000}} {
		name := "history/" + o.Shape.String()
		if o.Rate > 0 {
			name = "present"
		}
		b.Run(name, func(b *testing.B) {
			made := newTenant(b, o)
			b.ReportAllocs()
			for b.Loop() {
				s, _ := made.Next()
				b.SetBytes(int64(len(s.Record)))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
