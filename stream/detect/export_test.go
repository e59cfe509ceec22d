package detect

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"
)

// SetPatience sets for how long a restore waits for the next record.
func SetPatience(d *Deps, patience time.Duration) { d.patience = patience }

// SetTurns sets of what restores take one each while they read, and for how long nothing may come then at first.
func SetTurns(d *Deps, turns *semaphore.Weighted, within time.Duration) {
	d.restores, d.turn = turns, within
}

// SetHandOver sets for how long a revoke waits for the work in hand.
func SetHandOver(d *Deps, within time.Duration) { d.handOver = within }

// SetSlice sets for how long a restore reads while others wait for its turn.
func SetSlice(d *Deps, slice time.Duration) { d.slice = slice }

// SetHeard sets how long what is heard may be in a mark.
func SetHeard(d *Deps, bytes int) { d.heard = bytes }

// SetSayEvery sets how often a restore that takes long says how far it is.
func SetSayEvery(d *Deps, every time.Duration) { d.sayEvery = every }

// SetSettling sets for how long a member that was given nothing is not ready.
func SetSettling(d *Deps, settling time.Duration) { d.settling = settling }

// SetPace has each transaction judge so many records and sweep so many users, and sweeps begin
// after so many hours of event time. The function is called by many goroutines.
func SetPace(d *Deps, next func() (records int, sweepEvery int64, sweepSlice int)) {
	d.pace = func() (p pace) {
		p.records, p.sweepEvery, p.sweepSlice = next()
		return p
	}
}

// What ends a session.
var (
	ErrThrownOut = errThrownOut
	ErrRebuild   = errRebuild
)

// CauseOf returns the cause of a transaction that failed with err, where given says that a stop waits no longer.
func CauseOf(err error, given bool) string {
	limit, end := context.WithCancel(context.Background())
	defer end()
	if given {
		end()
	}
	return (&member{limit: limit}).causeOf(err)
}
