package detect

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/state"
)

// assignment is one partition of the sign-ins topic from the moment it is assigned to a
// member until it is revoked. The same partition assigned again is another assignment.
type assignment struct {
	partition int32
	ctx       context.Context // done when the assignment is over
	end       context.CancelFunc
	since     time.Time

	// Guarded by the roster.
	phase   phase
	over    bool // revoked; a restore that ends now gives its lease back itself
	held    bool // the client has had offsets for it
	restore progress

	// The member's once phase is running, the restore's before.
	state *state.Partition
	// The next offset of the sign-ins partition: as of what is kept, and as of the work in hand.
	position, judged int64
	// The next offset of the baseline partition and as of when nothing below it is missing: as
	// of what is committed, and as of what the transaction in hand has written. The latter
	// are set by promises, which the member waits for before it reads them.
	next, produced     int64
	last, producedLast time.Time

	memberID string // of the group, under which it was assigned

	// Where delivery is at least once. wrote is how many records of ours the baseline partition
	// took from next on, committed and committedHour what the group knows of position and hour,
	// overwritten the users of whom the topic says less than the state.
	wrote         int64
	committed     int64
	committedHour int32
	overwritten   map[string]bool
	bare          bool  // the restore met a record that carries no offset
	carried       int64 // the highest offset that a record carried which the restore met

	// hour is the event time of the partition as of what is committed, now as of the work in
	// hand: the newest hour that a sign-in or a tick has named. Sweeps go by it.
	hour, now int32
	heard     *heard // of the input, by the sign-ins of the partition
	sweeping  bool
	swept     int32 // the event time at which the last sweep began; 0 before ours, so one is due
}

// phase is what is being done with an assigned partition.
type phase uint8

const (
	assigned  phase = iota // its offsets are being fetched
	restoring              // its profiles are being read from the baseline topic
	restored               // it waits for the member to take it over
	running                // its sign-ins are judged
)

var phaseNames = [...]string{assigned: "assigned", restoring: "restoring", restored: "restored", running: "running"}

// roster is which partitions a member has. The group's callbacks and the restores write
// into it, the member acts on it between two transactions.
type roster struct {
	mu struct {
		sync.Mutex
		closed  bool      // the session is being closed: what is assigned now is not ours
		joined  time.Time // zero while the group does not know us
		moving  time.Time // since when partitions move: it asked to join, or lost some; zero while they do not
		moves   int       // how often they began to
		known   bool      // the group has known us since the process began
		owned   map[int32]*assignment
		dropped []*assignment      // over, but not yet settled by the member
		arrived []*assignment      // restored, not yet settled by the member
		interim context.CancelFunc // ends the member's poll
		leaving bool               // a revoke waits for the work in hand
	}
}

func newRoster() *roster {
	r := &roster{}
	r.mu.owned = make(map[int32]*assignment)
	return r
}

// open makes it ready for a session.
func (r *roster) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.closed, r.mu.moving = false, time.Now()
}

// joins notes that the client asks to join the group, or to join it again.
func (r *roster) joins() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.move()
}

// move notes that partitions move. The caller holds the lock.
func (r *roster) move() {
	if r.mu.moving.IsZero() {
		r.mu.moving = time.Now()
		r.mu.moves++
	}
}

// moves returns how often partitions began to move, and whether they do now.
func (r *roster) moves() (times int, now bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.moves, !r.mu.moving.IsZero()
}

// assign notes newly assigned partitions, which pause stops from being read. It returns since when partitions
// have been moving; zero where nobody knows.
func (r *roster) assign(added []int32, memberID string, pause func()) (moving time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed {
		return time.Time{}
	}
	moving, r.mu.moving = r.mu.moving, time.Time{}
	pause()
	if r.mu.joined.IsZero() {
		r.mu.joined, r.mu.known = time.Now(), true
	}
	for _, p := range added {
		if a := r.mu.owned[p]; a != nil {
			r.drop(a)
		}
		ctx, end := context.WithCancel(context.Background())
		r.mu.owned[p] = &assignment{partition: p, ctx: ctx, end: end, since: time.Now(), memberID: memberID}
	}
	r.wake()
	return moving
}

// outside notes that the group has forgotten us, until it assigns something again, be it nothing.
func (r *roster) outside() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.joined = time.Time{}
	r.move()
}

// known reports whether the group has known us since the process began.
func (r *roster) known() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.known
}

// revoke notes that partitions are not ours any more.
func (r *roster) revoke(partitions []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range partitions {
		if a := r.mu.owned[p]; a != nil {
			r.drop(a)
			r.move()
		}
	}
	r.wake()
}

// drop ends an assignment. The caller holds the lock.
func (r *roster) drop(a *assignment) {
	a.over = true
	a.end()
	delete(r.mu.owned, a.partition)
	r.mu.dropped = append(r.mu.dropped, a)
}

// holds takes in what the client has offsets for: it has them for a partition from shortly
// after the assignment until the revoke. What it had and has no more was revoked, be it that
// nobody told us. Of what was assigned since the client was asked it says nothing.
func (r *roster) holds(offsets map[int32]kgo.EpochOffset, asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, a := range r.mu.owned {
		if !a.since.Before(asked) {
			continue
		}
		switch _, held := offsets[p]; {
		case held:
			a.held = true
		case a.held:
			r.drop(a)
		}
	}
}

// unread returns the assignment of a partition whose restore has yet to begin, or nil.
func (r *roster) unread(partition int32) *assignment {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.mu.owned[partition]; a != nil && a.phase == assigned {
		return a
	}
	return nil
}

// startRestore notes where the restore of an assignment ends and its sign-ins begin, and what came with the
// committed offset, of which so many bytes are of what was heard. It reports false where another has begun, or the assignment is over.
func (r *roster) startRestore(a *assignment, at, end int64, was mark, maxHeard int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.over || a.phase != assigned {
		return false
	}
	a.phase = restoring
	a.restore = progress{end: end}
	a.position, a.judged, a.committed = at, at, at
	a.hour, a.now, a.committedHour = was.hour, was.hour, was.hour
	a.heard = hears(was.heard, maxHeard)
	return true
}

// waits notes why the restore of a cannot begin.
func (r *roster) waits(a *assignment, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.phase == assigned {
		a.restore.waits = why
	}
}

// progress notes how far the restore of a has come.
func (r *roster) progress(a *assignment, p progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.restore = p
}

// arrive hands a restored partition to the member. It reports false when the assignment is
// over: then the lease is the caller's to give back.
func (r *roster) arrive(a *assignment, p *state.Partition) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.over {
		return false
	}
	a.state, a.phase = p, restored
	r.mu.arrived = append(r.mu.arrived, a)
	r.wake()
	return true
}

// take returns what happened since the last call: the assignments that are over (with a
// state where the member has to give it back) and those that are to run from now on.
func (r *roster) take() (dropped, arrived []*assignment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dropped, r.mu.dropped = r.mu.dropped, nil
	for _, a := range r.mu.arrived {
		if !a.over { // else it is among the dropped ones, with its state
			a.phase = running
			arrived = append(arrived, a)
		}
	}
	r.mu.arrived = nil
	return dropped, arrived
}

// leave says whether a revoke waits for the member to have no record in hand.
func (r *roster) leave(leaving bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.leaving = leaving
	r.wake()
}

// lost reports whether an assignment is over.
func (r *roster) lost(a *assignment) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return a.over
}

// unacknowledged returns those assignments that are ours and of which the group does not know
// all that is kept; stranger says that one was given to another member id.
func (r *roster) unacknowledged(running map[int32]*assignment, memberID string) (pending []*assignment, stranger bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range running {
		if a.over || a.position == a.committed {
			continue
		}
		pending = append(pending, a)
		stranger = stranger || a.memberID != memberID
	}
	return pending, stranger
}

// unless does what is meant for an assignment, unless it is over. The same partition may be
// assigned anew at any moment, and must then stay paused.
func (r *roster) unless(over *assignment, do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !over.over {
		do()
	}
}

// abandon drops everything, for the session is to be closed.
func (r *roster) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.closed = true
	for _, a := range r.mu.owned {
		r.drop(a)
	}
	r.mu.joined = time.Time{}
}

// pollContext returns a context for one poll: done after wait, or when the roster changes.
func (r *roster) pollContext(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.interim = cancel
	if len(r.mu.dropped)+len(r.mu.arrived) > 0 || r.mu.leaving {
		cancel()
	}
	return ctx, cancel
}

// wake ends the member's poll. The caller holds the lock.
func (r *roster) wake() {
	if r.mu.interim != nil {
		r.mu.interim()
	}
}

// count adds how many partitions are in each phase.
func (r *roster) count(phases *[len(phaseNames)]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.mu.owned {
		phases[a.phase]++
	}
}

// restoring returns how far the restores of those partitions are that the member does not judge
// yet, those of the others, and false where it has not joined the group, or was given nothing so far
// and may be within settling.
func (r *roster) restoring(settling time.Duration) (under, over restores, joined bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.mu.owned {
		if a.phase == running {
			over = append(over, a.restore)
		} else {
			under = append(under, a.restore)
		}
	}
	settled := len(r.mu.owned) > 0 || time.Since(r.mu.joined) > settling
	return under, over, !r.mu.joined.IsZero() && settled
}
