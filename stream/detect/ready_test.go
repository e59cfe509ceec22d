package detect_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
)

// Who is in no group judges nothing, though he has done so before.
func TestAnInstanceThatItsGroupForgotIsNotReady(t *testing.T) {
	classicOnly(t)
	h := newHouse(t, brokertest.Fake(t))
	one := h.start("one", t.TempDir())
	ready := func() bool { ready, _ := one.Ready(); return ready }
	h.until("the stage to be ready", ready)
	var refusing atomic.Bool
	refusing.Store(true)
	cluster := h.b.Embedded().Cluster
	cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return nil, errors.New("nobody joins"), refusing.Load()
	})
	h.evict("one-0", "one-1")
	h.until("the stage to wait for the group", func() bool {
		ready, waits := one.Ready()
		return !ready && strings.Contains(waits, "joining the consumer group")
	})
	refusing.Store(false)
	h.until("the stage to be ready again", ready)
}

// Who restarts instances one after the other goes on when one is ready. What others have yet to give up
// for it must have come by then, or it is given up twice.
func TestAnInstanceThatJoinsIsReadyOnceItHasItsShare(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	single := func(c *detect.Config, d *detect.Deps) {
		c.Members = 1
		detect.SetSettling(d, time.Hour)
	}
	one := h.start("one", t.TempDir(), single)
	h.until("one to judge all partitions", func() bool { running, _ := one.Partitions(); return running == partitions })
	two := h.start("two", t.TempDir(), single)
	h.until("two to be ready", func() bool { ready, _ := two.Ready(); return ready })
	if running, _ := two.Partitions(); running == 0 {
		t.Error("it is ready before it has a partition")
	}
}

func TestAMemberForWhomNothingIsLeftIsReady(t *testing.T) {
	h := newHouse(t, brokertest.Fake(t))
	many := h.start("many", t.TempDir(), func(c *detect.Config, _ *detect.Deps) { c.Members = partitions })
	h.until("many to have a partition a member", func() bool { running, _ := many.Partitions(); return running == partitions })
	late := h.start("late", t.TempDir(), func(c *detect.Config, _ *detect.Deps) { c.Members = 1 })
	h.until("the member that came late to be ready", func() bool { ready, _ := late.Ready(); return ready })
}
