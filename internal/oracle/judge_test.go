package oracle_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/oracle"
	"github.com/prtwatch/prtwatch/internal/tenant"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/entra"
)

// verdict is what the oracle and the detector must agree on about a sign-in that alerts.
type verdict struct {
	id     string
	reason detector.Reason
	shown  string // what the query projects and what it was joined with
}

func verdictOfRow(row oracle.Row) verdict {
	v := verdict{id: row.ID, reason: detector.NewNetwork}
	first, last := "", ""
	if row.NoBaseline {
		v.reason = detector.NoBaseline
	} else {
		hour := func(t time.Time) string { return detector.HourTime(detector.HourOf(t)).Format(time.RFC3339) }
		first, last = hour(row.First), hour(row.Last)
	}
	v.shown = fmt.Sprintf("%s %s %s %q %q %q %q, %d and %d known %s to %s", row.Dated.Format("2006-01-02T15:04:05.0000000Z"), row.UPN, row.IP,
		row.Resource, row.App, row.UserAgent, row.Country+" "+row.Tenant, row.KnownIPs, row.KnownASNs, first, last)
	return v
}

func verdictOfAlert(a *detector.Alert) verdict {
	b := a.Baseline
	return verdict{strings.Clone(a.SignIn.ID), a.Reason, fmt.Sprintf("%s %s %s %q %q %q %q, %d and %d known %s to %s", a.Time, strings.ToLower(a.User.UPN), a.Source.IP,
		a.Resource.Name, a.App.Name, a.UserAgent, a.Source.Country+" "+a.User.TenantID, b.IPs, b.ASNs, b.FirstHour, b.LastHour)}
}

// trial is a generated tenant and how its sign-ins are judged.
type trial struct {
	made      tenant.Options
	thefts    []tenant.Theft
	allowlist []string
	eventTime string
	shuffle   uint64 // seed of the order within each hour, and of the batches
	batch     int    // most sign-ins of a transaction; some are rolled back and come again
}

func openStore(t *testing.T) *state.Store {
	t.Helper()
	store, err := state.OpenTemporary(state.DefaultConfig(), detector.Window, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// fatal is what *testing.T and *rapid.T have in common here.
type fatal interface {
	Helper()
	Fatalf(string, ...any)
}

// records are the tenant's, in the order of their hours and shuffled within each.
func (c trial) records(t fatal) [][]byte {
	t.Helper()
	made, err := tenant.New(c.made)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, theft := range c.thefts {
		theft.User %= made.Users()
		if _, err := made.Steal(theft); err != nil {
			t.Fatalf("%v", err)
		}
	}
	var all []tenant.SignIn
	for s, ok := made.Next(); ok; s, ok = made.Next() {
		all = append(all, s)
	}
	r := rand.New(rand.NewPCG(c.shuffle, 1))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	slices.SortStableFunc(all, func(a, b tenant.SignIn) int { return cmp.Compare(c.hour(a), c.hour(b)) })
	records := make([][]byte, len(all))
	for i, s := range all {
		records[i] = s.Record
	}
	return records
}

// hour numbers the run that judges the sign-in.
func (c trial) hour(s tenant.SignIn) int64 {
	at := s.Time
	if c.eventTime == "created" {
		at = s.Created
	}
	return (at.UnixNano() - 1) / int64(time.Hour)
}

// expected is what the query returns; in is whether all users are within the bounds.
func (c trial) expected(t fatal, records [][]byte) (rows []verdict, in bool) {
	t.Helper()
	q, err := oracle.New(oracle.Options{Allowlist: c.allowlist, EventTime: c.eventTime, OpenFarEdge: true})
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, r := range records {
		if err := q.Add(r); err != nil {
			t.Fatalf("%v: %s", err, r)
		}
	}
	if q.Added() != len(records) {
		t.Fatalf("the oracle took %d of %d sign-ins", q.Added(), len(records))
	}
	for _, row := range q.Rows() {
		rows = append(rows, verdictOfRow(row))
	}
	ips, asns := q.Largest()
	bounds := state.DefaultConfig()
	return rows, ips <= bounds.MaxIPs && asns <= bounds.MaxASNs
}

func sortVerdicts(v []verdict) {
	slices.SortFunc(v, func(a, b verdict) int {
		return cmp.Or(strings.Compare(a.id, b.id), strings.Compare(string(a.reason), string(b.reason)), strings.Compare(a.shown, b.shown))
	})
}

// onceEach leaves one row of each sign-in: one that was delivered twice can be two rows and is
// one alert, on whichever copy came first.
func onceEach(rows, alerts []verdict) []verdict {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b verdict) int {
		alerted := func(v verdict) int {
			if slices.Contains(alerts, v) {
				return 0
			}
			return 1
		}
		return cmp.Or(strings.Compare(a.id, b.id), cmp.Compare(alerted(a), alerted(b)))
	})
	return slices.CompactFunc(rows, func(a, b verdict) bool { return a.id == b.id })
}

// judged is what the detector alerts, from messages of any size in transactions of any size.
func (c trial) judged(t fatal, p *state.Partition, records [][]byte) (alerts []verdict) {
	t.Helper()
	cfg := detector.DefaultConfig()
	cfg.EventTime = cmp.Or(c.eventTime, cfg.EventTime)
	d, err := detector.New(cfg)
	if err != nil {
		t.Fatalf("%v", err)
	}
	allowed, err := detector.ParseAllowlist(detector.Source{Name: "allowlist", Text: strings.NewReader(strings.Join(c.allowlist, "\n"))})
	if err != nil {
		t.Fatalf("%v", err)
	}
	decoder := entra.NewDecoder()
	// transaction judges the records and returns what it would alert.
	transaction := func(records [][]byte) (alerts []verdict) {
		count := 0
		skipped := decoder.Decode(tenant.Envelope(nil, records...), func(s *detector.SignIn) {
			count++
			profile, err := p.Profile(d.UserKey(s))
			if err != nil {
				t.Fatalf("%v", err)
			}
			if v := d.Judge(s, allowed, profile); v.Alert != nil {
				alerts = append(alerts, verdictOfAlert(v.Alert))
				if v.Late {
					t.Fatalf("sign-in %s is late, in the order of hours", s.ID)
				}
			}
		}, func(u entra.Unreadable) { t.Fatalf("%s: %s: %s", u.Reason, u.Detail, u.Bytes) })
		if count != len(records) || skipped != 0 {
			t.Fatalf("of %d records %d were decoded and %d skipped", len(records), count, skipped)
		}
		return alerts
	}
	r := rand.New(rand.NewPCG(c.shuffle, 2))
	for len(records) > 0 {
		n := min(1+r.IntN(c.batch), len(records))
		if r.IntN(8) == 0 { // aborted: nothing of it may stay
			transaction(records[:n])
			p.Rollback()
		}
		alerts = append(alerts, transaction(records[:n])...)
		if err := p.Commit(state.Checkpoint{Offset: int64(len(records))}); err != nil {
			t.Fatalf("%v", err)
		}
		records = records[n:]
	}
	sortVerdicts(alerts)
	return alerts
}

// compare fails with the sign-ins that only one of them has.
func compare(t fatal, c trial, records [][]byte, rows, alerts []verdict) {
	t.Helper()
	if slices.Equal(rows, alerts) {
		return
	}
	count := map[verdict]int{}
	for _, v := range rows {
		count[v]++
	}
	for _, v := range alerts {
		count[v]--
	}
	var b strings.Builder
	for v, n := range count {
		if n == 0 || b.Len() > 20_000 {
			continue
		}
		fmt.Fprintf(&b, "\n%s %s %s: %+d in the query's rows against the alerts", v.id, v.reason, v.shown, n)
		for _, r := range records {
			if strings.Contains(string(r), v.id) {
				var fields map[string]any
				_ = json.Unmarshal(r, &fields)
				if p, ok := fields["properties"].(map[string]any); ok {
					delete(p, "appliedConditionalAccessPolicies")
				}
				delete(fields, "ConditionalAccessPolicies")
				short, _ := json.Marshal(fields)
				fmt.Fprintf(&b, "\n  %s", short)
			}
		}
	}
	t.Fatalf("%+v: %d rows, %d alerts%s", c, len(rows), len(alerts), b.String())
}

// judge holds one trial and returns how many alerts it had; -1 where a user was beyond the bounds.
func judge(t fatal, store *state.Store, partition int32, c trial) int {
	t.Helper()
	records := c.records(t)
	rows, in := c.expected(t, records)
	if !in {
		return -1
	}
	p, err := store.Lease(context.Background(), partition)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer p.Release()
	if err := p.Drop(); err != nil {
		t.Fatalf("%v", err)
	}
	alerts := c.judged(t, p, records)
	rows = onceEach(rows, alerts)
	compare(t, c, records, rows, alerts)
	return len(rows)
}

// drawThefts draws stories about what a tenant's own life meets too seldom: few networks, so
// that they meet again under another form, ASN or user, and gaps at the edges of the window.
func drawThefts(t *rapid.T, start time.Time) (thefts []tenant.Theft) {
	apps := tenant.ThiefApps()
	ips := []netip.Addr{
		netip.MustParseAddr("198.51.100.17"), netip.MustParseAddr("::ffff:198.51.100.17"), netip.MustParseAddr("198.51.100.18"), netip.MustParseAddr("2001:db8:bad::1"),
	}
	for range rapid.IntRange(0, 4).Draw(t, "thefts") {
		theft := tenant.Theft{
			User: rapid.IntRange(0, 1).Draw(t, "victim"), Start: start.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "begins")) * time.Hour),
			IP: rapid.SampledFrom(ips).Draw(t, "address"), ASN: rapid.SampledFrom([]uint32{64501, 64502, 64503}).Draw(t, "ASN"),
		}
		after := time.Duration(0)
		for range rapid.IntRange(1, 4).Draw(t, "uses") {
			app := apps[rapid.SampledFrom([]int{1, 4, 5}).Draw(t, "app")]
			theft.Steps = append(theft.Steps, tenant.Step{
				After: after, App: app[0], Resource: app[1], Failed: rapid.IntRange(0, 3).Draw(t, "failed") == 0,
				IP: rapid.SampledFrom(ips).Draw(t, "address of the use"),
			})
			after += time.Duration(rapid.SampledFrom([]int{0, 1, 2, 334, 335, 336, 337}).Draw(t, "gap")) * time.Hour
		}
		thefts = append(thefts, theft)
	}
	return thefts
}

func TestAlertsAreTheQuerysRows(t *testing.T) {
	store := openStore(t)
	trials, alerts, beyond := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c := trial{
			made: tenant.Options{
				Users: rapid.IntRange(1, 6).Draw(t, "users"),
				Days:  rapid.IntRange(1, 40).Draw(t, "days"),
				Start: time.Date(2026, 3, 1, rapid.IntRange(0, 23).Draw(t, "hour"), 59, 59, 0, time.UTC),
				Seed:  rapid.Uint64().Draw(t, "seed"),
				Shape: rapid.SampledFrom([]tenant.Shape{tenant.Diagnostic, tenant.Table, tenant.Mixed}).Draw(t, "shape"),
				// Few sign-ins a day let networks fall out of the window and come back.
				PerUserDay: rapid.SampledFrom([]float64{0.3, 2, 8}).Draw(t, "per user and day"),
				Odd:        rapid.SampledFrom([]float64{0, 0.2, 1}).Draw(t, "odd"),
				Thefts:     100,
			},
			allowlist: rapid.SampledFrom([][]string{nil, {"192.0.2.0/24", "198.51.100.17", "2001:db8::/32"}, {"::ffff:100.64.0.0/106", "203.0.113.128/25"}}).Draw(t, "allowlist"),
			eventTime: rapid.SampledFrom([]string{"generated", "generated", "created"}).Draw(t, "event time"),
			shuffle:   rapid.Uint64().Draw(t, "shuffle"),
			batch:     rapid.SampledFrom([]int{1, 7, 100, 5000}).Draw(t, "batch"),
		}
		c.thefts = drawThefts(t, c.made.Start)
		trials++
		if n := judge(t, store, 0, c); n < 0 {
			beyond++
		} else {
			alerts += n
		}
	})
	t.Logf("%d tenants, %d of them beyond the bounds and left out, %d alerts", trials, beyond, alerts)
	if alerts == 0 || beyond*10 > trials {
		t.Errorf("%d alerts of %d tenants, %d beyond the bounds: too little was compared", alerts, trials, beyond)
	}
}

func TestAlertsOfALargerTenantAreTheQuerysRows(t *testing.T) {
	c := trial{
		made:    tenant.Options{Users: 30, Days: 18, Seed: 20261123, Shape: tenant.Mixed, PerUserDay: 20, Odd: 0.1, Thefts: 20},
		shuffle: 1, batch: 2000,
	}
	n := judge(t, openStore(t), 0, c)
	t.Logf("seed %d: %d alerts", c.made.Seed, n)
	if n < 30 {
		t.Errorf("%d alerts (seed %d)", n, c.made.Seed)
	}
}

// TestTheQuerySeesTheTheftsThatItCan holds generator and oracle together: of the thefts that
// reach a resource by IPv4 from a network that is new, the query returns the first such use.
func TestTheQuerySeesTheTheftsThatItCan(t *testing.T) {
	o := tenant.Options{Users: 50, Days: 20, Seed: 11, PerUserDay: 20, Thefts: -1}
	made, err := tenant.New(o)
	if err != nil {
		t.Fatal(err)
	}
	q, err := oracle.New(oracle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const scripted = 10
	for i := range scripted {
		plan := made.Plan(i*5, time.Date(2026, 11, 18, i, 10, 0, 0, time.UTC), time.Minute)
		if _, err := made.Steal(plan); err != nil {
			t.Fatal(err)
		}
	}
	thefts := map[string]int{}
	total := 0
	for s, ok := made.Next(); ok; s, ok = made.Next() {
		total++
		if s.Label == tenant.LabelTheft {
			thefts[s.ID] = s.Theft
		}
		if err := q.Add(s.Record); err != nil {
			t.Fatal(err)
		}
	}
	seen, plain := map[int]bool{}, 0
	for _, row := range q.Rows() {
		if n := thefts[row.ID]; n > 0 {
			seen[n] = true
		} else if row.Hour.Sub(time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)) > fortnight {
			plain++
		}
	}
	t.Logf("seed %d: %d sign-ins, %d of %d thefts in the rows, %d rows of others after 14 days", o.Seed, total, len(seen), scripted, plain)
	if len(seen) != scripted {
		t.Errorf("%d of %d scripted thefts are in the rows (seed %d)", len(seen), scripted, o.Seed)
	}
	// New networks come on about 1 % of user-days; what reaches a resource from one is a row.
	if userDays := 50 * 6; plain == 0 || plain > userDays/10 {
		t.Errorf("%d rows of plain sign-ins in %d user-days (seed %d)", plain, userDays, o.Seed)
	}
}
