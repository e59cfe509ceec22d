package oracle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// signIn is a record as the query sees it, whichever shape it came in.
type signIn struct {
	id                 string
	generated, created time.Time
	upn                string
	ip                 string
	asn                string
	resultType         string
	resource           string
	authDetails        string
	app, userAgent     string
	country            string
	tenant             string
}

// read reads one record of either shape; nil is a record of another category.
func read(record []byte) (*signIn, error) {
	switch {
	case len(record) == 0 || record[0] != '{':
		return nil, errors.New("reading record: it is no object")
	case depthOf(record) > maxDepth:
		return nil, errors.New("reading record: it is nested too deep")
	}
	var fields map[string]any
	decoder := json.NewDecoder(bytes.NewReader(record))
	decoder.UseNumber()
	if err := decoder.Decode(&fields); err != nil {
		return nil, fmt.Errorf("reading record: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("reading record: more follows")
	}
	if properties, ok := fields["properties"].(map[string]any); ok {
		return readDiagnostic(fields, properties)
	}
	return readTable(fields)
}

// readDiagnostic reads a record of diagnostic settings: camel case, nested.
func readDiagnostic(fields, properties map[string]any) (*signIn, error) {
	if category := text(fields["category"]); category != "" && category != "NonInteractiveUserSignInLogs" {
		return nil, nil
	}
	s := &signIn{
		id:          text(properties["id"]),
		upn:         text(properties["userPrincipalName"]),
		ip:          text(properties["ipAddress"]),
		asn:         text(properties["autonomousSystemNumber"]),
		resultType:  text(fields["resultType"]),
		resource:    text(properties["resourceDisplayName"]),
		authDetails: text(properties["authenticationDetails"]),
		app:         text(properties["appDisplayName"]),
		userAgent:   text(properties["userAgent"]),
		country:     country(properties["location"]),
		tenant:      text(fields["tenantId"]),
	}
	if s.ip == "" {
		s.ip = text(fields["callerIpAddress"])
	}
	if s.tenant == "" {
		s.tenant = text(properties["tenantId"])
	}
	return s, s.settle(text(fields["time"]), text(properties["createdDateTime"]))
}

// readTable reads a row of the Log Analytics table: Pascal case, flat.
func readTable(fields map[string]any) (*signIn, error) {
	if table := text(fields["Type"]); table != "" && table != "AADNonInteractiveUserSignInLogs" {
		return nil, nil
	}
	s := &signIn{
		id:          text(fields["Id"]),
		upn:         text(fields["UserPrincipalName"]),
		ip:          text(fields["IPAddress"]),
		asn:         text(fields["AutonomousSystemNumber"]),
		resultType:  text(fields["ResultType"]),
		resource:    text(fields["ResourceDisplayName"]),
		authDetails: text(fields["AuthenticationDetails"]),
		app:         text(fields["AppDisplayName"]),
		userAgent:   text(fields["UserAgent"]),
		country:     country(fields["LocationDetails"]),
		tenant:      text(fields["AADTenantId"]), // TenantId is the workspace
	}
	return s, s.settle(text(fields["TimeGenerated"]), text(fields["CreatedDateTime"]))
}

// The bounds of a record: prtwatch refuses what is beyond them, and so must the oracle.
const (
	maxDepth = 64
	maxID    = 1 << 10 // bytes of the id and of the UPN
)

// depthOf is how deep brackets are nested, those in strings left out.
func depthOf(record []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(record); i++ {
		switch c := record[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// settle checks what a sign-in must have: an id and a time.
func (s *signIn) settle(generated, created string) (err error) {
	if s.id == "" {
		return errors.New("reading record: it has no id")
	}
	if len(s.id) > maxID || len(s.upn) > maxID {
		return fmt.Errorf("reading record: its id or UPN has more than %d bytes", maxID)
	}
	if s.generated, err = parseTime(generated); err != nil {
		return fmt.Errorf("reading record: its time: %w", err)
	}
	if t, err := parseTime(created); err == nil {
		s.created = t // the query does not need it
	}
	return nil
}

// text is tostring: a string as it is, null as the empty one, anything else as JSON.
func text(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b.Bytes()))
}

// country is tostring(parse_json(tostring(LocationDetails)).countryOrRegion).
func country(details any) string {
	var location map[string]any
	if json.Unmarshal([]byte(text(details)), &location) != nil {
		return ""
	}
	return text(location["countryOrRegion"])
}

// parseTime reads the forms in which Azure writes a time; one without a zone is UTC.
func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "1/2/2006 3:04:05 PM"} {
		t, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		if t.Unix() < 0 || t.Unix() >= math.MaxInt64/int64(time.Second) {
			return time.Time{}, fmt.Errorf("%q is not between 1970 and 2262", text)
		}
		return t.UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%q is in no known form", text)
}
