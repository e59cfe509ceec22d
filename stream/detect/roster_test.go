package detect

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What the client had may be looked at late: after a revoke and the next assignment, whose offsets it
// does not have yet.
func TestWhatTheClientHadBeforeAnAssignmentSaysNothingOfIt(t *testing.T) {
	r := newRoster()
	assign := func() *assignment {
		r.assign([]int32{1}, "member", func() {})
		return r.unread(1)
	}
	had := map[int32]kgo.EpochOffset{1: {Offset: 5}}
	first := assign()
	asked := time.Now()
	r.revoke([]int32{1})
	second := assign()
	r.holds(had, asked)
	r.holds(nil, time.Now())
	if !r.lost(first) || r.lost(second) {
		t.Errorf("the first is lost: %t, the second: %t", r.lost(first), r.lost(second))
	}
	r.holds(had, time.Now())
	r.holds(nil, time.Now())
	if !r.lost(second) {
		t.Error("what the client has no more was revoked, and is ours still")
	}
}

// amid is a delivery in whose midst the group takes partitions away and assigns some.
type amid struct {
	delivery
	group func()
}

func (d amid) inherit(context.Context, *kgo.Client) {}
func (d amid) clear(context.Context) error          { d.group(); return nil }
func (d amid) look() error                          { return nil }

// A member that takes over what was restored resumes it, unless that is over: the same partition may have been
// assigned anew, and is not restored yet.
func TestAPartitionThatIsAssignedAgainAmidItsTakeOverStaysPaused(t *testing.T) {
	client, err := kgo.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	m := newMember(DefaultConfig(), Deps{Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry())}, 0)
	m.client, m.limit = client, t.Context()
	m.deps.Topics.Signins = "signins"
	of := func(partitions ...int32) map[string][]int32 { return map[string][]int32{"signins": partitions} }
	m.delivery = amid{group: func() {
		m.revoked(t.Context(), client, of(1))
		m.assigned(t.Context(), client, of(1))
	}}
	m.assigned(t.Context(), client, of(0, 1, 2))
	for p := range int32(3) {
		m.roster.arrive(m.roster.unread(p), nil)
	}
	m.revoked(t.Context(), client, of(0)) // so that there is something to clear
	if err := m.settle(); err != nil {
		t.Fatal(err)
	}
	paused := client.PauseFetchPartitions(nil)["signins"]
	slices.Sort(paused)
	if !slices.Equal(paused, []int32{0, 1}) {
		t.Errorf("partitions %v are paused, want 0, which is gone, and 1", paused)
	}
}
