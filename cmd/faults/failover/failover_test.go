package failover

import (
	"testing"
	"time"
)

func TestAlertsThatAreTooLateAreFindings(t *testing.T) {
	second := func(n ...int) (d []time.Duration) {
		for _, n := range n {
			d = append(d, time.Duration(n)*time.Second)
		}
		return d
	}
	for _, c := range []struct {
		what     string
		protocol string
		brokers  int
		latest   []time.Duration
		findings int
	}{
		{"in time", "classic", 1, second(1, 2, 2), 0},
		{"one of them too late", "classic", 1, second(1, 1, 3), 1},
		{"too late beside three brokers, which take most of the machine", "classic", 3, second(1, 1, 3), 0},
		{"most of them far too late", "classic", 3, second(1, 6, 6), 1},
		{"as the brokers have it", "consumer", 1, second(6, 6, 6), 0},
		{"a drill that was not done", "classic", 1, nil, 0},
	} {
		s := &scene{Options: Options{Protocol: c.protocol, Brokers: c.brokers}}
		s.result.Figures = []Figure{{Drill: "a drill", Latest: c.latest, Within: 5 * time.Second, Most: 2 * time.Second}}
		if s.bound(); len(s.result.Findings) != c.findings {
			t.Errorf("%s: %q", c.what, s.result.Findings)
		}
	}
}
