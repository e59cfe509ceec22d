package detect

import (
	"testing"
	"time"

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
