package tenant

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxRecord bounds a rendered record: the longest have some 8 KB.
const maxRecord = 16 << 10

const (
	sevenDigits = "2006-01-02T15:04:05.0000000"
	usTime      = "1/2/2006 3:04:05 PM"
)

// render appends the record of the event: the fields of real records of 2025 (samples) but for
// some twenty whose value never differs and that nobody reads. What is left has the size of a
// real record and, with the policies, half of it in them, as most tenants have (row 29).
func (t *Tenant) render(b []byte, e *event) []byte {
	if e.table {
		return t.renderTable(b, e)
	}
	return t.renderDiagnostic(b, e)
}

// renderDiagnostic writes what diagnostic settings export: camel case, nested.
func (t *Tenant) renderDiagnostic(b []byte, e *event) []byte {
	u, a := e.user, e.app
	b = append(b, `{"time":"`...)
	b = e.appendTime(b)
	b = append(b, `","resourceId":"/tenants/`...)
	b = t.id.appendTo(b)
	b = append(b, `/providers/Microsoft.aadiam","operationName":"Sign-in activity","operationVersion":"1.0","category":"NonInteractiveUserSignInLogs","tenantId":"`...)
	b = t.id.appendTo(b)
	b = append(b, `","resultType":`...)
	b = e.appendResult(b)
	if e.failure != nil {
		b = append(b, `,"resultSignature":"FAILURE","resultDescription":"`...)
		b = append(b, e.failure.text...)
		b = append(b, '"')
	} else {
		b = append(b, `,"resultSignature":"SUCCESS"`...)
	}
	b = append(b, `,"durationMs":0`...)
	if !e.odd.is(oddNoAddress) {
		b = append(b, `,"callerIpAddress":"`...)
		b = e.appendAddress(b)
		b = append(b, '"')
	}
	b = append(b, `,"correlationId":"`...)
	b = e.correlation.appendTo(b)
	b = append(b, `","identity":"`...)
	b = append(b, u.name...)
	b = append(b, `","Level":4,"location":"`...)
	b = append(b, e.network.city.country...)
	b = append(b, `","properties":{"id":"`...)
	b = e.id.appendTo(b)
	b = append(b, `","createdDateTime":"`...)
	b = appendTime(b, e.created, sevenDigits)
	b = append(b, `+00:00","userDisplayName":"`...)
	b = append(b, u.name...)
	b = append(b, '"')
	b = e.appendText(b, "userPrincipalName", e.upn())
	b = append(b, `,"userId":"`...)
	b = u.id.appendTo(b)
	b = append(b, `","appId":"`...)
	b = append(b, a.id...)
	b = append(b, `","appDisplayName":"`...)
	b = append(b, a.name...)
	b = append(b, '"')
	switch {
	case e.odd.is(oddCaller) && e.odd.how%2 == 0, e.odd.is(oddNoAddress) && e.odd.how%2 == 0:
	case e.odd.is(oddCaller), e.odd.is(oddNoAddress):
		b = append(b, `,"ipAddress":""`...)
	default:
		b = append(b, `,"ipAddress":"`...)
		b = e.appendAddress(b)
		b = append(b, '"')
	}
	b = append(b, `,"status":{"errorCode":`...)
	b = append(b, e.code()...)
	b = append(b, `},"clientAppUsed":"Mobile Apps and Desktop clients"`...)
	b = e.appendText(b, "userAgent", e.userAgent())
	b = append(b, `,"deviceDetail":`...)
	b = append(b, e.deviceDetail(false)...)
	b = append(b, `,"location":`...)
	b = append(b, e.network.city.diagnostic...)
	b = append(b, `,"correlationId":"`...)
	b = e.correlation.appendTo(b)
	b = append(b, `","conditionalAccessStatus":"success","appliedConditionalAccessPolicies":`...)
	b = append(b, t.policies.diagnostic[e.pattern()]...)
	b = append(b, `,"isInteractive":false,"tokenIssuerType":"AzureAD","authenticationProcessingDetails":`...)
	b = append(b, a.processing...)
	b = append(b, `,"clientCredentialType":"none","processingTimeInMilliseconds":`...)
	b = strconv.AppendInt(b, int64(e.millis), 10)
	b = append(b, `,"riskDetail":"none","riskState":"none","resourceDisplayName":"`...)
	b = append(b, e.resource()...)
	b = append(b, `","resourceId":"`...)
	b = append(b, a.resourceID...)
	b = append(b, `","tenantId":"`...)
	b = t.id.appendTo(b)
	b = append(b, `","authenticationDetails":`...)
	b = append(b, e.authentication(false)...)
	b = append(b, `,"authenticationRequirement":"singleFactorAuthentication","userType":"Member","isTenantRestricted":false`...)
	b = e.appendASN(b, "autonomousSystemNumber", false)
	b = append(b, `,"uniqueTokenIdentifier":"`...)
	b = e.id.appendToken(b)
	b = append(b, `","incomingTokenType":"`...)
	b = append(b, a.token...)
	b = append(b, `","authenticationProtocol":"none","tokenProtectionStatusDetails":{"signInSessionStatus":"unbound","signInSessionStatusCode":1002},"sessionId":"`...)
	b = e.session.appendTo(b)
	return append(b, `"}}`...)
}

// renderTable writes what Log Analytics export exports: Pascal case, flat, and what is
// structured as the text of pretty-printed JSON.
func (t *Tenant) renderTable(b []byte, e *event) []byte {
	u, a := e.user, e.app
	b = append(b, `{"TimeGenerated":"`...)
	b = e.appendTime(b)
	b = append(b, `","TenantId":"`...)
	b = t.wsid.appendTo(b)
	b = append(b, `","AADTenantId":"`...)
	b = t.id.appendTo(b)
	b = append(b, `","SourceSystem":"Azure AD","OperationName":"Sign-in activity","OperationVersion":"1.0","Category":"NonInteractiveUserSignInLogs","ResultType":`...)
	b = e.appendResult(b)
	if e.failure != nil {
		b = append(b, `,"ResultSignature":"FAILURE","ResultDescription":"`...)
		b = append(b, e.failure.text...)
	} else {
		b = append(b, `,"ResultSignature":"SUCCESS","ResultDescription":"`...)
	}
	b = append(b, `","DurationMs":0,"CorrelationId":"`...)
	b = e.correlation.appendTo(b)
	b = append(b, `","Identity":"`...)
	b = append(b, u.name...)
	b = append(b, `","Level":"4","Location":"`...)
	b = append(b, e.network.city.country...)
	b = append(b, `","Id":"`...)
	b = e.id.appendTo(b)
	b = append(b, `","CreatedDateTime":"`...)
	b = appendTime(b, e.created, sevenDigits)
	b = append(b, `Z","UserDisplayName":"`...)
	b = append(b, u.name...)
	b = append(b, '"')
	b = e.appendText(b, "UserPrincipalName", e.upn())
	b = append(b, `,"UserId":"`...)
	b = u.id.appendTo(b)
	b = append(b, `","AppId":"`...)
	b = append(b, a.id...)
	b = append(b, `","AppDisplayName":"`...)
	b = append(b, a.name...)
	b = append(b, '"')
	switch {
	case e.odd.is(oddNoAddress) && e.odd.how%2 == 0:
	case e.odd.is(oddNoAddress):
		b = append(b, `,"IPAddress":""`...)
	default:
		b = append(b, `,"IPAddress":"`...)
		b = e.appendAddress(b)
		b = append(b, '"')
	}
	b = append(b, `,"Status":"{\n  \"errorCode\": `...)
	b = append(b, e.code()...)
	b = append(b, `\n}","ClientAppUsed":"Mobile Apps and Desktop clients"`...)
	b = e.appendText(b, "UserAgent", e.userAgent())
	b = append(b, `,"DeviceDetail":`...)
	b = append(b, e.deviceDetail(true)...)
	b = append(b, `,"LocationDetails":`...)
	b = append(b, e.network.city.table...)
	b = append(b, `,"ConditionalAccessStatus":"success","ConditionalAccessPolicies":`...)
	b = append(b, t.policies.table[e.pattern()]...)
	b = append(b, `,"IsInteractive":false,"TokenIssuerType":"AzureAD","AuthenticationProcessingDetails":`...)
	b = append(b, a.processingTable...)
	b = append(b, `,"ClientCredentialType":"none","ProcessingTimeInMs":"`...)
	b = strconv.AppendInt(b, int64(e.millis), 10)
	b = append(b, `","RiskDetail":"none","RiskState":"none","ResourceDisplayName":"`...)
	b = append(b, e.resource()...)
	b = append(b, `","ResourceIdentity":"`...)
	b = append(b, a.resourceID...)
	b = append(b, `","AuthenticationDetails":`...)
	b = append(b, e.authentication(true)...)
	b = append(b, `,"AuthenticationRequirement":"singleFactorAuthentication","UserType":"Member","IsTenantRestricted":false`...)
	b = e.appendASN(b, "AutonomousSystemNumber", true)
	b = append(b, `,"UniqueTokenIdentifier":"`...)
	b = e.id.appendToken(b)
	b = append(b, `","IncomingTokenType":"`...)
	b = append(b, a.token...)
	b = append(b, `","AuthenticationProtocol":"none","TokenProtectionStatusDetails":"{\n  \"signInSessionStatus\": \"unbound\",\n  \"signInSessionStatusCode\": 1002\n}","SessionId":"`...)
	b = e.session.appendTo(b)
	return append(b, `","Type":"AADNonInteractiveUserSignInLogs"}`...)
}

func appendTime(b []byte, at int64, layout string) []byte {
	return time.Unix(0, at).UTC().AppendFormat(b, layout)
}

// appendTime appends the envelope's time.
func (e *event) appendTime(b []byte) []byte {
	switch {
	case e.odd.is(oddUSTime):
		return appendTime(b, e.time, usTime)
	case e.odd.is(oddOffsetTime) && e.odd.how%2 == 0:
		return append(appendTime(b, e.time, sevenDigits), "+00:00"...)
	case e.odd.is(oddOffsetTime):
		return append(appendTime(b, e.time, "2006-01-02T15:04:05.9999999"), 'Z')
	}
	return append(appendTime(b, e.time, sevenDigits), 'Z')
}

// code is the result as a number.
func (e *event) code() string {
	if e.failure != nil {
		return e.failure.code
	}
	return "0"
}

func (e *event) appendResult(b []byte) []byte {
	if e.odd.is(oddResultType) {
		return append(b, e.code()...)
	}
	b = append(b, '"')
	b = append(b, e.code()...)
	return append(b, '"')
}

// appendText appends a field that can be absent or null, which the texts "absent" and
// "null" say.
func (e *event) appendText(b []byte, field, text string) []byte {
	if text == "absent" {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, field...)
	if text == "null" {
		return append(b, `":null`...)
	}
	if text == "empty" {
		text = ""
	}
	b = append(b, `":"`...)
	b = append(b, text...)
	return append(b, '"')
}

func (e *event) upn() string {
	switch e.odd.kind {
	case oddNoUPN:
		return e.odd.pick(oddUPNs)
	case oddUPNCase:
		return e.user.upnOdd
	}
	return e.user.upn
}

func (e *event) userAgent() string {
	if e.odd.is(oddNoAgent) {
		return e.odd.pick(oddAgents)
	}
	return e.agent
}

// appendASN appends the ASN: a number to diagnostic settings, a text to the table, and
// odd records have it the other way round.
func (e *event) appendASN(b []byte, field string, text bool) []byte {
	how := ""
	if e.odd.is(oddASN) {
		how = e.odd.pick(oddASNs)
	}
	if how == "null" || how == "empty" {
		return e.appendText(b, field, how)
	}
	if how == "absent" || e.network.asn == 0 {
		return b
	}
	number := strconv.AppendUint(make([]byte, 0, 10), uint64(e.network.asn), 10)
	if text != (how == "other") {
		return e.appendText(b, field, string(number))
	}
	b = append(b, `,"`...)
	b = append(b, field...)
	b = append(b, `":`...)
	return append(b, number...)
}

// deviceDetail is the device: the thief's is unknown to the tenant.
func (e *event) deviceDetail(table bool) string {
	switch {
	case e.theft > 0 && table:
		return thiefDevice.table
	case e.theft > 0:
		return thiefDevice.diagnostic
	case table:
		return e.device.table
	}
	return e.device.diagnostic
}

var thiefDevice = struct{ diagnostic, table string }{`{"deviceId":"","operatingSystem":"Linux","browser":"Other"}`, quoted(`{"deviceId":"","operatingSystem":"Linux","browser":"Other"}`)}

// describe writes the device's detail once for all of its records.
func (d *device) describe() {
	trust := "Azure AD joined"
	if d.kind == phone {
		trust = "Azure AD registered"
	}
	d.diagnostic = fmt.Sprintf(`{"deviceId":"%s","displayName":"%s","operatingSystem":"%s","browser":"%s","isCompliant":%t,"isManaged":%t,"trustType":"%s"}`,
		d.id, d.name, d.os, d.browser, d.compliant, d.managed, trust)
	d.table = quoted(d.diagnostic)
}

// The authentication details are empty in nearly all records (in 32 of 33 real ones).
const claimDetails = `[{"authenticationStepDateTime":"2026-11-02T08:00:00+00:00","authenticationMethod":"Previously satisfied","succeeded":true,"authenticationStepResultDetail":"MFA requirement satisfied by claim in the token","authenticationStepRequirement":"","StatusSequence":0,"RequestSequence":0}]`

var claimDetailsTable = quoted(claimDetails)

func (e *event) authentication(table bool) string {
	switch {
	case e.odd.is(oddAuthentication):
		details := `[{"authenticationMethod":"Password","succeeded":true,"authenticationStepRequirement":"` + e.odd.pick(oddDetails) + `"}]`
		if table {
			return quoted(details)
		}
		return details
	case e.claim && table:
		return claimDetailsTable
	case e.claim:
		return claimDetails
	case table:
		return `"[]"`
	}
	return "[]"
}

func init() {
	for i := range apps {
		a := &apps[i]
		scopes, _ := json.Marshal(strings.Fields(a.scopes))
		value, _ := json.Marshal(string(scopes))
		a.processing = `[{"key":"Legacy TLS (TLS 1.0, 1.1, 3DES)","value":"False"},{"key":"Oauth Scope Info","value":` + string(value) + `},{"key":"Is CAE Token","value":"False"}]`
		a.processingTable = quoted(a.processing)
	}
}

// quoted is what the table holds of a structured value: the text of its JSON, indented.
func quoted(structured string) string {
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(structured), "", "  "); err != nil {
		panic("BUG: tenant: indenting a template: " + err.Error())
	}
	text, err := json.Marshal(b.String())
	if err != nil {
		panic("BUG: tenant: quoting a template: " + err.Error())
	}
	return string(text)
}
