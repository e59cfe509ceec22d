package main

import (
	"context"
	"crypto/sha1" //nolint:gosec // a version 5 UUID is made with it
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/oracle"
)

// alert is what is looked at of an alert's JSON.
type alert struct {
	Schema   string `json:"schema"`
	ID       string `json:"id"`
	Status   string `json:"status"`
	Severity string `json:"severity"`
	Reason   string `json:"reason"`
	Time     string `json:"time"`
	Rule     struct {
		ID string `json:"id"`
	} `json:"rule"`
	User struct {
		UPN    string `json:"upn"`
		Tenant string `json:"tenant_id"`
	} `json:"user"`
	Source struct {
		IP      string      `json:"ip"`
		ASN     json.Number `json:"asn"`
		Country string      `json:"country"`
	} `json:"source"`
	Resource  named  `json:"resource"`
	App       named  `json:"app"`
	UserAgent string `json:"user_agent"`
	SignIn    struct {
		ID string `json:"id"`
	} `json:"sign_in"`
	Baseline struct {
		IPs       int    `json:"ips"`
		ASNs      int    `json:"asns"`
		FirstHour string `json:"first_hour"`
		LastHour  string `json:"last_hour"`
		Evicted   int    `json:"evicted"`
	} `json:"baseline"`
	Late    bool `json:"late"`
	Clamped bool `json:"clamped"`
}

type named struct {
	Name string `json:"name"`
}

// announced is an alert of one user.
type announced struct{ id, signIn string }

// checkAlerts holds the alerts against the rows of the query, by sign-in id and then field by
// field.
func (j *judge) checkAlerts(ctx context.Context) error {
	type seen struct {
		id    string
		bytes digest
		at    time.Time
	}
	first := map[string]seen{}
	err := j.brokers.read(ctx, j.options.alerts, func(r *kgo.Record) {
		j.Alerts++
		where := fmt.Sprintf("partition %d offset %d of %s", r.Partition, r.Offset, r.Topic)
		var a alert
		if err := json.Unmarshal(r.Value, &a); err != nil || a.SignIn.ID == "" {
			j.MadeUp++
			j.find("made_up", "%s is no alert on a sign-in: %v", where, err)
			return
		}
		what := fmt.Sprintf("sign-in %s of %q, %s", a.SignIn.ID, a.User.UPN, where)
		now := seen{a.ID, digestOf(r.Value), r.Timestamp}
		before, again := first[a.SignIn.ID]
		after := now.at.Sub(before.at)
		switch {
		case again && j.atLeastOnce() && before.id == now.id && before.bytes == now.bytes && (j.againWithin == 0 || after <= j.againWithin):
			j.Repeated++
		case again:
			j.Doubled++
			j.find("doubled", "%s: there was one before, by %s", what, after)
		case j.rows[a.SignIn.ID] == nil:
			j.MadeUp++
			j.find("made_up", "%s: no row of the query", what)
		}
		if !again {
			first[a.SignIn.ID] = now
			user := strings.ToLower(a.User.UPN)
			j.alerted[user] = append(j.alerted[user], announced{a.ID, a.SignIn.ID})
		}
		if wrong := j.altered(&a); wrong != "" {
			j.Altered++
			j.find("altered", "%s: %s", what, wrong)
		}
		if wrong := j.misplaced(r, &a); wrong != "" {
			j.Misplaced++
			j.find("misplaced", "%s: %s", what, wrong)
		}
	})
	if err != nil {
		return err
	}
	for id, rows := range j.rows {
		if _, ok := first[id]; !ok {
			j.Missing++
			j.find("missing", "sign-in %s of %q at %s", id, rows[0].UPN, rows[0].Dated.Format(sevenDigits))
		}
	}
	return nil
}

// altered says where an alert differs from what its sign-in says and what was known of the user
// then, or "". Of a sign-in that was delivered twice any copy that is a row will do.
func (j *judge) altered(a *alert) string {
	var least []string
	for _, row := range j.rows[a.SignIn.ID] {
		wrong := differences(a, row)
		if len(wrong) == 0 {
			return ""
		}
		if least == nil || len(wrong) < len(least) {
			least = wrong
		}
	}
	return strings.Join(least, "; ")
}

// misplaced says what is wrong with how an alert's record stands in the topic, or "".
func (j *judge) misplaced(r *kgo.Record, a *alert) string {
	user := strings.ToLower(a.User.UPN)
	switch want := partitionOf(user, j.brokers.partitions(r.Topic)); {
	case r.Key == nil || string(r.Key) != user:
		return fmt.Sprintf("its key is %q", r.Key)
	case r.Partition != want:
		return fmt.Sprintf("it belongs to partition %d", want)
	case j.outside(r):
		return "it was written outside of a transaction"
	}
	return wrongHeaders(r.Headers, map[string]string{
		"ce_id": a.ID, "ce_source": "/prtwatch/" + url.PathEscape(a.User.Tenant), "ce_type": "prtwatch.alert.v1",
		"ce_specversion": "1.0", "ce_time": a.Time, "content-type": "application/json",
	})
}

// outside reports whether a record that must be part of a transaction is of none: a reader may
// then see it whatever became of the sign-ins that it came of.
func (o *options) outside(r *kgo.Record) bool { return !o.atLeastOnce() && !r.Attrs.IsTransactional() }

// wrongHeaders says which header is not as wanted: each must be there once, and no other.
func wrongHeaders(have []kgo.RecordHeader, want map[string]string) string {
	there := map[string]bool{}
	for _, h := range have {
		value, known := want[h.Key]
		switch {
		case !known:
			return fmt.Sprintf("it has a header %q", h.Key)
		case there[h.Key]:
			return fmt.Sprintf("it has header %s twice", h.Key)
		case string(h.Value) != value:
			return fmt.Sprintf("its header %s is %q, not %q", h.Key, h.Value, value)
		}
		there[h.Key] = true
	}
	for key := range want {
		if !there[key] {
			return "it has no header " + key
		}
	}
	return ""
}

// ruleID is the id of the Sentinel rule, the namespace of the alerts' ids.
const ruleID = "5a6f1c3e-2a1b-4c9e-9f01-11a2b3c4d508"

// sevenDigits is how an alert writes the sign-in's time.
const sevenDigits = "2006-01-02T15:04:05.0000000Z"

// maxText is where a text of a sign-in is cut.
const maxText = 4 << 10

// differences lists what an alert says that its row does not. A row's user is not compared by
// the case of his name.
func differences(a *alert, row oracle.Row) (wrong []string) {
	reason, firstHour, lastHour := "new_network", "", ""
	if row.NoBaseline {
		reason = "no_baseline"
	} else {
		firstHour, lastHour = hourText(hourOf(row.First)), hourText(hourOf(row.Last))
	}
	for _, field := range []struct{ name, have, want string }{
		{"schema", a.Schema, "prtwatch.alert/1"},
		{"id", a.ID, uuid5(ruleID, row.ID)},
		{"status", a.Status, "new"},
		{"severity", a.Severity, "high"},
		{"reason", a.Reason, reason},
		{"time", a.Time, row.Dated.Format(sevenDigits)},
		{"rule.id", a.Rule.ID, ruleID},
		{"user.upn", strings.ToLower(a.User.UPN), row.UPN},
		{"user.tenant_id", a.User.Tenant, cutText(row.Tenant)},
		{"source.ip", a.Source.IP, row.IP},
		{"source.asn", a.Source.ASN.String(), number(row.ASN)},
		{"source.country", a.Source.Country, cutText(row.Country)},
		{"resource.name", a.Resource.Name, cutText(row.Resource)},
		{"app.name", a.App.Name, cutText(row.App)},
		{"user_agent", a.UserAgent, cutText(row.UserAgent)},
		{"baseline.ips", strconv.Itoa(a.Baseline.IPs), strconv.Itoa(row.KnownIPs)},
		{"baseline.asns", strconv.Itoa(a.Baseline.ASNs), strconv.Itoa(row.KnownASNs)},
		{"baseline.first_hour", a.Baseline.FirstHour, firstHour},
		{"baseline.last_hour", a.Baseline.LastHour, lastHour},
		{"baseline.evicted", strconv.Itoa(a.Baseline.Evicted), "0"},
		{"late", strconv.FormatBool(a.Late), "false"}, // hours that are read in order are not
		{"clamped", strconv.FormatBool(a.Clamped), strconv.FormatBool(!row.Dated.Equal(row.Time))},
	} {
		if field.have != field.want {
			wrong = append(wrong, fmt.Sprintf("its %s is %.200q, not %.200q", field.name, field.have, field.want))
		}
	}
	return wrong
}

// cutText is what an alert has of a text: whole runes.
func cutText(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "")
}

// number is an ASN as an alert has it, "" where it is none.
func number(asn string) string {
	n, err := strconv.ParseUint(asn, 10, 32)
	if err != nil {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

// uuid5 is the UUID, version 5, of a name in a namespace.
func uuid5(namespace, name string) string {
	space, err := hex.DecodeString(strings.ReplaceAll(namespace, "-", ""))
	if err != nil {
		panic("BUG: " + namespace + " is no UUID")
	}
	sum := sha1.Sum(slices.Concat(space, []byte(name))) //nolint:gosec // see its import
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x50, id[8]&0x3f|0x80
	return uuidText(id)
}
