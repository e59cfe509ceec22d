package tenant

import "fmt"

// policies is what the tenant's conditional-access policies say of a sign-in, which is half of
// its record: the same texts over and over, in one of a few patterns.
type policies struct {
	diagnostic [policyPatterns]string
	table      [policyPatterns]string
}

const (
	policyCount    = 8 // of a tenant: assumption; the real samples have 0, 2, 12 and 30
	policyPatterns = 4
)

var policyNames = [policyCount]string{
	"Require MFA for administrators", "Microsoft-managed: Multifactor authentication and reauthentication for risky sign-ins",
	"Block legacy authentication", "Require compliant device for Office 365", "Require app protection on phones",
	"Block unknown platforms", "Sign-in frequency for unmanaged devices", "Require MFA for device registration",
}

func newPolicies(t *Tenant) (p policies) {
	var ids [policyCount]guid
	for i := range ids {
		ids[i] = t.guid()
	}
	grants := []string{`"Mfa"`, `"Block"`, `"RequireCompliantDevice"`, `"Mfa","RequireCompliantDevice"`}
	sessions := []string{``, `"SignInFrequency"`}
	results := []string{"notApplied", "success", "notEnabled", "reportOnlyNotApplied"}
	for pattern := range policyPatterns {
		text := "["
		for i, name := range policyNames {
			if i > 0 {
				text += ","
			}
			text += fmt.Sprintf(`{"id":"%s","displayName":"%s","enforcedGrantControls":[%s],"enforcedSessionControls":[%s],"result":"%s","conditionsSatisfied":%d,"conditionsNotSatisfied":%d}`,
				ids[i], name, grants[i%len(grants)], sessions[i%len(sessions)], results[(i*(pattern+1)+pattern)%len(results)], (i+pattern)%8*3, 1+(i*pattern)%4*2)
		}
		text += "]"
		p.diagnostic[pattern], p.table[pattern] = text, quoted(text)
	}
	return p
}

// pattern is which of the patterns a sign-in shows: it goes with device and application.
func (e *event) pattern() int {
	n := int(e.app.id[0])
	if e.device.managed {
		n++
	}
	return n % policyPatterns
}
