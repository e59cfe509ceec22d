package detector

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// AlertSchemaID names the form of an alert. It changes only with a change that is not
// additive.
const AlertSchemaID = "prtwatch.alert/1"

// AlertSchema is the JSON Schema (draft 2020-12) that every alert satisfies.
//
//go:embed alert.schema.json
var AlertSchema string

// Reason says why a sign-in alerts.
type Reason string

// The reasons of preset kql; hardened adds `learning`.
const (
	NewNetwork Reason = "new_network" // the user has a baseline, and this is not in it
	NoBaseline Reason = "no_baseline" // nothing is known of the user at that hour
)

// StatusNew is the status of an alert that nothing came before.
const StatusNew = "new"

// Alert is the alert, field for field as it is written. It holds no wall clock: when it was
// emitted is the timestamp of its record. Times are RFC 3339 in UTC. Texts are the sign-in's.
type Alert struct {
	Schema    string        `json:"schema"`
	ID        string        `json:"id"`
	Status    string        `json:"status"`
	Severity  Severity      `json:"severity"`
	Reason    Reason        `json:"reason"`
	Title     string        `json:"title"`
	Time      string        `json:"time"` // the sign-in's (see Config.EventTime), never clamped, seven digits
	Rule      AlertRule     `json:"rule"`
	User      AlertUser     `json:"user"`
	Source    AlertSource   `json:"source"`
	Resource  AlertResource `json:"resource"`
	App       AlertApp      `json:"app,omitzero"`
	UserAgent string        `json:"user_agent,omitempty"`
	SignIn    AlertSignIn   `json:"sign_in"`
	Device    AlertDevice   `json:"device,omitzero"`
	Baseline  AlertBaseline `json:"baseline"`
	Late      bool          `json:"late,omitempty"`      // see Verdict
	Clamped   bool          `json:"clamped,omitempty"`   // see Verdict
	Truncated bool          `json:"truncated,omitempty"` // see SignIn
}

// AlertRule is the rule that alerted.
type AlertRule struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Version    string   `json:"version"`
	Preset     string   `json:"preset"`
	Tactics    []string `json:"tactics"`
	Techniques []string `json:"techniques"`
}

// AlertUser is whose token was used.
type AlertUser struct {
	UPN      string `json:"upn,omitempty"`
	ID       string `json:"id,omitempty"`
	TenantID string `json:"tenant_id,omitempty"`
}

// AlertSource is where the token was used from.
type AlertSource struct {
	IP      string  `json:"ip"`            // see SignIn.Address
	ASN     *uint32 `json:"asn,omitempty"` // nil where it is missing or no number of 32 bits
	Country string  `json:"country,omitempty"`
}

// AlertResource is what the token was used for.
type AlertResource struct {
	Name string `json:"name,omitempty"`
	ID   string `json:"id,omitempty"`
}

// AlertApp is the application that used the token.
type AlertApp struct {
	Name string `json:"name,omitempty"`
	ID   string `json:"id,omitempty"`
}

// AlertSignIn holds the ids by which the sign-in is found in Entra ID.
type AlertSignIn struct {
	ID                    string `json:"id"`
	CorrelationID         string `json:"correlation_id,omitempty"`
	SessionID             string `json:"session_id,omitempty"`
	UniqueTokenIdentifier string `json:"unique_token_identifier,omitempty"`
	IncomingTokenType     string `json:"incoming_token_type,omitempty"`
}

// AlertDevice is the device that the sign-in claims.
type AlertDevice struct {
	ID        string `json:"id,omitempty"`
	Name      string `json:"name,omitempty"`
	Managed   *bool  `json:"managed,omitempty"`
	Compliant *bool  `json:"compliant,omitempty"`
}

// AlertBaseline counts the networks of the user that are known at the sign-in's hour.
type AlertBaseline struct {
	IPs       int    `json:"ips"`
	ASNs      int    `json:"asns"`
	FirstHour string `json:"first_hour,omitempty"` // upper edges; absent where nothing is known
	LastHour  string `json:"last_hour,omitempty"`
	Evicted   int    `json:"evicted"` // how many more there would be without the bounds on a profile
}

func (b AlertBaseline) empty() bool { return b.IPs == 0 && b.ASNs == 0 }

// newAlert writes the alert on s, which happened at t and came from ip.
func (d *Detector) newAlert(s *SignIn, id uuid.UUID, t time.Time, ip string, known AlertBaseline, v Verdict) *Alert {
	reason := NewNetwork
	if known.empty() {
		reason = NoBaseline
	}
	a := &Alert{
		Schema:   AlertSchemaID,
		ID:       id.String(),
		Status:   StatusNew,
		Severity: d.rule.Severity,
		Reason:   reason,
		Time:     formatTime(t),
		Rule: AlertRule{
			ID: d.rule.ID.String(), Name: d.rule.Name, Version: d.rule.Version, Preset: d.cfg.Preset,
			Tactics: d.rule.Tactics, Techniques: d.rule.Techniques,
		},
		User:      AlertUser{UPN: s.UPN, ID: s.UserID, TenantID: s.TenantID},
		Source:    AlertSource{IP: ip, ASN: asNumber(s.ASN), Country: s.Country},
		Resource:  AlertResource{Name: s.ResourceName, ID: s.ResourceID},
		App:       AlertApp{Name: s.AppName, ID: s.AppID},
		UserAgent: s.UserAgent,
		SignIn: AlertSignIn{
			ID: s.ID, CorrelationID: s.CorrelationID, SessionID: s.SessionID,
			UniqueTokenIdentifier: s.UniqueTokenIdentifier, IncomingTokenType: s.IncomingTokenType,
		},
		Device:    AlertDevice{ID: s.DeviceID, Name: s.DeviceName, Managed: cloned(s.DeviceManaged), Compliant: cloned(s.DeviceCompliant)},
		Baseline:  known,
		Late:      v.Late,
		Clamped:   v.Clamped,
		Truncated: s.Truncated,
	}
	a.Title = a.title()
	return a
}

// JSON is the value of the alert's record: one line, the same bytes for the same alert.
func (a *Alert) JSON() []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // it is read by people too
	if err := enc.Encode(a); err != nil {
		panic("BUG: encoding an alert: " + err.Error()) // it holds texts, numbers and booleans only
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// Header is one header of the alert's record.
type Header struct{ Key, Value string }

// Headers are the headers of the alert's record, in their order: CloudEvents in binary mode,
// as the Kafka protocol binding writes it.
func (a *Alert) Headers() []Header {
	return []Header{
		{"ce_id", a.ID},
		{"ce_source", "/prtwatch/" + url.PathEscape(a.User.TenantID)},
		{"ce_type", "prtwatch.alert.v1"},
		{"ce_specversion", "1.0"},
		{"ce_time", a.Time},
		{"content-type", "application/json"},
	}
}

// title says who used a token on what, from where, and why that is an alert.
func (a *Alert) title() string {
	var b strings.Builder
	b.WriteString(titleText(a.User.UPN, a.User.ID, "A user without a name"))
	b.WriteString(" used a token on ")
	b.WriteString(titleText(a.Resource.Name))
	b.WriteString(" from ")
	b.WriteString(a.Source.IP)
	var where []string
	if a.Source.ASN != nil {
		where = append(where, "AS"+strconv.FormatUint(uint64(*a.Source.ASN), 10))
	}
	if a.Source.Country != "" {
		where = append(where, titleText(a.Source.Country))
	}
	if len(where) > 0 {
		b.WriteString(" (" + strings.Join(where, ", ") + ")")
	}
	if a.Reason == NoBaseline {
		b.WriteString(" without MFA: no sign-in of this user is known from the 14 days before")
	} else {
		b.WriteString(" without MFA: neither address nor network was seen of this user in the 14 days before")
	}
	if a.Late {
		b.WriteString(", as far as that is still kept: the sign-in came late")
	}
	return b.String()
}

// maxTitleText bounds each text that the title takes from the sign-in, in bytes.
const maxTitleText = 200

// titleText returns the first of the texts that is not empty, on one line and short: titles
// end up in terminals and subjects, where control and bidirectional characters mislead.
func titleText(texts ...string) string {
	for _, text := range texts {
		if text == "" {
			continue
		}
		cut := text
		if len(text) > maxTitleText {
			cut = text[:maxTitleText]
			for r, n := utf8.DecodeLastRuneInString(cut); r == utf8.RuneError && n == 1; r, n = utf8.DecodeLastRuneInString(cut) {
				cut = cut[:len(cut)-1]
			}
			cut += "…"
		}
		return Printable(cut)
	}
	return ""
}

// Printable returns text with U+FFFD for each character that prints nothing: of a text that others have written it
// leaves none that moves a cursor, colours, or turns the order of what is read.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// cloned copies what a decoder that reuses its sign-ins may overwrite.
func cloned(b *bool) *bool {
	if b == nil {
		return nil
	}
	return new(*b)
}

// asNumber returns the ASN as a number, nil where it is none.
func asNumber(asn string) *uint32 {
	n, err := strconv.ParseUint(asn, 10, 32)
	if err != nil {
		return nil
	}
	return new(uint32(n))
}

func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

func formatHour(hour int32) string { return HourTime(hour).Format(time.RFC3339) }
