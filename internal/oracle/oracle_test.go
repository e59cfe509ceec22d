package oracle_test

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/internal/oracle"
)

func TestOracleImportsTheStandardLibraryOnly(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %v: %v", files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imported := range file.Imports {
			if strings.Contains(imported.Path.Value, ".") {
				t.Errorf("%s imports %s: what the oracle shares with the detector it cannot check", name, imported.Path.Value)
			}
		}
	}
}

// T is a run of the query.
var T = time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)

// record is a sign-in that the query looks at, with what a case changes about it.
type record map[string]any

// at is a candidate of user ada at a time.
func at(when time.Time, id, ip, asn string) record {
	return record{
		"id": id, "time": when.Format("2006-01-02T15:04:05.0000000Z"), "userPrincipalName": "ada@example.com",
		"ipAddress": ip, "autonomousSystemNumber": json.Number(asn), "resultType": "0",
		"resourceDisplayName": "Microsoft Graph", "authenticationDetails": []any{},
	}
}

// with returns the record with another field; nil takes the field away.
func (r record) with(field string, value any) record {
	r = record(cloneMap(r))
	if r[field] = value; value == nil {
		delete(r, field)
	}
	return r
}

func cloneMap(m map[string]any) map[string]any {
	c := map[string]any{}
	for k, v := range m {
		c[k] = v
	}
	return c
}

// diagnostic is the record as diagnostic settings write it.
func (r record) diagnostic() []byte {
	properties, outer := cloneMap(r), map[string]any{"category": "NonInteractiveUserSignInLogs"}
	for _, field := range []string{"time", "resultType", "callerIpAddress", "category"} {
		if v, ok := r[field]; ok {
			outer[field] = v
		}
		delete(properties, field)
	}
	outer["properties"] = properties
	return encode(outer)
}

// table is the record as Log Analytics export writes it.
func (r record) table() []byte {
	row := map[string]any{"Type": "AADNonInteractiveUserSignInLogs", "TenantId": "workspace"}
	for field, column := range map[string]string{
		"id": "Id", "time": "TimeGenerated", "createdDateTime": "CreatedDateTime", "userPrincipalName": "UserPrincipalName",
		"ipAddress": "IPAddress", "autonomousSystemNumber": "AutonomousSystemNumber", "resultType": "ResultType", "resourceDisplayName": "ResourceDisplayName",
	} {
		if v, ok := r[field]; ok {
			if n, isNumber := v.(json.Number); isNumber {
				v = n.String()
			}
			row[column] = v
		}
	}
	if v, ok := r["authenticationDetails"]; ok {
		text, isText := v.(string)
		if !isText {
			pretty, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				panic(err)
			}
			text = string(pretty)
		}
		row["AuthenticationDetails"] = text
	}
	return encode(row)
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// rowsOf runs the query over the records, in either shape, and returns what it says of each row:
// its id, and whether there was no baseline.
func rowsOf(t *testing.T, o oracle.Options, records ...record) []string {
	t.Helper()
	var answers [2][]string
	for shape := range answers {
		q, err := oracle.New(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			bytes := r.diagnostic()
			if shape == 1 {
				if caller, ok := r["callerIpAddress"]; ok && (r["ipAddress"] == nil || r["ipAddress"] == "") {
					r = r.with("ipAddress", caller) // the table has one column for both
				}
				bytes = r.table()
			}
			if err := q.Add(bytes); err != nil {
				t.Fatalf("%s: %v", bytes, err)
			}
		}
		for _, row := range q.Rows() {
			answer := row.ID
			if row.NoBaseline {
				answer += " (no baseline)"
			}
			answers[shape] = append(answers[shape], answer)
		}
	}
	if !slices.Equal(answers[0], answers[1]) {
		t.Errorf("diagnostic settings give %q, the table %q", answers[0], answers[1])
	}
	return answers[0]
}

const (
	home, homeASN     = "198.51.100.1", "64500"
	other, otherASN   = "203.0.113.7", "64511"
	instant           = 100 * time.Nanosecond
	fortnight         = 14 * 24 * time.Hour
	noBaseline        = " (no baseline)"
	within            = 10 * time.Minute // of the hour that ends at T
	multifactorPolicy = "Microsoft-managed: Multifactor authentication and reauthentication for risky sign-ins"
)

func TestRowsByWhatTheBaselineHolds(t *testing.T) {
	thief := at(T.Add(-within), "thief", other, otherASN)
	known := at(T.Add(-5*time.Hour), "known", home, homeASN).with("resourceDisplayName", "OfficeHome")
	cases := map[string]struct {
		o        oracle.Options
		baseline []record
		judged   record
		row      bool
	}{
		"a new address in a new network":             {baseline: []record{known}, judged: thief, row: true},
		"a known address in a new network":           {baseline: []record{known}, judged: at(T, "thief", home, otherASN)},
		"a new address in a known network":           {baseline: []record{known}, judged: at(T, "thief", other, homeASN)},
		"a failed sign-in teaches":                   {baseline: []record{known, thief.with("id", "failed").with("resultType", "50158").with("time", text(T.Add(-2*time.Hour)))}, judged: thief},
		"the sign-ins of the same hour do not teach": {baseline: []record{known, thief.with("id", "first").with("time", text(T.Add(-time.Hour+instant))).with("resultType", "1")}, judged: thief, row: true},
		"the instant T-1h teaches":                   {baseline: []record{known, thief.with("id", "first").with("time", text(T.Add(-time.Hour))).with("resultType", "1")}, judged: thief},
		"the instant T-14d teaches":                  {baseline: []record{known, thief.with("id", "first").with("time", text(T.Add(-fortnight))).with("resultType", "1")}, judged: thief},
		"the instant T-14d, left out":                {o: oracle.Options{OpenFarEdge: true}, baseline: []record{known, thief.with("id", "first").with("time", text(T.Add(-fortnight))).with("resultType", "1")}, judged: thief, row: true},
		"an instant after T-14d teaches":             {o: oracle.Options{OpenFarEdge: true}, baseline: []record{known, thief.with("id", "first").with("time", text(T.Add(-fortnight+instant))).with("resultType", "1")}, judged: thief},
		"an instant before T-14d does not teach":     {baseline: []record{known, thief.with("id", "first").with("time", text(T.Add(-fortnight-instant))).with("resultType", "1")}, judged: thief, row: true},
		"another user does not teach":                {baseline: []record{known, thief.with("id", "first").with("time", text(T.Add(-2*time.Hour))).with("resultType", "1").with("userPrincipalName", "bob@example.com")}, judged: thief, row: true},
		"the UPN in another case teaches":            {baseline: []record{known, thief.with("id", "first").with("time", text(T.Add(-2*time.Hour))).with("resultType", "1").with("userPrincipalName", "ADA@Example.com")}, judged: thief},
		"an allowed address teaches":                 {o: oracle.Options{Allowlist: []string{home + "/32"}}, baseline: []record{known}, judged: at(T, "thief", other, homeASN)},
		"an IPv6 sign-in teaches its ASN":            {baseline: []record{known.with("ipAddress", "2001:db8::1")}, judged: at(T, "thief", other, homeASN)},
		"the address with a port is the same":        {baseline: []record{known.with("ipAddress", other+":443")}, judged: thief},
		"the address mapped into IPv6 is the same":   {baseline: []record{known.with("ipAddress", "::ffff:"+other)}, judged: thief},
		"a missing ASN is known like any other":      {baseline: []record{known.with("autonomousSystemNumber", nil)}, judged: thief.with("autonomousSystemNumber", nil)},
		"a missing ASN that is new":                  {baseline: []record{known}, judged: thief.with("autonomousSystemNumber", nil), row: true},
		"an ASN of null is a missing one":            {baseline: []record{known.with("autonomousSystemNumber", nil)}, judged: thief.with("autonomousSystemNumber", (*int)(nil))},
		"all who have no UPN share a baseline":       {baseline: []record{known.with("userPrincipalName", "")}, judged: at(T, "thief", home, otherASN).with("userPrincipalName", nil)},
		"what has no address teaches its ASN":        {baseline: []record{known.with("ipAddress", "")}, judged: at(T, "thief", other, homeASN)},
		"the caller's address where there is none":   {baseline: []record{known.with("ipAddress", nil).with("callerIpAddress", other)}, judged: thief},
		"the caller's address where it is empty":     {baseline: []record{known.with("ipAddress", "").with("callerIpAddress", other)}, judged: thief},
	}
	for name, c := range cases {
		var want []string
		if c.row {
			want = []string{"thief"}
		}
		if got := rowsOf(t, c.o, append(c.baseline, c.judged)...); !slices.Equal(got, want) {
			t.Errorf("%s: rows %q, not %q", name, got, want)
		}
	}
}

func TestIPv6AddressesAreComparedParsed(t *testing.T) {
	// IPv6 cannot be a row; that it is compared parsed shows in how many addresses there are.
	q, err := oracle.New(oracle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, ip := range []string{"2001:db8::7", "2001:0db8:0000:0000:0000:0000:0000:0007", "2001:DB8::7", "[2001:db8::7]:443", "2001:db8:0::7"} {
		if err := q.Add(at(T, fmt.Sprint(i), ip, homeASN).diagnostic()); err != nil {
			t.Fatal(err)
		}
	}
	if ips, asns := q.Largest(); ips != 1 || asns != 1 {
		t.Errorf("%d addresses and %d ASNs, not one of each", ips, asns)
	}
}

func text(t time.Time) string { return t.Format("2006-01-02T15:04:05.0000000Z") }

func TestCandidatesByEachClause(t *testing.T) {
	candidate := at(T.Add(-within), "it", other, otherASN)
	cases := []struct {
		field string
		value any
		row   bool
	}{
		{"resultType", "0", true},
		{"resultType", 0, true},
		{"resultType", "50158", false},
		{"resultType", 50158, false},
		{"resultType", "", false},
		{"resultType", nil, false},
		{"ipAddress", "203.0.113.7", true},
		{"ipAddress", "203.0.113.7:443", false},
		{"ipAddress", "::ffff:203.0.113.7", false},
		{"ipAddress", "2001:db8::1", false},
		{"ipAddress", "", false},
		{"ipAddress", nil, false},
		{"ipAddress", "203.0.113", false},
		{"ipAddress", "203.0.113.256", false},
		{"ipAddress", "203.0.113.07", false},
		{"ipAddress", "anything", false},
		{"ipAddress", "192.0.2.1", false},
		{"ipAddress", "192.0.2.255", false},
		{"ipAddress", "192.0.3.0", true},
		{"ipAddress", "198.51.100.9", false},
		{"ipAddress", "198.51.100.10", true},
		{"ipAddress", "100.64.0.1", false},
		{"resourceDisplayName", "Microsoft Graph", true},
		{"resourceDisplayName", "microsoft graph powershell", true},
		{"resourceDisplayName", "(Microsoft Graph)", true},
		{"resourceDisplayName", "Microsoft Graphics", false},
		{"resourceDisplayName", "MicrosoftGraph", false},
		{"resourceDisplayName", "Microsoft  Graph", false},
		{"resourceDisplayName", "A Microsoft Graphics of Microsoft Graph", true},
		{"resourceDisplayName", "Microsoft Grapho_Microsoft Graph", true},
		{"resourceDisplayName", "Microsoft Intune", true},
		{"resourceDisplayName", "Microsoft Intune API", true},
		{"resourceDisplayName", "Microsoft Intune Checkin", true},
		{"resourceDisplayName", "Device Management", true},
		{"resourceDisplayName", "Windows 365", true},
		{"resourceDisplayName", "Windows 3650", false},
		{"resourceDisplayName", "MyMicrosoft Graph", false},
		{"resourceDisplayName", "my-Microsoft Graph", true},
		{"resourceDisplayName", "Office 365", false},
		{"resourceDisplayName", "", false},
		{"resourceDisplayName", nil, false},
		{"authenticationDetails", []any{}, true},
		{"authenticationDetails", nil, true},
		{"authenticationDetails", []any{map[string]any{"a": "Multifactor authentication"}}, false},
		{"authenticationDetails", []any{map[string]any{"a": "x-multifactor_y"}}, false},
		{"authenticationDetails", []any{map[string]any{"a": "MULTIFACTOR"}}, false},
		{"authenticationDetails", []any{map[string]any{"a": "MultifactorAuthentication"}}, true},
		{"authenticationDetails", []any{map[string]any{"a": "Multi-factor authentication"}}, true},
		{"appliedConditionalAccessPolicies", []any{map[string]any{"displayName": multifactorPolicy}}, true},
		{"time", "11/23/2026 10:48:53 AM", true},
		{"time", "2026-11-23T10:48:53.1234567+00:00", true},
		{"time", "2026-11-23T10:48:53Z", true},
		{"time", "11/23/2026 12:00:01 AM", true},
	}
	allow := oracle.Options{Allowlist: []string{"192.0.2.0/24", "198.51.100.9", "2001:db8::/32", "::ffff:100.64.0.0/112"}}
	for _, c := range cases {
		var want []string
		if c.row {
			want = []string{"it" + noBaseline}
		}
		if got := rowsOf(t, allow, candidate.with(c.field, c.value)); !slices.Equal(got, want) {
			t.Errorf("%s %v: rows %q, not %q", c.field, c.value, got, want)
		}
	}
}

func TestNoBaselineMeansThatNothingIsKnownAtThatHour(t *testing.T) {
	for name, c := range map[string]struct {
		records []record
		want    []string
	}{
		"the whole first hour, and then a known network": {
			[]record{at(T.Add(-2*time.Hour), "first", other, otherASN), at(T.Add(-2*time.Hour-instant), "second", home, homeASN), at(T, "later", other, otherASN)},
			[]string{"second" + noBaseline, "first" + noBaseline},
		},
		"a baseline that is all too old": {
			[]record{at(T.Add(-fortnight-time.Hour), "old", home, homeASN).with("resultType", "1"), at(T, "new", home, homeASN)},
			[]string{"new" + noBaseline},
		},
		"a baseline of one sign-in without address": {
			[]record{at(T.Add(-3*time.Hour), "old", "", homeASN), at(T, "new", other, otherASN)},
			[]string{"new"},
		},
	} {
		if got := rowsOf(t, oracle.Options{}, c.records...); !slices.Equal(got, c.want) {
			t.Errorf("%s: rows %q, not %q", name, got, c.want)
		}
	}
}

func TestASignInBelongsToTheRunThatEndsItsHour(t *testing.T) {
	for when, run := range map[time.Time]time.Time{T: T, T.Add(-instant): T, T.Add(-time.Hour): T.Add(-time.Hour), T.Add(instant): T.Add(time.Hour), T.Add(-time.Hour + instant): T} {
		q, err := oracle.New(oracle.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Add(at(when, "it", other, otherASN).diagnostic()); err != nil {
			t.Fatal(err)
		}
		want := oracle.Row{ID: "it", Hour: run, Time: when, Dated: when, UPN: "ada@example.com", IP: other, ASN: otherASN, NoBaseline: true, Resource: "Microsoft Graph"}
		if rows := q.Rows(); len(rows) != 1 || rows[0] != want {
			t.Errorf("%s: %+v, not %+v", when, rows, want)
		}
	}
}

func TestACopyWithAnotherTimeTeachesAnotherHour(t *testing.T) {
	known := at(T.Add(-5*time.Hour), "known", home, homeASN)
	first := at(T.Add(-instant), "it", other, otherASN)
	for name, c := range map[string]struct {
		again time.Time
		want  []string
	}{
		"the same hour: two rows":                        {T, []string{"known" + noBaseline, "it", "it"}},
		"the next hour: the first copy taught its hour":  {T.Add(instant), []string{"known" + noBaseline, "it"}},
		"the hour before: it is the row, and it teaches": {T.Add(-time.Hour), []string{"known" + noBaseline, "it"}},
	} {
		if got := rowsOf(t, oracle.Options{}, known, first, first.with("time", text(c.again))); !slices.Equal(got, c.want) {
			t.Errorf("%s: rows %q, not %q", name, got, c.want)
		}
	}
}

func TestEventTimeCreatedJudgesByTheSignInsOwnTime(t *testing.T) {
	known := at(T.Add(-5*time.Hour), "known", home, homeASN).with("resultType", "1")
	// By its envelope the failed attempt is of the hour before the thief's, by itself of the same.
	failed := at(T.Add(-time.Hour), "failed", other, otherASN).with("resultType", "1").with("createdDateTime", text(T.Add(-2*time.Minute)))
	thief := at(T.Add(-within), "thief", other, otherASN)
	for o, want := range map[string][]string{"generated": nil, "created": {"thief"}} {
		if got := rowsOf(t, oracle.Options{EventTime: o}, known, failed, thief); !slices.Equal(got, want) {
			t.Errorf("%s: rows %q, not %q", o, got, want)
		}
	}
	if _, err := oracle.New(oracle.Options{EventTime: "arrived"}); err == nil {
		t.Error("an event time that does not exist was accepted")
	}
}

func TestMessagesAndBareRecordsAreTheSame(t *testing.T) {
	a, b := at(T, "a", other, otherASN).diagnostic(), at(T, "b", other, otherASN).table()
	other := at(T, "c", home, homeASN).with("category", "SignInLogs").diagnostic()
	for _, message := range []string{
		fmt.Sprintf(`{"records":[%s,%s,%s]}`, a, b, other), fmt.Sprintf(" [%s,\n%s,%s]", other, a, b),
	} {
		q, err := oracle.New(oracle.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.AddMessage([]byte(message)); err != nil {
			t.Fatal(err)
		}
		if rows := q.Rows(); len(rows) != 2 || q.Added() != 2 || q.Skipped() != 1 {
			t.Errorf("%d rows of %d sign-ins, %d skipped: %s", len(rows), q.Added(), q.Skipped(), message)
		}
	}
	q, err := oracle.New(oracle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.AddMessage(a); err != nil || q.Added() != 1 {
		t.Errorf("a bare record: %v, %d", err, q.Added())
	}
	err = q.AddMessage([]byte(fmt.Sprintf(`{"records":[{"category":"NonInteractiveUserSignInLogs","properties":{}},null,7,%s,%s]}`, at(T, "d", "", "1").with("time", "soon").diagnostic(), b)))
	if err == nil || q.Added() != 2 {
		t.Errorf("bad records among good ones: %v, %d", err, q.Added())
	}
}

func TestAllowlistEntriesThatAreNoNetworkAreRefused(t *testing.T) {
	for _, entry := range []string{"", "office", "192.0.2.0/33", "192.0.2.0/", "192.0.2/24", "2001:db8::/129", "192.0.2.1 # office"} {
		if _, err := oracle.New(oracle.Options{Allowlist: []string{entry}}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", entry)) {
			t.Errorf("allowlist entry %q: %v", entry, err)
		}
	}
}
