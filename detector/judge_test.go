package detector

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// noon is a whole hour that the tests count from.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// theft is a sign-in that alerts where nothing is known of its user.
func theft(change ...func(*SignIn)) *SignIn {
	s := &SignIn{
		ID: "3b0cf6b8-8a43-4f0d-a0a6-2b8f4b5c1d00", Generated: noon.Add(-10 * time.Minute), Created: noon.Add(-15 * time.Minute),
		UPN: "Alice@example.com", UserID: "6431a421-e8f1-4793-85fc-8b3f7c2f21ca", TenantID: "4d3bac44-0230-4732-9e70-cc00736f0a97",
		IP: "203.0.113.7", ASN: "64500", Country: "NL", ResultType: "0", ResourceName: "Microsoft Intune",
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func at(t time.Time) func(*SignIn) { return func(s *SignIn) { s.Generated = t } }
func from(ip, asn string) func(*SignIn) {
	return func(s *SignIn) { s.IP, s.ASN = ip, asn }
}
func id(id string) func(*SignIn) { return func(s *SignIn) { s.ID = id } }

func newDetector(t testing.TB, change ...func(*Config)) *Detector {
	t.Helper()
	cfg := DefaultConfig()
	for _, c := range change {
		c(&cfg)
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// judge judges, and validates the alert where there is one.
func judge(t testing.TB, d *Detector, s *SignIn, a *Allowlist, h History) Verdict {
	t.Helper()
	v := d.Judge(s, a, h)
	if (v.Alert != nil) != (v.Outcome == Alerted) {
		t.Fatalf("outcome %s with alert %v", v.Outcome, v.Alert)
	}
	if v.Alert != nil {
		validate(t, v.Alert.JSON())
	}
	return v
}

func outcome(t *testing.T, d *Detector, s *SignIn, h History) Outcome {
	t.Helper()
	return judge(t, d, s, nil, h).Outcome
}

func TestTheStepThatDecidesIsNamed(t *testing.T) {
	allowed := parseAllowlist(t, "198.51.100.0/24")
	for _, c := range []struct {
		want   Outcome
		name   string
		change func(*SignIn)
	}{
		{Alerted, "alerted", func(s *SignIn) {}},
		{Failed, "failed", func(s *SignIn) { s.ResultType = "50126" }},
		{Failed, "failed", func(s *SignIn) { s.ResultType = "" }},
		{Failed, "failed", func(s *SignIn) { s.ResultType = "00" }},
		{OtherAddress, "other_address", func(s *SignIn) { s.IP = "2001:db8::7" }},
		{OtherAddress, "other_address", func(s *SignIn) { s.IP = "::ffff:203.0.113.7" }},
		{OtherAddress, "other_address", func(s *SignIn) { s.IP = "203.0.113.7:443" }},
		{OtherAddress, "other_address", func(s *SignIn) { s.IP = "" }},
		{OtherAddress, "other_address", func(s *SignIn) { s.IP = "203.0.113.007" }},
		{Allowlisted, "allowlisted", func(s *SignIn) { s.IP = "198.51.100.7" }},
		{OtherResource, "other_resource", func(s *SignIn) { s.ResourceName = "Microsoft Graphics" }},
		{OtherResource, "other_resource", func(s *SignIn) { s.ResourceName = "" }},
		{Alerted, "alerted", func(s *SignIn) { s.ResourceName = "microsoft graph powershell" }},
		{MultiFactor, "multi_factor", func(s *SignIn) { s.MFA = MFAMentioned }},
		{Alerted, "alerted", func(s *SignIn) { s.MFA = 1 << 7 }}, // a bit that the query does not know
		{Alerted, "alerted", func(s *SignIn) { s.UPN, s.UserID, s.TenantID, s.ASN, s.Country = "", "", "", "", "" }},
	} {
		s := theft(c.change)
		v := judge(t, newDetector(t), s, allowed, newHistory())
		if v.Outcome != c.want || v.Outcome.String() != c.name {
			t.Errorf("%+v: %s, want %s", s, v.Outcome, c.want)
		}
	}
	if got := Outcome(200).String(); got != "unknown" {
		t.Errorf("an outcome that is none is called %q", got)
	}
}

func TestANetworkIsKnownFromTheNextHourForThreeHundredThirtyFiveHours(t *testing.T) {
	d := newDetector(t)
	for name, teach := range map[string]func(*SignIn){
		"address": from("203.0.113.7", "64501"),
		"network": from("203.0.113.8", "64500"),
	} {
		known := map[string]Outcome{"address": KnownAddress, "network": KnownNetwork}[name]
		for _, c := range []struct {
			taught, judged time.Time
			want           Outcome
		}{
			{noon.Add(-time.Hour), noon, known},                                  // the last instant of the hour before
			{noon.Add(-time.Hour + 1), noon, Alerted},                            // the same hour
			{noon, noon.Add(1), known},                                           // the next hour has begun
			{noon.Add(-14*24*time.Hour + 1), noon, known},                        // the first instant of the first hour
			{noon.Add(-14 * 24 * time.Hour), noon, Alerted},                      // the instant that only the query counts
			{noon.Add(-14*24*time.Hour + 1), noon.Add(1), Alerted},               // one hour on, it is forgotten
			{noon.Add(time.Hour), noon, Alerted},                                 // the future is no past
			{noon.Add(-14*24*time.Hour + 1), noon.Add(-time.Hour).Add(1), known}, // any instant of the hour
		} {
			h := newHistory()
			outcome(t, d, theft(id("teaches"), teach, at(c.taught)), h)
			if got := outcome(t, d, theft(at(c.judged)), h); got != c.want {
				t.Errorf("%s taught at %s, judged at %s: %s, want %s", name, c.taught, c.judged, got, c.want)
			}
		}
	}
}

func TestEverySignInTeaches(t *testing.T) {
	allowed := parseAllowlist(t, "203.0.113.7")
	for name, change := range map[string]func(*SignIn){
		"failed":           func(s *SignIn) { s.ResultType = "50126" },
		"another resource": func(s *SignIn) { s.ResourceName = "Office 365 Exchange Online" },
		"with MFA":         func(s *SignIn) { s.MFA = MFAMentioned },
		"mapped":           func(s *SignIn) { s.IP = "::ffff:203.0.113.7" },
		"with port":        func(s *SignIn) { s.IP = "203.0.113.7:51234" },
		"allowlisted":      func(s *SignIn) {},
	} {
		d, h := newDetector(t), newHistory()
		judge(t, d, theft(id("teaches"), at(noon.Add(-3*time.Hour)), change, func(s *SignIn) { s.ASN = "64511" }), allowed, h)
		if got := outcome(t, d, theft(), h); got != KnownAddress {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestAMissingASNIsKnownLikeAnyOther(t *testing.T) {
	d, h := newDetector(t), newHistory()
	outcome(t, d, theft(id("teaches"), at(noon.Add(-3*time.Hour)), from("2001:db8::1", "")), h)
	if got := outcome(t, d, theft(from("203.0.113.7", "")), h); got != KnownNetwork {
		t.Errorf("a second sign-in without ASN: %s", got)
	}
}

func TestAnAlertSaysWhetherTheUserHasABaseline(t *testing.T) {
	d, h := newDetector(t), newHistory()
	if a := judge(t, d, theft(id("a"), at(noon.Add(-30*time.Hour))), nil, h).Alert; a.Reason != NoBaseline || !a.Baseline.empty() || a.Baseline.FirstHour != "" {
		t.Errorf("first of all: %s, %+v", a.Reason, a.Baseline)
	}
	// The same hour: still nothing is known.
	if a := judge(t, d, theft(id("b"), at(noon.Add(-30*time.Hour)), from("203.0.113.8", "64501")), nil, h).Alert; a.Reason != NoBaseline {
		t.Errorf("same hour: %s", a.Reason)
	}
	h.evicted = 4
	a := judge(t, d, theft(id("c"), at(noon), from("192.0.2.1", "64502")), nil, h).Alert
	want := AlertBaseline{IPs: 2, ASNs: 2, FirstHour: "2026-11-22T06:00:00Z", LastHour: "2026-11-22T06:00:00Z", Evicted: 4}
	if a.Reason != NewNetwork || a.Baseline != want {
		t.Errorf("a day later: %s, %+v", a.Reason, a.Baseline)
	}
}

func TestASignInThatComesTwiceAlertsOnce(t *testing.T) {
	d, h := newDetector(t), newHistory()
	if got := outcome(t, d, theft(), h); got != Alerted {
		t.Fatal(got)
	}
	copied := theft(func(s *SignIn) { s.Generated = s.Generated.Add(time.Minute) })
	if got := outcome(t, d, copied, h); got != Repeated {
		t.Errorf("its copy: %s", got)
	}
	// A copy may teach another hour, and is then known by the first one's.
	copied.Generated = noon.Add(time.Minute)
	if got := outcome(t, d, copied, h); got != KnownAddress {
		t.Errorf("its copy of the next hour: %s", got)
	}
	sibling := theft(id("another"), func(s *SignIn) { s.CorrelationID = "the same flow" })
	if got := outcome(t, d, sibling, h); got != Alerted {
		t.Errorf("another sign-in of the flow: %s", got)
	}
}

func TestASignInFromTheFutureIsJudgedAtItsArrival(t *testing.T) {
	d := newDetector(t)
	for _, c := range []struct {
		ahead   time.Duration
		clamped bool
	}{{-time.Hour, false}, {0, false}, {15 * time.Minute, false}, {15*time.Minute + 1, true}, {1000 * time.Hour, true}} {
		h := newHistory()
		s := theft(func(s *SignIn) { s.Arrived = noon; s.Generated = noon.Add(c.ahead) })
		v := judge(t, d, s, nil, h)
		taught := HourOf(s.Generated)
		if c.clamped {
			taught = HourOf(noon)
		}
		if v.Clamped != c.clamped || v.Alert.Clamped != c.clamped || h.newest != taught {
			t.Errorf("%s ahead: clamped %v, %v in the alert, taught %s", c.ahead, v.Clamped, v.Alert.Clamped, HourTime(h.newest))
		}
		if want := formatTime(s.Generated); v.Alert.Time != want {
			t.Errorf("%s ahead: the alert is dated %s, the sign-in %s", c.ahead, v.Alert.Time, want)
		}
		s.Arrived = time.Time{}
		if judge(t, d, s, nil, newHistory()).Clamped {
			t.Errorf("%s ahead of no arrival: clamped", c.ahead)
		}
	}
}

func TestLatenessIsAskedBeforeTheSignInTeaches(t *testing.T) {
	d, h := newDetector(t), newHistory()
	h.reach = 48
	for _, c := range []struct {
		at   time.Time
		late bool
	}{{noon, false}, {noon.Add(-48 * time.Hour), false}, {noon.Add(-49 * time.Hour), true}, {noon.Add(100 * time.Hour), false}} {
		v := judge(t, d, theft(id(c.at.String()), at(c.at), from("192.0.2."+fmt.Sprint(len(h.ips)), fmt.Sprint(64496+len(h.ips)))), nil, h)
		if v.Late != c.late || v.Alert.Late != c.late {
			t.Errorf("at %s: late %v, %v in the alert", c.at, v.Late, v.Alert.Late)
		}
	}
}

func TestTheConfiguredTimeDecidesTheHour(t *testing.T) {
	s := theft(func(s *SignIn) { s.Generated, s.Created = noon.Add(time.Minute), noon.Add(-time.Minute) })
	for eventTime, want := range map[string]time.Time{EventTimeGenerated: s.Generated, EventTimeCreated: s.Created} {
		d, h := newDetector(t, func(c *Config) { c.EventTime = eventTime }), newHistory()
		if a := judge(t, d, s, nil, h).Alert; h.newest != HourOf(want) || a.Time != formatTime(want) {
			t.Errorf("%s: taught %s, alert of %s", eventTime, HourTime(h.newest), a.Time)
		}
	}
	s.Created = time.Time{}
	h := newHistory()
	judge(t, newDetector(t, func(c *Config) { c.EventTime = EventTimeCreated }), s, nil, h)
	if h.newest != HourOf(s.Generated) {
		t.Errorf("without createdDateTime: taught %s", HourTime(h.newest))
	}
}

func TestTheUserKeyIsTheLowerCasedUPN(t *testing.T) {
	byUPN, byID := newDetector(t), newDetector(t, func(c *Config) { c.Identity = IdentityUPNOrID })
	for _, c := range []struct{ upn, id, wantUPN, wantID string }{
		{"Alice@Example.COM", "6431A421", "alice@example.com", "alice@example.com"},
		{"ÉMILE@example.com", "", "émile@example.com", "émile@example.com"},
		{"", "6431A421", "", "6431A421"},
		{"", "", "", ""},
	} {
		s := &SignIn{UPN: c.upn, UserID: c.id}
		if got := byUPN.UserKey(s); got != c.wantUPN {
			t.Errorf("%q/%q by UPN: %q", c.upn, c.id, got)
		}
		if got := byID.UserKey(s); got != c.wantID {
			t.Errorf("%q/%q by UPN or id: %q", c.upn, c.id, got)
		}
	}
}

func TestJudgingKeepsNothingOfASignInThatIsReused(t *testing.T) {
	d, h := newDetector(t), newHistory()
	managed := true
	s := theft(func(s *SignIn) { s.DeviceManaged = &managed })
	a := judge(t, d, s, nil, h).Alert
	before := string(a.JSON())
	managed = false
	*s = SignIn{}
	if after := string(a.JSON()); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
}

// draw makes sign-ins of few users, networks and resources, in any order around few hours
// that matter, so that everything meets everything.
func drawSignIn(t *rapid.T) *SignIn {
	hours := rapid.SampledFrom([]int{0, 1, 2, 47, 48, 49, 200, 334, 335, 336, 337}).Draw(t, "hour")
	within := rapid.SampledFrom([]time.Duration{0, 100, time.Minute, time.Hour - 100}).Draw(t, "within the hour")
	s := &SignIn{
		ID:           rapid.SampledFrom([]string{"1", "2", "3", "4", "5", "6", "7", "8"}).Draw(t, "id"),
		Generated:    noon.Add(time.Duration(hours)*time.Hour + within),
		UPN:          rapid.SampledFrom([]string{"a@example.com", "A@Example.com", "b@example.com", ""}).Draw(t, "upn"),
		UserID:       rapid.SampledFrom([]string{"", "id-1", "id-2"}).Draw(t, "user id"),
		TenantID:     rapid.SampledFrom([]string{"", "4d3bac44-0230-4732-9e70-cc00736f0a97", "a b/ü"}).Draw(t, "tenant"),
		IP:           rapid.SampledFrom([]string{"203.0.113.7", "203.0.113.8", "::ffff:203.0.113.7", "203.0.113.8:443", "198.51.100.9", "2001:db8::7", "2001:DB8:0::7", "", "garbage", "192.0.2.1", "192.0.2.01", "[2001:db8::7]:1"}).Draw(t, "ip"),
		ASN:          rapid.SampledFrom([]string{"64500", "64501", "64502", "", "AS64500"}).Draw(t, "asn"),
		Country:      rapid.SampledFrom([]string{"", "NL"}).Draw(t, "country"),
		ResultType:   rapid.SampledFrom([]string{"0", "0", "0", "50126", ""}).Draw(t, "result"),
		ResourceName: rapid.SampledFrom([]string{"Microsoft Intune", "windows 365", "x (MICROSOFT GRAPH)", "Microsoft Graphics", ""}).Draw(t, "resource"),
		MFA:          MFA(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "mfa")),
		UserAgent:    rapid.String().Draw(t, "user agent"),
		AppID:        rapid.SampledFrom([]string{"", "app"}).Draw(t, "app"),
		DeviceName:   rapid.SampledFrom([]string{"", "<laptop>"}).Draw(t, "device"),
		Truncated:    rapid.Bool().Draw(t, "truncated"),
	}
	if rapid.Bool().Draw(t, "has created") {
		s.Created = s.Generated.Add(-rapid.SampledFrom([]time.Duration{0, time.Minute, 18 * time.Minute}).Draw(t, "delay"))
	}
	if rapid.Bool().Draw(t, "has arrived") {
		s.Arrived = s.Generated.Add(rapid.SampledFrom([]time.Duration{-100 * time.Hour, -15*time.Minute - 100, -15 * time.Minute, time.Hour}).Draw(t, "arrival"))
	}
	if rapid.Bool().Draw(t, "has managed") {
		managed := rapid.Bool().Draw(t, "managed")
		s.DeviceManaged = &managed
	}
	return s
}

func TestJudgeSaysWhatTheRuleSays(t *testing.T) {
	allowed := parseAllowlist(t, "198.51.100.0/24\n2001:db8::/32")
	outcomes := map[Outcome]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := &twin{
			created: rapid.Bool().Draw(t, "event_time created"), byID: rapid.Bool().Draw(t, "identity upn_or_id"),
			maxFuture: 15 * time.Minute, allowed: []string{"198.51.100.0/24"}, alerted: map[string]bool{},
		}
		d := newDetectorFor(t, w)
		histories := map[string]*history{}
		var last SignIn
		for i := range rapid.IntRange(1, 30).Draw(t, "sign-ins") {
			s := drawSignIn(t)
			if i > 0 && rapid.IntRange(0, 3).Draw(t, "again") == 0 {
				*s = last // as some are delivered
			}
			last = *s
			user := d.UserKey(s)
			if histories[user] == nil {
				histories[user] = newHistory()
			}
			v, want := d.Judge(s, allowed, histories[user]), w.judge(s)
			outcomes[v.Outcome]++
			if v.Outcome.String() != want.outcome || v.Clamped != want.clamped || v.Late {
				t.Fatalf("sign-in %d %+v: %+v, the rule says %+v", i, s, v, want)
			}
			if v.Alert == nil {
				continue
			}
			validate(t, v.Alert.JSON())
			a := v.Alert
			known := AlertBaseline{IPs: want.ips, ASNs: want.asns, FirstHour: want.first, LastHour: want.last}
			if string(a.Reason) != want.reason || a.Baseline != known || a.Clamped != want.clamped || a.Truncated != s.Truncated {
				t.Fatalf("sign-in %d %+v: alert %s, the rule says %+v", i, s, a.JSON(), want)
			}
		}
	})
	for o := Failed; o <= Alerted; o++ {
		if outcomes[o] == 0 {
			t.Errorf("no sign-in was made that is %s", o)
		}
	}
}

func newDetectorFor(t *rapid.T, w *twin) *Detector {
	cfg := DefaultConfig()
	if w.created {
		cfg.EventTime = EventTimeCreated
	}
	if w.byID {
		cfg.Identity = IdentityUPNOrID
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// known is a History to which every network is known; it costs nothing.
type known struct{ History }

func (known) KnownIP(string, int32, int32) bool { return true }
func (known) See(string, string, int32)         {}
func (known) Late(int32) bool                   { return false }

func TestASignInFromAKnownNetworkCostsNoAllocation(t *testing.T) {
	d, s := newDetector(t), theft(func(s *SignIn) { s.UPN = "alice@example.com" })
	if n := testing.AllocsPerRun(100, func() {
		if d.UserKey(s) == "" || d.Judge(s, nil, known{}).Outcome != KnownAddress {
			t.Fatal("not known")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	s.IP = "2001:db8::7"
	if n := testing.AllocsPerRun(100, func() { d.Judge(s, nil, known{}) }); n != 0 {
		t.Errorf("IPv6: %v allocations", n)
	}
}

func BenchmarkJudge(b *testing.B) {
	d := newDetector(b)
	var text strings.Builder
	for i := range 10 {
		fmt.Fprintf(&text, "10.%d.0.0/16\n", i)
	}
	ten := parseAllowlist(b, text.String())
	if ten.Contains(netip.MustParseAddr("203.0.113.7")) {
		b.Fatal("allowed")
	}
	for name, c := range map[string]struct {
		signIn  *SignIn
		allowed *Allowlist
	}{
		"known network":                         {theft(), nil},
		"known network, 10 ranges are allowed":  {theft(), ten},
		"other resource, 10 ranges are allowed": {theft(func(s *SignIn) { s.ResourceName = "Office 365 Exchange Online" }), ten},
		"IPv6":                                  {theft(func(s *SignIn) { s.IP = "2001:db8:1:2:3:4:5:6" }), nil},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.Judge(c.signIn, c.allowed, known{})
			}
		})
	}
	b.Run("alert", func(b *testing.B) {
		b.ReportAllocs()
		s := theft()
		for b.Loop() {
			d.Judge(s, nil, unknown{}).Alert.JSON()
		}
	})
}

// unknown is a History that knows nothing and learns nothing.
type unknown struct{ History }

func (unknown) KnownIP(string, int32, int32) bool            { return false }
func (unknown) KnownASN(string, int32, int32) bool           { return false }
func (unknown) See(string, string, int32)                    {}
func (unknown) Late(int32) bool                              { return false }
func (unknown) Alerted([16]byte) bool                        { return false }
func (unknown) Remember([16]byte, int32)                     {}
func (unknown) Evicted(int32) int                            { return 0 }
func (unknown) Counts(int32, int32) (int, int, int32, int32) { return 0, 0, 0, 0 }
