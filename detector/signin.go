package detector

import "time"

// SignIn is one non-interactive sign-in: the fields of an Entra ID record that the
// verdict or the alert needs, in the words of the diagnostic-settings schema. It is what
// stream/entra decodes either export shape into and what travels on prtwatch.signins.
//
// Texts are as they came but for the cut named at Truncated; an absent field is the zero
// value, and the decoder must leave nothing of an earlier record behind.
type SignIn struct {
	// ID is properties.id (Id in the table shape), the identity of the sign-in. Never empty,
	// at most MaxID bytes.
	ID string
	// Generated is the envelope's time (TimeGenerated), in UTC: what the query judges by.
	Generated time.Time
	// Created is the sign-in's own time (properties.createdDateTime); zero where absent.
	Created time.Time
	// Arrived is the timestamp of the raw Kafka record that carried the sign-in. Zero where
	// there was none (replay); then no time is clamped.
	Arrived time.Time

	UPN      string // userPrincipalName, at most MaxID bytes; may be empty
	UserID   string // userId, the object id, at most MaxID bytes
	TenantID string // the Entra tenant, never the Log Analytics workspace

	IP      string // properties.ipAddress, where that is empty callerIpAddress, as it came
	ASN     string // autonomousSystemNumber as decimal text; empty where missing
	Country string // location.countryOrRegion

	ResultType   string // "0" is success; a JSON number is its decimal text
	ResourceName string // resourceDisplayName
	ResourceID   string // properties.resourceId (ResourceIdentity)
	AppName      string
	AppID        string
	UserAgent    string
	MFA          MFA // what authenticationDetails says, read before any text is cut

	CorrelationID         string
	SessionID             string
	UniqueTokenIdentifier string
	IncomingTokenType     string

	DeviceID        string
	DeviceName      string
	DeviceManaged   *bool // nil where absent
	DeviceCompliant *bool // nil where absent

	// Truncated says that at least one text was longer than MaxText and was cut there.
	Truncated bool
}

// Bounds of a projected sign-in, in bytes; the alert has no longer ones.
const (
	// MaxText is where every other text is cut, at a UTF-8 boundary.
	MaxText = 4 << 10
	// MaxID bounds the sign-in id, the UPN and the object id; a longer one is a dead letter.
	MaxID = 1 << 10
)

// MFA says what the authentication details of a sign-in tell of multi-factor
// authentication. It is decided on the whole text when a record is decoded, because the
// text is not projected.
type MFA uint8

// MFAMentioned is set when the details have the term "Multifactor" (KQL's has), which is
// all that the query looks at.
const MFAMentioned MFA = 1 << 0
