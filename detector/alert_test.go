package detector

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

var alertSchema = sync.OnceValue(func() *jsonschema.Schema {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(AlertSchema))
	if err != nil {
		panic(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("alert.schema.json", doc); err != nil {
		panic(err)
	}
	return c.MustCompile("alert.schema.json")
})

func invalid(alert []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(alert))
	if err != nil {
		return err
	}
	return alertSchema().Validate(doc)
}

// validate fails the test where the alert does not satisfy the schema.
func validate(t interface {
	Helper()
	Fatalf(string, ...any)
}, alert []byte,
) {
	t.Helper()
	if err := invalid(alert); err != nil {
		t.Fatalf("%s\n%v", alert, err)
	}
}

// full is a sign-in with every field.
func full() *SignIn {
	yes, no := true, false
	s := theft(at(time.Date(2026, 11, 23, 10, 14, 3, 123456700, time.FixedZone("", 3600))))
	s.ResourceID, s.AppName, s.AppID, s.UserAgent = "c44b4083", "Company <Portal> & more", "9ba1a5c7", "Mozilla/5.0"
	s.CorrelationID, s.SessionID, s.UniqueTokenIdentifier, s.IncomingTokenType = "dc5b029f", "4cfd7153", "9F0ULIAStkOXnh1GAtwYAA", "primaryRefreshToken"
	s.DeviceID, s.DeviceName, s.DeviceManaged, s.DeviceCompliant = "d-1", "laptop", &no, &yes
	s.Truncated = true
	return s
}

const fullAlert = `{"schema":"prtwatch.alert/1","id":"UUID","status":"new","severity":"high","reason":"new_network",` +
	`"title":"Alice@example.com used a token on Microsoft Intune from 203.0.113.7 (AS64500, NL) without MFA: neither address nor network was seen of this user in the 14 days before",` +
	`"time":"2026-11-23T09:14:03.1234567Z",` +
	`"rule":{"id":"5a6f1c3e-2a1b-4c9e-9f01-11a2b3c4d508","name":"Intune - Possible refresh token / PRT reuse accessing Intune resource","version":"1.0.0","preset":"kql","tactics":["CredentialAccess","LateralMovement"],"techniques":["T1528","T1550.001"]},` +
	`"user":{"upn":"Alice@example.com","id":"6431a421-e8f1-4793-85fc-8b3f7c2f21ca","tenant_id":"4d3bac44-0230-4732-9e70-cc00736f0a97"},` +
	`"source":{"ip":"203.0.113.7","asn":64500,"country":"NL"},` +
	`"resource":{"name":"Microsoft Intune","id":"c44b4083"},` +
	`"app":{"name":"Company <Portal> & more","id":"9ba1a5c7"},` +
	`"user_agent":"Mozilla/5.0",` +
	`"sign_in":{"id":"3b0cf6b8-8a43-4f0d-a0a6-2b8f4b5c1d00","correlation_id":"dc5b029f","session_id":"4cfd7153","unique_token_identifier":"9F0ULIAStkOXnh1GAtwYAA","incoming_token_type":"primaryRefreshToken"},` +
	`"device":{"id":"d-1","name":"laptop","managed":false,"compliant":true},` +
	`"baseline":{"ips":1,"asns":1,"first_hour":"2026-11-22T12:00:00Z","last_hour":"2026-11-22T12:00:00Z","evicted":0},"truncated":true}`

func TestAnAlertIsWrittenAsTheContractSays(t *testing.T) {
	d, h := newDetector(t), newHistory()
	judge(t, d, theft(id("before"), at(noon.Add(-24*time.Hour)), from("192.0.2.1", "64501")), nil, h)
	s := full()
	a := judge(t, d, s, nil, h).Alert
	want := strings.Replace(fullAlert, "UUID", uuid.NewSHA1(uuid.MustParse("5a6f1c3e-2a1b-4c9e-9f01-11a2b3c4d508"), []byte(s.ID)).String(), 1)
	if got := string(a.JSON()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var back Alert
	if err := json.Unmarshal(a.JSON(), &back); err != nil || !reflect.DeepEqual(&back, a) {
		t.Errorf("read back: %+v, %v", back, err)
	}
}

// The ids that every consumer keeps; computed once with Python's uuid.uuid5.
func TestAlertIDsNeverChange(t *testing.T) {
	for signIn, want := range map[string]string{
		"3b0cf6b8-8a43-4f0d-a0a6-2b8f4b5c1d00": "5c23b8ce-4422-578b-9669-39aa8b046535",
		"3B0CF6B8-8A43-4F0D-A0A6-2B8F4B5C1D00": "8662d721-44e4-5367-aa10-9fae5a90b0bb",
		"é":                                    "231a263d-ae37-586b-b8f3-daa36f470a4b",
	} {
		if got := judge(t, newDetector(t), theft(id(signIn)), nil, newHistory()).Alert.ID; got != want {
			t.Errorf("%q: %s, want %s", signIn, got, want)
		}
	}
}

func TestAbsentValuesAreLeftOut(t *testing.T) {
	s := &SignIn{ID: "1", Generated: noon, IP: "203.0.113.7", ResultType: "0", ResourceName: "Windows 365"}
	got := string(judge(t, newDetector(t), s, nil, newHistory()).Alert.JSON())
	_, after, _ := strings.Cut(got, `"time":`)
	rule, after, _ := strings.Cut(after, `,"user":`)
	want := `{},"source":{"ip":"203.0.113.7"},"resource":{"name":"Windows 365"},"sign_in":{"id":"1"},"baseline":{"ips":0,"asns":0,"evicted":0}}`
	if after != want || !strings.HasPrefix(rule, `"2026-11-23T12:00:00.0000000Z"`) {
		t.Errorf("%s", got)
	}
	if !strings.Contains(got, `"title":"A user without a name used a token on Windows 365 from 203.0.113.7 without MFA: no sign-in of this user is known from the 14 days before"`) {
		t.Errorf("%s", got)
	}
}

func TestAnASNThatIsNoNumberIsLeftOut(t *testing.T) {
	for asn, want := range map[string]string{
		"64500": `"asn":64500`, "0": `"asn":0`, "4294967295": `"asn":4294967295`,
		"": "", "4294967296": "", "-1": "", "AS64500": "", "1.5": "",
	} {
		a := judge(t, newDetector(t), theft(func(s *SignIn) { s.ASN = asn }), nil, newHistory()).Alert
		got := string(a.JSON())
		if strings.Contains(got, `"asn":`) != (want != "") || !strings.Contains(got, want) {
			t.Errorf("%q: %s", asn, got)
		}
	}
}

func TestTheHeadersAreACloudEvent(t *testing.T) {
	a := judge(t, newDetector(t), full(), nil, newHistory()).Alert
	want := []Header{
		{"ce_id", a.ID},
		{"ce_source", "/prtwatch/4d3bac44-0230-4732-9e70-cc00736f0a97"},
		{"ce_type", "prtwatch.alert.v1"},
		{"ce_specversion", "1.0"},
		{"ce_time", "2026-11-23T09:14:03.1234567Z"},
		{"content-type", "application/json"},
	}
	if got := a.Headers(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	a.User.TenantID = "a b/ü"
	if got := a.Headers()[1].Value; got != "/prtwatch/a%20b%2F%C3%BC" {
		t.Errorf("the source of an odd tenant is %s", got)
	}
}

func TestEveryAlertSatisfiesTheSchema(t *testing.T) {
	text := rapid.String()
	rapid.Check(t, func(t *rapid.T) {
		s := drawSignIn(t)
		s.ID, s.UPN, s.UserID, s.TenantID = text.Draw(t, "id")+"1", text.Draw(t, "upn"), text.Draw(t, "user id"), text.Draw(t, "tenant")
		s.IP, s.ASN, s.Country, s.ResultType, s.MFA = "203.0.113.7", text.Draw(t, "asn"), text.Draw(t, "country"), "0", 0
		s.ResourceName = text.Draw(t, "before") + "/Windows 365/" + strings.Repeat(text.Draw(t, "after"), 100)
		s.ResourceID, s.AppName, s.UserAgent = text.Draw(t, "resource"), text.Draw(t, "app name"), string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		s.CorrelationID, s.SessionID, s.UniqueTokenIdentifier, s.IncomingTokenType = text.Draw(t, "c"), text.Draw(t, "s"), text.Draw(t, "u"), text.Draw(t, "i")
		s.Generated = time.Unix(rapid.Int64Range(-62135596800, 253402296000).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds"))
		d, err := New(DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		first, again := d.Judge(s, nil, newHistory()), d.Judge(s, nil, newHistory())
		validate(t, first.Alert.JSON())
		if !bytes.Equal(first.Alert.JSON(), again.Alert.JSON()) {
			t.Fatalf("%s\n%s", first.Alert.JSON(), again.Alert.JSON())
		}
		if i := strings.IndexFunc(first.Alert.Title, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 || len(first.Alert.Title) > 1000 {
			t.Fatalf("title %q", first.Alert.Title)
		}
	})
}

func TestATitleCutsLongTextsBetweenCharacters(t *testing.T) {
	for n := range 4 {
		long := strings.Repeat("x", n) + strings.Repeat("é€", 100)
		got := titleText(long)
		kept, cut := strings.CutSuffix(got, "…")
		if !cut || !strings.HasPrefix(long, kept) || len(kept) > maxTitleText || len(kept) < maxTitleText-3 {
			t.Errorf("%q became %q", long, got)
		}
	}
	if got := titleText("", "red\x1b[31m\u202etxt\n"); got != "red\uFFFD[31m\uFFFDtxt\uFFFD" {
		t.Errorf("%q", got)
	}
}

// Each change breaks the contract, and the schema must notice; what it does not name it accepts.
func TestTheSchemaRefusesWhatIsNoAlert(t *testing.T) {
	valid := func() map[string]any {
		var doc map[string]any
		text := strings.Replace(fullAlert, "UUID", alertID(prtReuse.ID, "1").String(), 1)
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		return doc
	}
	check := func(what string, doc map[string]any, want bool) {
		t.Helper()
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		if got := invalid(text) == nil; got != want {
			t.Errorf("%s: valid %v", what, got)
		}
	}
	check("as it is", valid(), true)
	required := []string{"schema", "id", "status", "severity", "reason", "title", "time", "rule", "user", "source", "resource", "sign_in", "baseline"}
	for _, name := range slices.Sorted(maps.Keys(valid())) {
		doc := valid()
		delete(doc, name)
		check("without "+name, doc, !slices.Contains(required, name))
		doc[name] = []any{1}
		check(name+" of another type", doc, false)
		if inner, ok := valid()[name].(map[string]any); ok {
			for field := range inner {
				doc := valid()
				doc[name].(map[string]any)[field] = map[string]any{}
				check(name+"."+field+" of another type", doc, false)
			}
			doc := valid()
			doc[name].(map[string]any)["later"] = 1
			check(name+" with a field of a later version", doc, true)
		}
	}
	for what, change := range map[string]func(doc map[string]any){
		"six digits":       func(doc map[string]any) { doc["time"] = "2026-11-23T10:14:03.123456Z" },
		"a zone":           func(doc map[string]any) { doc["time"] = "2026-11-23T10:14:03.1234567+01:00" },
		"a random id":      func(doc map[string]any) { doc["id"] = "f47ac10b-58cc-4372-a567-0e02b2c3d479" },
		"a port":           func(doc map[string]any) { doc["source"].(map[string]any)["ip"] = "192.0.2.7:443" },
		"an ASN too large": func(doc map[string]any) { doc["source"].(map[string]any)["asn"] = 1 << 32 },
		"a false late":     func(doc map[string]any) { doc["late"] = false },
		"an empty text":    func(doc map[string]any) { doc["user_agent"] = "" },
		"a broken hour":    func(doc map[string]any) { doc["baseline"].(map[string]any)["last_hour"] = "2026-11-23T10:14:00Z" },
		"one hour only":    func(doc map[string]any) { delete(doc["baseline"].(map[string]any), "last_hour") },
	} {
		doc := valid()
		change(doc)
		check(what, doc, false)
	}
}
