package entra

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	gojson "github.com/goccy/go-json"

	"github.com/prtwatch/prtwatch/detector"
)

// document is an object that is a record or, when it has `records`, an envelope.
type document struct {
	record
	Records json.RawMessage `json:"records"`
}

// record is one record of either shape. Keys match in any case, so that a diagnostic
// `category` and a table's `Category` are one field. Where one name means two things, the
// shape decides:
//
//   - `tenantId` is the Entra tenant, the table's `TenantId` the Log Analytics workspace;
//   - a record's `resourceId` is the path of the Azure resource, `properties.resourceId` the
//     resource that was signed in to, in the table `ResourceIdentity`;
//   - a record's `location` is a country, `properties.location` an object, in the table
//     `LocationDetails`.
//
// Only what a sign-in needs is named here; whatever else a record holds (`Level` beside
// `level`, `durationMs` as number or text) is walked over, of any type.
type record struct {
	fields                      // the table's columns
	Time        string          `json:"time"`
	Generated   string          `json:"TimeGenerated"`
	Category    string          `json:"category"`
	Type        string          `json:"Type"`
	TenantID    string          `json:"tenantId"`
	AADTenantID string          `json:"AADTenantId"`
	ResultType  json.RawMessage `json:"resultType"`
	CallerIP    string          `json:"callerIpAddress"`
	Properties  fields          `json:"properties"`
}

// fields are what `properties` of a diagnostic record and the columns of the table have in
// common, name for name but for the last two pairs.
type fields struct {
	ID            string          `json:"id"`
	Created       string          `json:"createdDateTime"`
	UPN           string          `json:"userPrincipalName"`
	UserID        string          `json:"userId"`
	TenantID      string          `json:"tenantId"` // of properties; on the top level record.TenantID hides it
	AppID         string          `json:"appId"`
	AppName       string          `json:"appDisplayName"`
	IP            string          `json:"ipAddress"`
	ASN           json.RawMessage `json:"autonomousSystemNumber"`
	UserAgent     string          `json:"userAgent"`
	Device        json.RawMessage `json:"deviceDetail"`
	CorrelationID string          `json:"correlationId"`
	Interactive   json.RawMessage `json:"isInteractive"`
	ResourceName  string          `json:"resourceDisplayName"`
	MFADetails    json.RawMessage `json:"authenticationDetails"`
	UniqueTokenID string          `json:"uniqueTokenIdentifier"`
	IncomingToken string          `json:"incomingTokenType"`
	SessionID     string          `json:"sessionId"`

	ResourceID      string          `json:"resourceId"`
	TableResourceID string          `json:"ResourceIdentity"`
	Location        json.RawMessage `json:"location"`
	TableLocation   json.RawMessage `json:"LocationDetails"`
}

// maxKept is the most bytes that a Decoder keeps room for between records.
const maxKept = 64 << 10

// reset clears all that was decoded: a field is left alone that a record lacks, and another user's
// address must not stand there. What is remembered of records it forgets where that has become too much.
func (d *Decoder) reset() {
	d.doc = document{}
	d.inner.device, d.inner.location = device{}, location{}
	if d.texts = d.texts[:0]; cap(d.texts) > maxKept {
		d.texts = nil
	}
	if d.remembered > maxRemembered {
		d.remembered = 0
		for _, m := range [...]*members{d.wanted.document, d.wanted.record, d.wanted.device, d.wanted.location} {
			m.forget()
		}
	}
}

// The categories of non-interactive sign-ins, as the two exports name them.
const (
	diagnosticCategory = "NonInteractiveUserSignInLogs"
	tableType          = "AADNonInteractiveUserSignInLogs"
)

// ours reports whether the record is a non-interactive sign-in: by `category` and `Type`,
// neither of which may name something else. A record that has neither is taken for one
// unless it says that it is interactive: then a lacking id or time makes it unreadable, and
// nothing disappears unseen.
func (r *record) ours() bool {
	if r.Category == "" && r.Type == "" {
		return !isTrue(r.Interactive) && !isTrue(r.Properties.Interactive)
	}
	return (r.Category == "" || strings.EqualFold(r.Category, diagnosticCategory)) &&
		(r.Type == "" || strings.EqualFold(r.Type, tableType))
}

// outcome is what a readable record is.
type outcome uint8

const (
	signIn outcome = iota
	otherCategory
)

// walk reads the object at pos into d.doc, as far as m says, and returns where it ends. It
// declines, with false, what is for decodeRecord.
func (d *Decoder) walk(data []byte, pos int, m *members) (end int, ok bool) {
	d.reset()
	w := walker{scanner{data, pos}, d}
	ok = !d.libraryOnly && w.object(m, maxDepth)
	return w.pos, ok
}

// decodeRecord decodes one object into d.doc, or the part of it that into points at, and, if
// it is a sign-in, projects it into d.signIn. Where it cannot be read, the Unreadable has
// Reason and Detail.
func (d *Decoder) decodeRecord(raw []byte, into any) (outcome, Unreadable) {
	d.reset()
	if err := gojson.UnmarshalWithOption(raw, into, gojson.DecodeNoCopyString()); err != nil {
		return d.undecodable(err)
	}
	return d.decoded()
}

// decoded is what becomes of the record in d.doc.
func (d *Decoder) decoded() (outcome, Unreadable) {
	if !d.doc.ours() {
		return otherCategory, Unreadable{}
	}
	return signIn, d.project()
}

// undecodable says what becomes of a record that the JSON library does not take.
func (d *Decoder) undecodable(err error) (outcome, Unreadable) {
	var wrongType *gojson.UnmarshalTypeError
	switch {
	case !errors.As(err, &wrongType):
		return signIn, Unreadable{Reason: ReasonMalformed, Detail: malformedAt(err)}
	case !d.doc.ours():
		// Everything else has been decoded, and in a record of another category the field
		// may have whatever type it likes.
		return otherCategory, Unreadable{}
	}
	return signIn, Unreadable{
		Reason: ReasonWrongType,
		Detail: fmt.Sprintf("%s cannot be %s", fieldName(wrongType), article(wrongType.Value)),
	}
}

func fieldName(e *gojson.UnmarshalTypeError) string {
	if e.Field == "" {
		return "the record"
	}
	return "`" + e.Field + "`"
}

// article names a JSON type without the value that may follow it ("number 12").
func article(value string) string {
	kind, _, _ := strings.Cut(value, " ")
	if strings.HasPrefix(kind, "a") || strings.HasPrefix(kind, "o") {
		return "an " + kind
	}
	return "a " + kind
}

// malformedAt says where the JSON is broken, and not by which byte.
func malformedAt(err error) string {
	var syntax *gojson.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("not JSON at byte %d", syntax.Offset)
	}
	return "not JSON"
}

// project fills d.signIn from d.doc.
func (d *Decoder) project() Unreadable {
	r := &d.doc.record
	f, diagnostic := &r.Properties, true
	if f.ID == "" && r.ID != "" {
		f, diagnostic = &r.fields, false
	}
	for _, id := range [...]struct{ name, value string }{{"id", f.ID}, {"userPrincipalName", f.UPN}, {"userId", f.UserID}} {
		if len(id.value) > detector.MaxID {
			return Unreadable{Reason: ReasonTooLong, Detail: fmt.Sprintf("`%s` has %d bytes, %d are allowed", id.name, len(id.value), detector.MaxID)}
		}
	}
	if f.ID == "" {
		return Unreadable{Reason: ReasonNoID, Detail: "neither `properties.id` nor `Id`"}
	}
	name, when := "time", r.Time
	if !diagnostic {
		name, when = "TimeGenerated", r.Generated
	}
	if when == "" {
		return Unreadable{Reason: ReasonNoTime, Detail: "no `" + name + "`"}
	}
	generated, ok := parseTime(when)
	if !ok {
		return Unreadable{Reason: ReasonBadTime, Detail: "`" + name + "` is no time between 1970 and 2262"}
	}
	// Without the sign-in's own time, or with one that cannot be read, it is a sign-in like
	// any other: the query does not look at it.
	created, _ := parseTime(f.Created)

	d.signIn = detector.SignIn{ID: f.ID, Generated: generated, Created: created, UPN: f.UPN, UserID: f.UserID}
	s := &d.signIn
	if diagnostic {
		s.TenantID = d.text(firstOf(r.TenantID, f.TenantID))
		s.IP = d.text(firstOf(f.IP, r.CallerIP))
		s.ResourceID = d.text(f.ResourceID)
		s.Country = d.text(d.country(f.Location))
		s.CorrelationID = d.text(firstOf(f.CorrelationID, r.CorrelationID))
	} else {
		s.TenantID = d.text(r.AADTenantID)
		s.IP = d.text(f.IP)
		s.ResourceID = d.text(f.TableResourceID)
		s.Country = d.text(d.country(f.TableLocation))
		s.CorrelationID = d.text(f.CorrelationID)
	}
	s.ResourceName, s.AppName, s.AppID = d.text(f.ResourceName), d.text(f.AppName), d.text(f.AppID)
	s.UserAgent, s.SessionID = d.text(f.UserAgent), d.text(f.SessionID)
	s.UniqueTokenIdentifier, s.IncomingTokenType = d.text(f.UniqueTokenID), d.text(f.IncomingToken)
	s.MFA = detector.ReadMFA(d.innerJSON(f.MFADetails))
	d.device(f.Device)
	return d.scalars(r.ResultType, f.ASN)
}

// scalars fills the two fields that are a number in one export and a text in the other.
func (d *Decoder) scalars(resultType, asn json.RawMessage) Unreadable {
	for _, field := range [...]struct {
		name string
		raw  json.RawMessage
		to   *string
	}{{"resultType", resultType, &d.signIn.ResultType}, {"autonomousSystemNumber", asn, &d.signIn.ASN}} {
		text, ok := d.scalar(field.raw)
		if !ok {
			return Unreadable{Reason: ReasonWrongType, Detail: "`" + field.name + "` is neither text nor number"}
		}
		*field.to = d.text(text)
	}
	return Unreadable{}
}

// device and location are what a text may hold in place of an object.
type (
	device struct {
		ID        string          `json:"deviceId"`
		Name      string          `json:"displayName"`
		Managed   json.RawMessage `json:"isManaged"`
		Compliant json.RawMessage `json:"isCompliant"`
	}
	location struct {
		Country string `json:"countryOrRegion"`
	}
)

// device fills the fields of the device from an object or a text that holds one.
func (d *Decoder) device(raw json.RawMessage) {
	v := &d.inner.device
	if !d.inside(raw, v, d.wanted.device) {
		return
	}
	d.signIn.DeviceID, d.signIn.DeviceName = d.text(v.ID), d.text(v.Name)
	if b, ok := boolean(v.Managed); ok {
		d.managed = b
		d.signIn.DeviceManaged = &d.managed
	}
	if b, ok := boolean(v.Compliant); ok {
		d.compliant = b
		d.signIn.DeviceCompliant = &d.compliant
	}
}

// country returns the country of a location, an object or a text that holds one.
func (d *Decoder) country(raw json.RawMessage) string {
	v := &d.inner.location
	if !d.inside(raw, v, d.wanted.location) {
		return ""
	}
	return v.Country
}

// text cuts a text at detector.MaxText, not within a rune, and marks the sign-in.
func (d *Decoder) text(s string) string {
	if len(s) <= detector.MaxText {
		return s
	}
	d.signIn.Truncated = true
	end := detector.MaxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
