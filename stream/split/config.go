package split

import (
	"errors"
	"fmt"
	"time"
)

// Config is the `split` section.
type Config struct {
	// Group is the consumer group on the input cluster whose one active member splits.
	Group string `koanf:"group"`
	// MergeWait is how long the merge waits for a partition that is known to have more;
	// 0 merges what is there.
	MergeWait time.Duration `koanf:"merge_wait"`
}

// DefaultConfig returns group prtwatch-split and a merge wait of 5 s.
func DefaultConfig() Config {
	return Config{Group: "prtwatch-split", MergeWait: 5 * time.Second}
}

// maxMergeWait keeps a partition that has died from stopping the others for ever, and lets a
// catch-up ride out the restart of a broker.
const maxMergeWait = 10 * time.Minute

// Validate reports every problem of the section at once.
func (c Config) Validate() error {
	var errs []error
	if c.Group == "" {
		errs = append(errs, errors.New("split.group: is empty; name a consumer group, such as prtwatch-split"))
	}
	if c.MergeWait < 0 || c.MergeWait > maxMergeWait {
		errs = append(errs, fmt.Errorf("split.merge_wait: %v is not between 0s and %v", c.MergeWait, maxMergeWait))
	}
	return errors.Join(errs...)
}

// Start is `input.start`: where an input partition is read from when the group has
// committed nothing for it. The zero value is the earliest record.
type Start struct {
	latest bool
	at     time.Time
}

// ParseStart reads earliest, latest, or a time in RFC 3339.
func ParseStart(s string) (Start, error) {
	switch s {
	case "earliest":
		return Start{}, nil
	case "latest":
		return Start{latest: true}, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return Start{}, fmt.Errorf("input.start: %q is neither earliest, latest nor a time such as 2026-11-23T00:00:00Z", s)
	}
	return Start{at: at}, nil
}
