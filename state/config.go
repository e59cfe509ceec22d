package state

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Config is the `state` section of the configuration.
type Config struct {
	// Dir is the folder of the store; it is made where it is missing. One process at a time.
	Dir string `koanf:"dir"`
	// Cache bounds the memory for decoded profiles and, half of it, Pebble's own cache
	// and memtables. A restore takes up to a quarter as much again.
	Cache ByteSize `koanf:"cache"`
	// Lateness is how far behind its user's newest hour a sign-in is still judged exactly,
	// in whole hours.
	Lateness time.Duration `koanf:"lateness"`
	// MaxIPs and MaxASNs bound the networks that are kept of one user.
	MaxIPs  int `koanf:"max_ips"`
	MaxASNs int `koanf:"max_asns"`
}

// The bounds of Config. Together they keep the largest profile below MaxProfileBytes at a
// window of 14 days.
const (
	minCache    = 16 << 20
	maxLateness = 14 * 24 * time.Hour
	maxMaxIPs   = 4000
	maxMaxASNs  = 1000
)

// DefaultConfig returns what holds where nothing is configured. The bounds of networks are those of
// the query's make_set (docs/semantics.md).
func DefaultConfig() Config {
	return Config{Dir: "./prtwatch-state", Cache: 256 << 20, Lateness: 48 * time.Hour, MaxIPs: 500, MaxASNs: 50}
}

// Validate reports every problem of the section at once, one a line.
func (c Config) Validate() error {
	def := DefaultConfig()
	limits := []struct {
		key, value, want string
		ok               bool
	}{
		{"dir", fmt.Sprintf("%q", c.Dir), fmt.Sprintf("must name a folder; the default is %s", def.Dir), strings.TrimSpace(c.Dir) != ""},
		{
			"cache", c.Cache.String(), fmt.Sprintf("must be at least %s; the default is %s", ByteSize(minCache), def.Cache),
			c.Cache >= minCache && c.Cache <= math.MaxInt64,
		},
		{
			"lateness", c.Lateness.String(), fmt.Sprintf("must be whole hours from 0h to %dh; the default is %dh", int(maxLateness.Hours()), int(def.Lateness.Hours())),
			c.Lateness >= 0 && c.Lateness <= maxLateness && c.Lateness%time.Hour == 0,
		},
		{"max_ips", fmt.Sprint(c.MaxIPs), fmt.Sprintf("must be from 1 to %d; the default is %d", maxMaxIPs, def.MaxIPs), c.MaxIPs >= 1 && c.MaxIPs <= maxMaxIPs},
		{"max_asns", fmt.Sprint(c.MaxASNs), fmt.Sprintf("must be from 1 to %d; the default is %d", maxMaxASNs, def.MaxASNs), c.MaxASNs >= 1 && c.MaxASNs <= maxMaxASNs},
	}
	var problems []error
	for _, l := range limits {
		if !l.ok {
			problems = append(problems, fmt.Errorf("state.%s is %s: it %s", l.key, l.value, l.want))
		}
	}
	return errors.Join(problems...)
}

// ByteSize is a number of bytes that is written with a unit: 256MiB, 1GB, 512KiB.
type ByteSize uint64

// UnmarshalText reads a size; a bare number is bytes.
func (b *ByteSize) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%q is no size in bytes: write it like 256MiB", text)
	}
	*b = ByteSize(n)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (b ByteSize) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String is the shortest form that reads back as the same number.
func (b ByteSize) String() string {
	short := strings.ReplaceAll(humanize.IBytes(uint64(b)), " ", "")
	if n, err := humanize.ParseBytes(short); err == nil && n == uint64(b) {
		return short
	}
	return fmt.Sprintf("%dB", uint64(b))
}

// limits is what a profile needs to know of the configuration.
type limits struct {
	window   int // hours that a verdict looks back
	lateness int // hours
	maxIPs   int
	maxASNs  int
}

// span is how many hours before the newest one are kept.
func (l *limits) span() int { return l.window + l.lateness }

func newLimits(c Config, window int) *limits {
	return &limits{window: window, lateness: int(c.Lateness / time.Hour), maxIPs: c.MaxIPs, maxASNs: c.MaxASNs}
}

// expired reports whether an hour is not one of those that are kept before now.
func (l *limits) expired(hour int64, now int32) bool { return hour < int64(now)-int64(l.span()) }
