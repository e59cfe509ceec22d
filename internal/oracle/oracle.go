// Package oracle is the Sentinel query as the batch job that it is: at every whole UTC
// hour T it judges the sign-ins of (T-1h, T] against the sets of networks of [T-14d, T-1h].
// It owns its own reading of the records, of times, of addresses and of terms, so that a
// mistake of the detector cannot be repeated here: it must never import anything of ours,
// and a test holds it to that. It serves tests and verification only.
//
// The query keeps an undefined subset of a user's networks beyond 500 addresses or 50 ASNs;
// the oracle keeps them all. Users above those bounds are out of its scope (see Largest).
//
// Start at Query.Rows, which follows the query line by line.
package oracle

import (
	"bytes"
	"fmt"
	"iter"
	"net"
	"slices"
	"strings"
	"time"
)

// Options are what the query can be run with.
type Options struct {
	// Allowlist are the ranges of the watchlist: CIDRs or single addresses.
	Allowlist []string
	// EventTime is "generated" (the default: the envelope's time, TimeGenerated) or
	// "created" (createdDateTime; the envelope's time where that cannot be read).
	EventTime string
	// OpenFarEdge leaves the single instant T-14d out of the baseline of T. The query has
	// it in, by `between`; prtwatch, which counts in hours, has not. It is the one
	// difference that the semantics allow.
	OpenFarEdge bool
	// MaxFuture, where it is above zero, has prtwatch's other difference in: a sign-in that is
	// dated more than that after its arrival (see Take) counts at its arrival.
	MaxFuture time.Duration
}

// Query collects sign-ins and runs the query over them. It belongs to one goroutine.
type Query struct {
	allowed     []*net.IPNet
	created     bool
	openFarEdge bool
	maxFuture   time.Duration

	users   map[string]*table // by UPN = tolower(UserPrincipalName)
	texts   map[string]string // interned addresses and ASNs
	added   int
	skipped int
}

// table is one user's part of AADNonInteractiveUserSignInLogs.
type table struct{ rows []row }

// row is a sign-in with the columns that the query looks at.
type row struct {
	id        string
	time      time.Time
	known     string // the address as baselines compare it
	asn       string
	candidate *candidate // nil: it cannot be a row of the result
}

// candidate is what a row of the result shows besides.
type candidate struct {
	ip                                string
	dated                             time.Time
	resource, app, userAgent, country string
	tenant                            string
}

// Row is a row of the query's result, what it was joined with, and the tenant.
type Row struct {
	ID         string    // of the sign-in
	Hour       time.Time // T of the run that returned it
	Time       time.Time // of the sign-in, that it counts at
	Dated      time.Time // as the sign-in has it; not Time where Options.MaxFuture had a say
	UPN        string    // lower-cased
	IP         string    // as it came
	ASN        string
	NoBaseline bool // isnull(KnownIPs): the left outer join found nothing

	Resource, App, UserAgent, Country string // as the query projects them
	Tenant                            string // of Entra ID; the query does not project it

	KnownIPs, KnownASNs int       // sizes of the sets
	First, Last         time.Time // of the sign-ins that they were made of; zero where there are none
}

// New returns a query without sign-ins. It refuses an allowlist entry that is no network
// and an event time that it does not know.
func New(o Options) (*Query, error) {
	q := &Query{openFarEdge: o.OpenFarEdge, maxFuture: o.MaxFuture, users: map[string]*table{}, texts: map[string]string{}}
	switch o.EventTime {
	case "", "generated":
	case "created":
		q.created = true
	default:
		return nil, fmt.Errorf("event time %q: neither generated nor created", o.EventTime)
	}
	for _, text := range o.Allowlist {
		network, err := parseRange(text)
		if err != nil {
			return nil, err
		}
		if network != nil {
			q.allowed = append(q.allowed, network)
		}
	}
	return q, nil
}

// Add takes one record, in either shape. A record of another category is skipped; an error
// means that it is no sign-in that could be judged: no JSON object, no id, no time.
func (q *Query) Add(record []byte) error { return q.add(bytes.Trim(record, white), time.Time{}) }

func (q *Query) add(record []byte, arrived time.Time) error {
	s, err := read(record)
	if err != nil {
		return err
	}
	if s == nil {
		q.skipped++
		return nil
	}
	r := row{id: s.id, time: s.generated, known: q.intern(canonical(s.ip)), asn: q.intern(s.asn)}
	if q.created && !s.created.IsZero() {
		r.time = s.created
	}
	if q.candidate(s) {
		r.candidate = &candidate{
			ip: s.ip, dated: r.time, resource: q.intern(s.resource), app: q.intern(s.app),
			userAgent: q.intern(s.userAgent), country: q.intern(s.country), tenant: q.intern(s.tenant),
		}
	}
	if q.maxFuture > 0 && !arrived.IsZero() && r.time.After(arrived.Add(q.maxFuture)) {
		r.time = arrived
	}
	upn := strings.ToLower(s.upn)
	user := q.users[upn]
	if user == nil {
		user = &table{}
		q.users[upn] = user
	}
	user.rows = append(user.rows, r)
	q.added++
	return nil
}

// Added returns how many sign-ins were taken, Skipped how many records of other categories
// were not.
func (q *Query) Added() int { return q.added }

// Skipped returns how many records of other categories were left out.
func (q *Query) Skipped() int { return q.skipped }

// intern keeps one copy of a text that occurs often, not one for each sign-in.
func (q *Query) intern(s string) string {
	if kept, ok := q.texts[s]; ok {
		return kept
	}
	s = strings.Clone(s)
	q.texts[s] = s
	return s
}

// terms are the query's intuneResources.
var terms = []string{"Microsoft Intune", "Microsoft Intune API", "Device Management", "Windows 365", "Microsoft Graph"}

// candidate is the query's chain of `where`, up to the join.
func (q *Query) candidate(s *signIn) bool {
	// | where ResultType == 0
	if s.resultType != "0" {
		return false
	}
	// | where not(ipv4_is_in_any_range(tostring(IPAddress), AllowedRanges))
	// null for anything but IPv4, not(null) is null, and where drops what is null.
	in, null := q.inAnyRange(s.ip)
	if null || in {
		return false
	}
	// | where ResourceDisplayName has_any (intuneResources)
	if !hasAny(s.resource, terms) {
		return false
	}
	// | where AuthDetails !has "Multifactor"
	return !has(s.authDetails, "Multifactor")
}

// Rows runs the query at every whole hour and returns all rows, ordered by hour, UPN, time
// and id. A sign-in that was delivered twice can be two rows, as it is in Sentinel.
func (q *Query) Rows() []Row {
	var result []Row
	for upn, user := range q.users {
		result = append(result, q.rowsOf(upn, user)...)
	}
	slices.SortFunc(result, func(a, b Row) int {
		if c := a.Hour.Compare(b.Hour); c != 0 {
			return c
		}
		if c := strings.Compare(a.UPN, b.UPN); c != 0 {
			return c
		}
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return result
}

// rowsOf runs the query for one user: the join is on the UPN, so users do not meet. The
// runs at which he has no sign-in return nothing and are passed over. From run to run the
// baseline moves on: rows enter it that are no longer younger than T-1h, and rows leave
// that are older than T-14d. The sets count their rows, so a member leaves with its last.
func (q *Query) rowsOf(upn string, user *table) []Row {
	rows := user.rows
	slices.SortStableFunc(rows, func(a, b row) int { return a.time.Compare(b.time) })
	var (
		result                []Row
		knownIPs, knownASNs   = set{}, set{}
		first, last           int // the baseline is rows[first:last]
		judgedFrom, judgedEnd int // the run judges rows[judgedFrom:judgedEnd]
	)
	for judgedFrom = 0; judgedFrom < len(rows); judgedFrom = judgedEnd {
		T := wholeHour(rows[judgedFrom].time)
		for judgedEnd = judgedFrom; judgedEnd < len(rows) && !rows[judgedEnd].time.After(T); {
			judgedEnd++
		}
		// TimeGenerated between (ago(14d) .. ago(1h))
		oldest, newest := T.Add(-14*24*time.Hour), T.Add(-time.Hour)
		for ; last < len(rows) && !rows[last].time.After(newest); last++ {
			knownIPs[rows[last].known]++
			knownASNs[rows[last].asn]++
		}
		for ; first < last && q.tooOld(rows[first].time, oldest); first++ {
			knownIPs.leave(rows[first].known)
			knownASNs.leave(rows[first].asn)
		}
		// join kind=leftouter: a user without a row in the baseline has null for a set
		null := first == last
		for _, r := range rows[judgedFrom:judgedEnd] {
			// where isnull(KnownIPs) or (not(set_has_element(KnownIPs, IPAddress)) and not(set_has_element(KnownASNs, ASN)))
			if r.candidate == nil || !null && (knownIPs.has(r.known) || knownASNs.has(r.asn)) {
				continue
			}
			row := r.candidate.project(T, upn, r)
			row.NoBaseline, row.KnownIPs, row.KnownASNs = null, len(knownIPs), len(knownASNs)
			if !null {
				row.First, row.Last = rows[first].time, rows[last-1].time
			}
			result = append(result, row)
		}
	}
	return result
}

// project is the query's project.
func (c *candidate) project(T time.Time, upn string, r row) Row {
	return Row{
		ID: r.id, Hour: T, Time: r.time, Dated: c.dated, UPN: upn, IP: c.ip, ASN: r.asn,
		Resource: c.resource, App: c.app, UserAgent: c.userAgent, Country: c.country, Tenant: c.tenant,
	}
}

// tooOld reports whether t lies before the baseline, whose far edge is oldest.
func (q *Query) tooOld(t, oldest time.Time) bool {
	return t.Before(oldest) || q.openFarEdge && t.Equal(oldest)
}

// wholeHour is the run that judges a sign-in at t: the one T with T-1h < t <= T.
func wholeHour(t time.Time) time.Time {
	T := t.Truncate(time.Hour)
	if T.Before(t) {
		T = T.Add(time.Hour)
	}
	return T
}

// set is what make_set made, with the number of rows that each member came from.
type set map[string]int

func (s set) has(member string) bool { return s[member] > 0 }

func (s set) leave(member string) {
	if s[member]--; s[member] == 0 {
		delete(s, member)
	}
}

// Seen says which sign-in came from where: the address as baselines compare it, and the ASN.
type Seen struct {
	ID      string
	Time    time.Time // that it counts at
	IP, ASN string
}

// Users yields every user, by lower-cased UPN, with all of his sign-ins.
func (q *Query) Users() iter.Seq2[string, iter.Seq[Seen]] {
	return func(yield func(string, iter.Seq[Seen]) bool) {
		for upn, user := range q.users {
			seen := func(yield func(Seen) bool) {
				for _, r := range user.rows {
					if !yield(Seen{r.id, r.time, r.known, r.asn}) {
						return
					}
				}
			}
			if !yield(upn, seen) {
				return
			}
		}
	}
}

// Largest returns the most distinct addresses and the most distinct ASNs that any one user
// has over all of the sign-ins: as long as they are at most 500 and 50, the query's sets
// (and the bounds of prtwatch) hold everything and the rows are exact.
func (q *Query) Largest() (ips, asns int) {
	for _, user := range q.users {
		i, a := set{}, set{}
		for _, r := range user.rows {
			i[r.known]++
			a[r.asn]++
		}
		ips, asns = max(ips, len(i)), max(asns, len(a))
	}
	return ips, asns
}
