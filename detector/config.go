package detector

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The values that keys of the `detection` section can take.
const (
	PresetKQL = "kql" // the Sentinel query's rows, exactly

	EventTimeGenerated = "generated" // the record's own time, which the query uses
	EventTimeCreated   = "created"   // the sign-in's time; generated where that is absent

	IdentityUPN     = "upn"       // the lower-cased UPN, which may be empty
	IdentityUPNOrID = "upn_or_id" // the object id where the UPN is empty

	GroupingEvent = "event" // one alert a sign-in
)

// Values that the contract names and a later version brings: the rest of the preset
// hardened, each of its switches a key of Config, and episodes.
const (
	presetHardened  = "hardened"
	groupingEpisode = "episode"
)

// Config is the `detection` section. Of the switches of the preset hardened it holds those
// that exist (resources, identity, event_time); ipv6, learn_from, missing_asn, mfa,
// probation, shared_asns and learning belong here too.
type Config struct {
	Preset    string        `koanf:"preset"`
	Resources []string      `koanf:"resources"`  // terms, of which the resource's name has one
	Allowlist []string      `koanf:"allowlist"`  // files; reading them is the caller's (ParseAllowlist)
	EventTime string        `koanf:"event_time"` // which time of the sign-in decides its hour
	Identity  string        `koanf:"identity"`   // by what a user is told from another
	MaxFuture time.Duration `koanf:"max_future"` // how far a sign-in may be dated after its arrival
	Grouping  string        `koanf:"grouping"`   // what one alert stands for
}

// DefaultConfig returns the preset kql.
func DefaultConfig() Config {
	return Config{
		Preset:    PresetKQL,
		Resources: PRTReuse().ResourceTerms,
		Allowlist: []string{},
		EventTime: EventTimeGenerated,
		Identity:  IdentityUPN,
		MaxFuture: 15 * time.Minute,
		Grouping:  GroupingEvent,
	}
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Key    string // as it is written in the file: detection.preset
	Value  string // what is there
	Remedy string // what would be right
}

// Error names the key, the value and the remedy in one line.
func (p *Problem) Error() string { return fmt.Sprintf("%s: %s: %s", p.Key, p.Value, p.Remedy) }

// Validate reports every problem of the section at once: each is a *Problem, joined by
// errors.Join.
func (c Config) Validate() error {
	var problems []error
	report := func(key, value, remedy string) {
		problems = append(problems, &Problem{Key: "detection." + key, Value: value, Remedy: remedy})
	}
	for _, choice := range []struct {
		key, value string
		now, later []string
	}{
		{"preset", c.Preset, []string{PresetKQL}, []string{presetHardened}},
		{"event_time", c.EventTime, []string{EventTimeGenerated, EventTimeCreated}, nil},
		{"identity", c.Identity, []string{IdentityUPN, IdentityUPNOrID}, nil},
		{"grouping", c.Grouping, []string{GroupingEvent}, []string{groupingEpisode}},
	} {
		now := strings.Join(choice.now, " or ")
		switch {
		case slices.Contains(choice.later, choice.value):
			report(choice.key, strconv.Quote(choice.value), "this version does not have it yet; use "+now)
		case !slices.Contains(choice.now, choice.value):
			report(choice.key, strconv.Quote(choice.value), "use "+now)
		}
	}
	if len(c.Resources) == 0 {
		report("resources", "[]", "nothing could ever alert; name a resource, or leave the key out for the query's five")
	}
	for i, term := range c.Resources {
		if remedy := termRemedy(term); remedy != "" {
			report(fmt.Sprintf("resources[%d]", i), strconv.Quote(term), remedy)
		}
	}
	for i, name := range c.Allowlist {
		if strings.TrimSpace(name) == "" {
			report(fmt.Sprintf("allowlist[%d]", i), strconv.Quote(name), "name a file, or leave the entry out")
		}
	}
	if c.MaxFuture < 0 {
		report("max_future", c.MaxFuture.String(), "use 0s or more, such as 15m")
	}
	return errors.Join(problems...)
}

// termRemedy says what to do about a term that could never match, or would match what
// nobody means; "" where there is nothing to do.
func termRemedy(term string) string {
	switch {
	case !utf8.ValidString(term):
		return "is not UTF-8; write it as UTF-8"
	case !strings.ContainsFunc(term, alphanumeric):
		return "has no letter or digit; name a resource such as Microsoft Intune"
	case strings.TrimSpace(term) != term:
		return "take the blanks around it away: they would have to be in the resource's name"
	}
	return ""
}
