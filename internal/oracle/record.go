package oracle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
}

// AddMessage takes a whole message: {"records": [...]}, a bare array or one bare record.
// Every record that can be taken is; the errors of the others come back joined.
func (q *Query) AddMessage(message []byte) error {
	records := []json.RawMessage{message}
	var envelope struct {
		Records []json.RawMessage `json:"records"`
	}
	if trimmed := bytes.TrimSpace(message); len(trimmed) > 0 && trimmed[0] == '[' {
		if err := json.Unmarshal(message, &records); err != nil {
			return fmt.Errorf("reading message: %w", err)
		}
	} else if err := json.Unmarshal(message, &envelope); err != nil {
		return fmt.Errorf("reading message: %w", err)
	} else if envelope.Records != nil {
		records = envelope.Records
	}
	var errs []error
	for i, record := range records {
		if err := q.Add(record); err != nil {
			errs = append(errs, fmt.Errorf("record %d: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// read reads one record of either shape; nil is a record of another category.
func read(record []byte) (*signIn, error) {
	decoder := json.NewDecoder(bytes.NewReader(record))
	decoder.UseNumber()
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		return nil, fmt.Errorf("reading record: %w", err)
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
	}
	if s.ip == "" {
		s.ip = text(fields["callerIpAddress"])
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
	}
	return s, s.settle(text(fields["TimeGenerated"]), text(fields["CreatedDateTime"]))
}

// settle checks what a sign-in must have: an id and a time.
func (s *signIn) settle(generated, created string) (err error) {
	if s.id == "" {
		return errors.New("reading record: it has no id")
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

// parseTime reads the forms in which Azure writes a time; one without a zone is UTC.
func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "1/2/2006 3:04:05 PM"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is in no known form", text)
}
