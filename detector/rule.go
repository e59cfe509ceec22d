package detector

import (
	"slices"

	"github.com/google/uuid"
)

// Window is how many hours before the sign-in's own hour its user's past counts: a network
// seen in one of [H-Window, H-1] is known at H.
//
// The query runs at each whole hour T. It judges the sign-ins in (T-1h, T], which are those
// of hour H = T (see HourOf), against those in [T-14d, T-1h]. 14 days are 336 hours. The
// right end of that range is the upper edge of hour H-1. Its left end is the upper edge of
// hour H-336, so that (T-14d, T-13d23h], hour H-335, is the first hour that lies within:
// 336 less one. (The instant T-14d itself, the last of hour H-336, is the query's as well;
// it is the one difference, and docs/semantics.md names it.)
const Window = 335

// Severity says how much an alert matters.
type Severity string

// The severities of an alert, lowest first. The preset kql raises SeverityHigh only.
const (
	SeverityInformational Severity = "informational"
	SeverityLow           Severity = "low"
	SeverityMedium        Severity = "medium"
	SeverityHigh          Severity = "high"
	SeverityCritical      Severity = "critical"
)

// Rule is a detection as data: what it looks for, and what an analyst is told about it.
type Rule struct {
	ID         uuid.UUID // also the namespace of the alerts' ids
	Name       string
	Version    string
	Severity   Severity
	Tactics    []string // MITRE ATT&CK, as Sentinel writes them
	Techniques []string

	ResourceTerms []string // the resource's name has one of them (KQL has_any)
	MFATerm       string   // the authentication details do not have it (KQL has)
}

// PRTReuse is the Sentinel rule that prtwatch replaces (docs/semantics.md holds its query). Its
// id, name, terms and metadata are that rule's.
func PRTReuse() Rule {
	r := prtReuse
	r.Tactics = slices.Clone(r.Tactics)
	r.Techniques = slices.Clone(r.Techniques)
	r.ResourceTerms = slices.Clone(r.ResourceTerms)
	return r
}

var prtReuse = Rule{
	ID:         uuid.MustParse("5a6f1c3e-2a1b-4c9e-9f01-11a2b3c4d508"),
	Name:       "Intune - Possible refresh token / PRT reuse accessing Intune resource",
	Version:    "1.0.0",
	Severity:   SeverityHigh,
	Tactics:    []string{"CredentialAccess", "LateralMovement"},
	Techniques: []string{"T1528", "T1550.001"},
	ResourceTerms: []string{
		"Microsoft Intune", "Microsoft Intune API", "Device Management", "Windows 365", "Microsoft Graph",
	},
	MFATerm: "Multifactor",
}
