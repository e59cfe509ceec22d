package detector

// Detector judges sign-ins by one configuration. It is immutable and safe for use by many
// goroutines; the allowlist, which may be reloaded, is handed to Judge.
type Detector struct{}

// New returns the detector for a valid configuration.
func New(cfg Config) (*Detector, error) { panic("stub") }

// UserKey returns whose baseline the sign-in belongs to, which is also the key of every
// record of his: the lower-cased UPN, which may be empty.
func (d *Detector) UserKey(s *SignIn) string { panic("stub") }

// Judge decides whether s alerts, given what h knows of its user, and teaches h. It must be
// called for every sign-in of the user, whatever its result, in the order of the log.
func (d *Detector) Judge(s *SignIn, allowed *Allowlist, h History) Verdict { panic("stub") }

// Verdict is what Judge found.
type Verdict struct {
	Outcome Outcome
	Alert   *Alert // nil unless Outcome is Alerted
	Late    bool
	Clamped bool
}

// Outcome names the step that decided. Its String is a Prometheus label value.
type Outcome uint8

// The outcomes, in the order in which Judge asks.
const (
	Failed       Outcome = iota // the sign-in did not succeed
	OtherAddress                // the address is not a bare dotted quad: the query never sees it
	Allowlisted
	OtherResource
	MultiFactor
	KnownAddress
	KnownNetwork
	Repeated // alerted already under this sign-in id
	Alerted
)

// String returns the outcome in snake_case.
func (o Outcome) String() string { panic("stub") }

// Config is the `detection` section.
type Config struct {
	Preset string `koanf:"preset"`
}

// DefaultConfig returns the preset kql.
func DefaultConfig() Config { panic("stub") }

// Validate reports every problem of the section at once.
func (c Config) Validate() error { panic("stub") }

// Allowlist is a set of IPv4 and IPv6 ranges.
type Allowlist struct{}

// Alert is the alert.
type Alert struct{}

// JSON is the value of the alert's record.
func (a *Alert) JSON() []byte { panic("stub") }
