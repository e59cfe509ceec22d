// Package detect judges the sign-ins of prtwatch.signins and keeps what they teach. It owns
// the consumer group, the transaction that makes an alert, a changed profile and an offset
// one thing, and the restore of a partition from the baseline topic. It knows neither the
// exports (stream/entra) nor the rule (detector): it only asks.
//
// Start at member.loop. A Stage runs some members. A member is one goroutine with one
// kgo.GroupTransactSession, and owns the state of the partitions that run with it. Beside it
// there are, for a while each:
//
//   - the group's callbacks (kgo's goroutine): they note what was assigned and what was
//     revoked in the member's roster and wake the member, no more;
//   - a restore a partition (a goroutine of ours): it leases the partition's state, brings it
//     to the end of the baseline topic and hands it to the member through the roster.
//
// # Why nothing is lost or doubled
//
// A transaction holds the alerts, the changed profiles and the input offsets (with the
// group's generation, so that a member that lost its partitions cannot commit). Pebble is
// written after it has committed and never before, so Pebble may lag behind the baseline
// topic but cannot lead it. Who takes a partition over reads the offsets first, for which
// the broker waits until no transaction of the group is undecided there (KIP-447), then the
// end of the baseline partition, and then everything up to that end: all that any committed
// transaction had learned is in it.
//
// # Non-obvious
//
//   - GroupTransactSession tells of a revoke only once until the next End. So the roster is
//     compared with the assignment itself (see watchedBalancer), and a partition that is
//     assigned again while we thought we had it is begun afresh.
//   - The session forgets that something was revoked at End. So member.settle, which calls
//     End to have it forget, runs only while no polled record is in hand.
//   - After an error of Begin or End nobody knows how the transaction ended. The member then
//     throws away its session and its leases and restores from the baseline topic.
//   - Pauses outlive a revoke: what is revoked is resumed, or it would stay silent when it
//     comes back.
package detect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// Deps is what a Stage works with. All of it outlives the Stage.
type Deps struct {
	// Client are the options of every client: brokers, security, logging, metrics.
	Client []kgo.Opt
	// Topics are the names of the topics and their partition count.
	Topics kafka.Topics
	// Store keeps the profiles. No other Stage uses it.
	Store *state.Store
	// Detector decides.
	Detector *detector.Detector
	// Allowlist returns the allowlist in force; it is asked once a transaction.
	Allowlist func() *detector.Allowlist
	// Instance names this process among those of the group.
	Instance string
	// AcceptLoss goes on where the group's offsets are out of range, instead of ending.
	AcceptLoss bool
	// Log gets what an operator should know.
	Log *slog.Logger
	// Metrics counts; made once with NewMetrics.
	Metrics *Metrics
}

// Stage is the detecting stage of one process.
type Stage struct {
	cfg     Config
	deps    Deps
	members []*member
}

// New returns a Stage for a valid configuration.
func New(cfg Config, deps Deps) *Stage {
	s := &Stage{cfg: cfg, deps: deps}
	n := cfg.Members
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	n = min(n, int(deps.Topics.Partitions))
	for i := range n {
		s.members = append(s.members, newMember(cfg, deps, i))
	}
	return s
}

// Run judges until ctx is done, then commits what it has, leaves the group and returns nil.
// It returns an error when it cannot go on: another process under the same instance name,
// offsets that are out of range, a baseline topic that was emptied or replaced, a record of
// a newer version, a state that cannot be written.
func (s *Stage) Run(ctx context.Context) error {
	client, err := kgo.NewClient(s.deps.Client...)
	if err != nil {
		return fmt.Errorf("making the detecting stage's admin client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	baseline, err := describeBaseline(ctx, admin, s.deps.Topics)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}

	group, groupCtx := errgroup.WithContext(ctx)
	for _, m := range s.members {
		group.Go(func() error { return m.run(groupCtx, admin, baseline) })
	}
	err = group.Wait()
	// All leave at once, before any client closes: one that closed first would keep the others
	// waiting for it in a rebalance.
	s.leave(admin)
	for _, m := range s.members {
		if m.hangUp != nil {
			m.hangUp() // or it would rejoin while another closes
		}
	}
	for _, m := range s.members {
		if err == nil {
			m.finish()
		} else {
			m.close()
		}
		select {
		case late := <-m.fatal: // of the closing itself: a state that could not be written
			err = errors.Join(err, late)
		default:
		}
	}
	return err
}

// leave tells the group that the members are gone for good. A static member says nothing
// when its client closes, and its partitions would lie idle for a session timeout. Where
// another process took our names there is nothing to leave but its place.
func (s *Stage) leave(admin *kadm.Client) {
	var ids []string
	for _, m := range s.members {
		if m.fenced {
			return
		}
		ids = append(ids, m.name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	leaving := kadm.LeaveGroup(s.cfg.Group).Reason("shutting down").InstanceIDs(ids...)
	if _, err := admin.LeaveGroup(ctx, leaving); err != nil {
		s.deps.Log.Warn("leaving the group; others take over after the session timeout",
			"group", s.cfg.Group, "error", err)
	}
}

// Ready reports whether every member has joined the group and every partition that is ours
// is restored, and if not, what is missing. Owning no partition is ready.
func (s *Stage) Ready() (bool, string) {
	for _, m := range s.members {
		if ready, missing := m.roster.ready(); !ready {
			return false, missing
		}
	}
	return true, ""
}

// Partitions returns how many partitions this process judges and how many it restores.
func (s *Stage) Partitions() (running, restoring int) {
	for _, m := range s.members {
		run, rest := m.roster.count()
		running, restoring = running+run, restoring+rest
	}
	return running, restoring
}
