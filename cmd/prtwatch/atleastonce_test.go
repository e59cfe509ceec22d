package main

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/state"
)

// withoutTransactions has the embedded broker refuse all that a transaction needs.
func withoutTransactions(t *testing.T) *brokertest.Broker {
	b := brokertest.Fake(t)
	b.Embedded().Cluster.Control(func(request kmsg.Request) (kmsg.Response, error, bool) {
		b.Embedded().Cluster.KeepControl()
		switch r := request.(type) {
		case *kmsg.InitProducerIDRequest:
			if r.TransactionalID == nil {
				return nil, nil, false
			}
			response := r.ResponseKind().(*kmsg.InitProducerIDResponse)
			response.ErrorCode = kerr.UnsupportedVersion.Code
			return response, nil, true
		case *kmsg.AddPartitionsToTxnRequest, *kmsg.TxnOffsetCommitRequest, *kmsg.EndTxnRequest:
			return nil, errors.New("no transactions here"), true
		}
		return nil, nil, false
	})
	return b
}

// wantEveryRow checks that each row of the query was alerted, again only with the same bytes, and
// nothing else was.
func (in *installation) wantEveryRow() (repeated int) {
	in.t.Helper()
	c := in.compare()
	if c.rows < 5 || len(c.missing)+len(c.madeUp) > 0 {
		in.t.Errorf("of %d rows of the query %d are missing, %d alerts are made up: %.300q", c.rows, len(c.missing), len(c.madeUp), c.madeUp)
	}
	for id, records := range c.alerts {
		for _, r := range records[1:] {
			if !sameRecord(r, records[0]) {
				in.t.Errorf("the alert for %s came again as another:\n%s\n%s", id, records[0].Value, r.Value)
			}
		}
	}
	in.wantNoDeadLetters()
	return len(c.repeated)
}

// Nor producer ids for idempotence, which older brokers give to those alone who have the right to it.
func TestAtLeastOnceWithoutProducerIDsNoAlertIsMissing(t *testing.T) {
	t.Parallel()
	b := withoutTransactions(t)
	in := newInstallation(t, b)
	in.config = append(in.config, "--set", "delivery=at-least-once")
	in.fillWith(busy())
	b.RefuseProducerIDs(kerr.ClusterAuthorizationFailed)
	i := in.start(t.TempDir())
	in.done()
	i.says("the brokers give no producer ids")
	i.stop()
	t.Logf("%d alerts came again", in.wantEveryRow())
}

func TestAtLeastOnceAKilledInstanceRepeatsAlertsAndLosesNone(t *testing.T) {
	t.Parallel()
	b := withoutTransactions(t)
	in := newInstallation(t, b)
	in.config = append(in.config, "--set", "delivery=at-least-once", "--set", "detect.transaction=1ms")
	in.fillWith(busy())
	p := newProxy(t, b)
	dir := t.TempDir()
	kills := scaled(1, 12)
	for k := range kills {
		// The alerts of some sign-ins are written, and their profiles are not.
		air := p.holdProduces(b.Name("baseline"), in.random.IntN(6))
		i := in.startAt(in.b.Door(), dir, "--set", "kafka.brokers="+p.addr())
		air.wait(t)
		t.Logf("killed for the %d. time with %d alerts", k+1, len(b.ReadAll(in.alerts)))
		i.kill()
		air.drop()
	}
	i := in.start(dir)
	i.says("running")
	in.done()
	i.wantBoundedMemory(mostOfFew)
	i.stop()
	t.Logf("%d alerts came again", in.wantEveryRow())
}

// An instance stops in the middle of a write, for longer than its session; another takes over and
// learns more. What the first had in hand then arrives after all: profiles that know less. Their
// owner notices, writes what is right once more, and counts it.
func TestAtLeastOnceWhatAZombieOverwritesIsMendedAndCounted(t *testing.T) {
	t.Parallel()
	b := withoutTransactions(t)
	in := newInstallation(t, b)
	in.config = append(in.config, "--set", "delivery=at-least-once", "--set", "detect.session_timeout=6s")
	start, users := time.Now().Add(-20*time.Hour).Truncate(time.Hour), 30
	hour := 0
	feed := func(users int, network func(user int) int) {
		var list []made
		for u := range users {
			n := network(u)
			list = append(list, made{
				id: fmt.Sprintf("u%d-%d", u, hour), user: fmt.Sprintf("u%d@example.com", u), at: start.Add(time.Duration(hour)*time.Hour + time.Minute),
				ip: fmt.Sprintf("203.0.113.%d", n), asn: fmt.Sprint(64496 + n),
			})
		}
		hour++
		in.write(list, 3)
	}
	fresh := func(int) int { return hour }

	splitting := in.start(t.TempDir(), "--only", "split")
	p := newProxy(t, b)
	zombie := in.start(t.TempDir(), "--only", "detect", "--set", "kafka.brokers="+p.addr())
	feed(users, fresh)
	in.done()
	air := p.holdProduces(b.Name("baseline"), 0)
	feed(users, fresh)
	air.wait(t)
	zombie.signal(syscall.SIGSTOP)
	owner := in.start(t.TempDir(), "--only", "detect")
	owner.says("partitions assigned")
	in.done()
	feed(users, fresh) // hour 2
	in.done()
	air.end()
	// Where it writes next, for some, the owner sees that its records do not follow each other.
	feed(users/3, fresh)
	waitFor(t, "the owner to mend what was overwritten", func() bool { return owner.metric("prtwatch_baseline_mended_total") > 0 })
	in.done()
	zombie.signal(syscall.SIGCONT)
	owner.says("partitions revoked")        // the zombie is back
	feed(users, func(int) int { return 2 }) // which only those know who read what was mended
	in.done()
	t.Logf("%v profiles were mended", owner.metric("prtwatch_baseline_mended_total"))
	for _, i := range []*instance{splitting, zombie, owner} {
		i.stop()
	}
	t.Logf("%d alerts came again", in.wantEveryRow())

	newest, last := map[string]int64{}, map[string]int64{}
	for _, r := range b.ReadAll(b.Name("baseline")) {
		last[string(r.Key)] = state.Carried(r.Value)
		newest[string(r.Key)] = max(newest[string(r.Key)], last[string(r.Key)])
	}
	for user := range newest {
		if last[user] < newest[user] {
			t.Errorf("the last profile of %s is as of offset %d, there was one as of %d", user, last[user], newest[user])
		}
	}
}
