package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/split"
)

// maxInstance keeps `<group>-<instance>-<member>` well below what a broker takes for a
// transactional id.
const maxInstance = 200

// Validate reports every problem of every section at once, one a line, each beginning with
// its key.
func (c Config) Validate() error {
	problems := []error{
		c.validateInstance(),
		c.Input.validate(),
		c.Kafka.Validate("kafka"),
		c.Topics.Validate(),
		c.Split.Validate(),
		c.Detect.Validate(),
		c.validateGroups(),
		c.validateDelivery(),
		c.Detection.Validate(),
		c.State.Validate(),
		c.HTTP.validate(),
		c.Log.validate(),
	}
	if c.StartTimeout < time.Second || c.StartTimeout > time.Hour {
		problems = append(problems, fmt.Errorf("start_timeout: %s is not within 1s and 1h", c.StartTimeout))
	}
	return errors.Join(problems...)
}

func (c Config) validateInstance() error {
	if len(c.Instance) > maxInstance || strings.ContainsFunc(c.Instance, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("instance: %.40q is no name: use at most %d printable ASCII characters without blanks, such as prtwatch-0", c.Instance, maxInstance)
	}
	return nil
}

// validateGroups refuses one group for both stages: its members would ask for different topics by different protocols.
func (c Config) validateGroups() error {
	if c.Split.Group == c.Detect.Group && len(c.Input.Brokers) == 0 {
		return fmt.Errorf("detect.group: %q is split.group too; give each stage a group of its own", c.Detect.Group)
	}
	return nil
}

func (c Config) validateDelivery() error {
	if c.Delivery == ExactlyOnce || c.Delivery == AtLeastOnce {
		return nil
	}
	return fmt.Errorf("delivery: %q is not a way to deliver; use %s, or %s where the brokers have no transactions", c.Delivery, ExactlyOnce, AtLeastOnce)
}

func (in Input) validate() error {
	var problems []error
	if len(in.Brokers) > 0 {
		problems = append(problems, in.Cluster.Validate("input"))
	} else if !reflect.DeepEqual(in.Cluster, kafka.Cluster{Brokers: in.Brokers}) {
		problems = append(problems, errors.New("input.brokers: is empty, so that kafka.brokers with its own tls and sasl is used, but input.tls or input.sasl is set; name input.brokers too"))
	}
	if len(in.Topics) == 0 {
		problems = append(problems, errors.New("input.topics: is empty; name the topics that the export is written to"))
	}
	for i, topic := range in.Topics {
		if topic == "" || slices.Contains(in.Topics[:i], topic) {
			problems = append(problems, fmt.Errorf("input.topics: %q is empty or twice in the list; name each topic once", topic))
		}
	}
	if _, err := split.ParseStart(in.Start); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func (h HTTP) validate() error {
	_, port, err := net.SplitHostPort(h.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("http.listen: %q is not host:port, such as 127.0.0.1:9187", h.Listen)
	}
	return nil
}

func (l Log) validate() error {
	var problems []error
	if _, err := l.SlogLevel(); err != nil {
		problems = append(problems, fmt.Errorf("log.level: %q is not a level; use debug, info, warn or error", l.Level))
	}
	if !slices.Contains([]string{"auto", "text", "json"}, l.Format) {
		problems = append(problems, fmt.Errorf("log.format: %q is not a format; use auto, text or json", l.Format))
	}
	return errors.Join(problems...)
}

// SlogLevel is the level as log/slog has it.
func (l Log) SlogLevel() (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(l.Level))
	return level, err
}
