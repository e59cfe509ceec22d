package main

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// The active splitter is stopped with a message in the air, and the standby goes on by more than lateness, so
// that the user's hours are forgotten by which the message is judged. What the zombie had in the air then
// arrives, and is left out.
func TestWhatAZombieOfTheSplitterHadInTheAirMakesNothingUp(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		start := time.Now().Add(-412 * time.Hour).Truncate(time.Hour)
		signIn := func(kind, ip, asn string, hour int, fails bool) made {
			return made{
				id: fmt.Sprintf("%s-%d", kind, hour), user: "ada@example.com", ip: ip, asn: asn, fails: fails,
				at: start.Add(time.Duration(hour)*time.Hour + time.Minute),
			}
		}
		usual := func(hour int) made { return signIn("usual", "198.51.100.1", "64496", hour, true) }
		rare := func(hour int, fails bool) made { return signIn("rare", "203.0.113.1", "64500", hour, fails) }

		p := newProxy(t, b)
		detecting := in.start(t.TempDir(), "--only", "detect")
		active := in.startAt(in.b.Door(), t.TempDir(), "--only", "split", "--set", "kafka.brokers="+p.addr())
		active.says("splitting")
		in.write([]made{rare(0, true), usual(0), usual(100), usual(200), usual(290)}, 1)
		in.done()
		standby := in.start(t.TempDir(), "--only", "split")
		waitFor(t, "both to be members", func() bool { split, _, _ := in.members(); return split == 2 })
		air := p.holdProduces(in.signs, 0)
		in.write([]made{rare(300, false)}, 1)
		air.wait(t)
		active.signal(syscall.SIGSTOP)
		standby.says("msg=splitting")
		in.write([]made{usual(310), usual(350), usual(410)}, 1)
		in.done()

		air.end()
		active.signal(syscall.SIGCONT)
		waitFor(t, "what was in the air to arrive", func() bool { return in.splitIDs()["rare-300"] > 1 })
		in.write([]made{usual(411)}, 1)
		in.done()
		waitFor(t, "what was in the air, and what it split before it heard, to be counted as left out", func() bool {
			return detecting.metric("prtwatch_signins_split_again_total") >= 1
		})
		for _, i := range []*instance{active, standby, detecting} {
			i.stop()
		}
		if c := in.compare(); len(c.missing)+len(c.repeated)+len(c.madeUp) > 0 {
			t.Errorf("missing %v, repeated %v, made up %v", c.missing, c.repeated, c.madeUp)
		}
	})
}
