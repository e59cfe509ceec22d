package contender

import (
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/cmd/bench/broker"
)

// A run is over when the last verdict was committed, and not when the splitter's commit let us know.
func TestARunIsOverWithItsLastVerdict(t *testing.T) {
	began := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	at := func(seconds int, written, second int64) (s sample) {
		s.state = broker.State{At: began.Add(time.Duration(seconds) * time.Second), Written: []int64{written}, Second: []int64{second}}
		s.own.CPU, s.own.Peak = time.Duration(10*seconds)*time.Second, int64(seconds)
		s.broker.CPU = time.Duration(100+seconds) * time.Second
		return s
	}
	samples := []sample{at(1, 0, 0), at(2, 4, 2), at(3, 8, 6), at(4, 8, 8), at(5, 8, 8), at(6, 8, 8)}
	before := samples[0].broker
	before.CPU -= time.Second
	var o Outcome
	o.summarize(samples, broker.Ends{Second: []int64{8}}, began, before, 800)
	if o.Wall != 4*time.Second || o.CPU != 40*time.Second || o.BrokerCPU != 4*time.Second || o.Peak != 6 {
		t.Errorf("%+v", o)
	}
	// At two seconds (4/8 + 2/8) / 2 of the work was done, the first of at least a quarter.
	if o.Warm.SignIns != 800*(1-0.375) || o.Warm.Wall != 2*time.Second || o.Warm.CPU != 20*time.Second {
		t.Errorf("%+v", o.Warm)
	}
}
