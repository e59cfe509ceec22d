package detect

import (
	"errors"
	"fmt"
	"time"
)

// Config is the `detect` section: the group that judges sign-ins and how it does so.
type Config struct {
	// Group is the consumer group over the sign-ins topic and the stem of the transactional
	// ids (`<group>-<instance>-<member>`).
	Group string `koanf:"group"`
	// Members is how many detecting members the process runs; 0 is one a core.
	Members int `koanf:"members"`
	// Transaction is for how long records are gathered into one transaction where all that came before is
	// judged: nobody waits for it who is behind. With what a commit takes it is what transactions add to the time
	// from a sign-in to its alert; docs/performance.md has figures.
	Transaction time.Duration `koanf:"transaction"`
	// TransactionTimeout is after what time a broker aborts the transaction of a member that
	// died. Until then readers of committed alerts wait.
	TransactionTimeout time.Duration `koanf:"transaction_timeout"`
	// SessionTimeout is after what silence the group gives a member's partitions to others. The
	// brokers set it themselves where GroupProtocol is Consumer.
	SessionTimeout time.Duration `koanf:"session_timeout"`
	// GroupProtocol is how the group shares the partitions out: Classic or Consumer.
	GroupProtocol string `koanf:"group_protocol"`
}

// The group protocols, named as Kafka's group.protocol names them.
const (
	// Classic: a member shares out (cooperative-sticky).
	Classic = "classic"
	// Consumer: the brokers do (KIP-848), from Kafka 4.0 on; brokers without it are spoken to
	// in the classic way. Their group.consumer.session.timeout.ms (45 s by default) decides how
	// long the partitions of a member that died lie idle.
	Consumer = "consumer"
)

// DefaultConfig returns the defaults. Transactions of 10 ms cost the brokers a sixth more than those of 50 ms at 1,000
// and 10,000 sign-ins a second, and halve the age of an alert. Of the session timeout docs/reliability.md has the figures (Failover).
func DefaultConfig() Config {
	return Config{
		Group:              "prtwatch-detect",
		Members:            0,
		Transaction:        10 * time.Millisecond,
		TransactionTimeout: 10 * time.Second,
		SessionTimeout:     6 * time.Second,
		GroupProtocol:      Classic,
	}
}

// Validate reports every problem of the section at once, each naming its key below `detect`.
func (c Config) Validate() error {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	// A group id of more than 249 bytes no broker's offsets topic was made for, and Event
	// Hubs refuses one of more than 256.
	if n := len(c.Group); n == 0 || n > 249 {
		wrong("detect.group: a name of 1 to 249 bytes is needed, this one has %d", n)
	}
	if c.Members < 0 || c.Members > 256 {
		wrong("detect.members: %d is not within 0 (one a core) and 256", c.Members)
	}
	if c.GroupProtocol != Classic && c.GroupProtocol != Consumer {
		wrong("detect.group_protocol: %q is neither %s nor %s", c.GroupProtocol, Classic, Consumer)
	}
	for _, limit := range []struct {
		key            string
		value          time.Duration
		least, largest time.Duration
	}{
		{"transaction", c.Transaction, time.Millisecond, 10 * time.Second},
		// The largest are the brokers' defaults: transaction.max.timeout.ms and
		// group.{min,max}.session.timeout.ms.
		{"transaction_timeout", c.TransactionTimeout, time.Second, 15 * time.Minute},
		{"session_timeout", c.SessionTimeout, 6 * time.Second, 30 * time.Minute},
	} {
		if limit.value < limit.least || limit.value > limit.largest {
			wrong("detect.%s: %s is not within %s and %s", limit.key, limit.value, limit.least, limit.largest)
		}
	}
	if c.Transaction >= c.TransactionTimeout {
		wrong("detect.transaction: %s must be shorter than detect.transaction_timeout (%s), or every transaction is aborted",
			c.Transaction, c.TransactionTimeout)
	}
	return errors.Join(problems...)
}
