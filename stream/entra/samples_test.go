package entra

import (
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"testing"
)

const (
	nonInteractive = "testdata/non_interactive_user_sign_in_logs.jsonl"
	interactive    = "testdata/sign_in_logs.jsonl"
)

// samples returns the real records of a file, one each.
func samples(t testing.TB, path string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var records [][]byte
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			records = append(records, line)
		}
	}
	return records
}

// envelopeOf wraps records as Azure does.
func envelopeOf(records [][]byte) []byte {
	return append(append([]byte(`{"records":[`), bytes.Join(records, []byte{','})...), "]}"...)
}

func benchMessage(t testing.TB, shape string) []byte {
	t.Helper()
	real := samples(t, nonInteractive)
	var records [][]byte
	for i := range 100 {
		r := real[i%len(real)]
		if shape == "table" {
			r = tableOf(t, r)
		}
		records = append(records, r)
	}
	return envelopeOf(records)
}

// tableOf writes a diagnostic record as the Log Analytics export would: flat columns, texts
// that hold JSON, the workspace as TenantId. It goes by the type and column list of
// AADNonInteractiveUserSignInLogs and by what real mappings rename.
func tableOf(t testing.TB, diagnostic []byte) []byte {
	t.Helper()
	var r map[string]any
	decoder := json.NewDecoder(bytes.NewReader(diagnostic))
	decoder.UseNumber()
	if err := decoder.Decode(&r); err != nil {
		t.Fatal(err)
	}
	p, _ := r["properties"].(map[string]any)
	text := func(v any) any {
		switch v := v.(type) {
		case nil:
			return nil
		case json.Number:
			return v.String()
		}
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	row := map[string]any{
		"TimeGenerated": r["time"], "Type": tableType, "Category": r["category"], "OperationName": r["operationName"],
		"TenantId": "99999999-0000-4000-8000-000000000001", "AADTenantId": r["tenantId"],
		"ResultType": r["resultType"], "Location": r["location"], "Identity": r["identity"],
		"Level": strconv.Itoa(4), "DurationMs": r["durationMs"], "CorrelationId": r["correlationId"],
		"IPAddress": p["ipAddress"], "LocationDetails": text(p["location"]), "DeviceDetail": text(p["deviceDetail"]),
		"Status": text(p["status"]), "AuthenticationDetails": text(p["authenticationDetails"]),
		"ConditionalAccessPolicies": text(p["appliedConditionalAccessPolicies"]),
		"AutonomousSystemNumber":    text(p["autonomousSystemNumber"]), "ResourceIdentity": p["resourceId"],
		"IsInteractive": p["isInteractive"],
	}
	for column, key := range map[string]string{
		"Id": "id", "CreatedDateTime": "createdDateTime", "UserPrincipalName": "userPrincipalName", "UserId": "userId",
		"UserDisplayName": "userDisplayName", "AppId": "appId", "AppDisplayName": "appDisplayName",
		"ResourceDisplayName": "resourceDisplayName", "UserAgent": "userAgent", "SessionId": "sessionId",
		"UniqueTokenIdentifier": "uniqueTokenIdentifier", "IncomingTokenType": "incomingTokenType",
	} {
		if v, ok := p[key]; ok {
			row[column] = v
		}
	}
	b, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
