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
//     to the end of the baseline topic, by turns with others, and hands it to the member through
//     the roster.
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
//     compared with the partitions that the client has offsets for, and a partition that is
//     assigned again while we thought we had it is begun afresh.
//   - The session forgets that something was revoked at End. So member.settle, which calls
//     End to have it forget, runs only while no polled record is in hand.
//   - After an error of Begin or End nobody knows how the transaction ended. The member then
//     throws away its session and its leases and restores from the baseline topic.
//   - The client commits nothing while it waits for the group to join, and begins no transaction
//     before it has a producer id, whatever the context. So a stop ends the session's client itself
//     when it has waited long enough (member.limit).
//   - Pauses outlive a revoke, which changes nothing: each assignment begins with one and ends it
//     when it is restored.
package detect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/fault"
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
	// AtLeastOnce delivers without transactions: see atLeastOnce.
	AtLeastOnce bool
	// LookEvery is how often a member looks for records that others wrote to its baseline
	// partitions, where delivery is at least once; 0 is a good default.
	LookEvery time.Duration
	// Log gets what an operator should know.
	Log *slog.Logger
	// Metrics counts; made once with NewMetrics, used by one Stage.
	Metrics *Metrics

	// Set by tests alone.
	patience time.Duration // of a restore in which nothing moves: see restorePatience
	sayEvery time.Duration // see sayEvery
	settling time.Duration // see settling
	turn     time.Duration // see turnWithin
	slice    time.Duration // see turnSlice
	handOver time.Duration // see handOverWithin
	heard    int           // see maxHeardBytes
	pace     func() pace   // of the next transaction

	restores *semaphore.Weighted // turns of all members, see turns; set by New, unless a test has
}

func (d *Deps) lookEvery() time.Duration {
	if d.LookEvery > 0 {
		return d.LookEvery
	}
	return lookEvery
}

func (d *Deps) usualPace() pace {
	if d.pace != nil {
		return d.pace()
	}
	return usualPace
}

// Stage is the detecting stage of one process.
type Stage struct {
	cfg     Config
	deps    Deps
	members []*member
}

// New returns a Stage for a valid configuration.
func New(cfg Config, deps Deps) *Stage {
	if deps.restores == nil {
		deps.restores = semaphore.NewWeighted(restoresAtOnce)
	}
	s := &Stage{cfg: cfg, deps: deps}
	n := cfg.Members
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	n = min(n, int(deps.Topics.Partitions))
	for i := range n {
		s.members = append(s.members, newMember(cfg, deps, i))
	}
	deps.Metrics.watch(s)
	return s
}

// Run judges until ctx is done, then commits what it has, leaves the group and returns nil.
// It returns an error when it cannot go on: another process under the same instance name,
// offsets that are out of range, a baseline topic that was emptied or replaced, a record of
// a newer version, a state that cannot be written.
func (s *Stage) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	limit, giveUp := kafka.After(ctx, kafka.WorkWithin)
	defer giveUp()
	farewell, hangUp := kafka.After(ctx, kafka.LeaveWithin)
	defer hangUp()
	client, err := kgo.NewClient(append(slices.Clone(s.deps.Client), kgo.WithContext(farewell))...)
	if err != nil {
		return fmt.Errorf("making the detecting stage's admin client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	baseline, err := s.learn(ctx, client, admin)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}

	s.deps.Metrics.kept(baseline.retention)
	for _, m := range s.members {
		m.asking, m.admin, m.baseline, m.limit = client, admin, baseline, limit
		group.Go(func() error { return m.run(ctx) })
	}
	group.Go(func() error { return s.watch(ctx, admin, baseline) })
	err = group.Wait()
	// All leave at once, before any client closes: one that closed first would keep the others
	// waiting for it in a rebalance. None joins any more by then, or the group would wait for a
	// member that is gone.
	for _, m := range s.members {
		if m.hangUp != nil {
			m.hangUp()
		}
	}
	s.leave(farewell, client, admin)
	for _, m := range s.members {
		if err == nil {
			fault.Pass(fault.DetectFinished)
		}
		m.close()
		select {
		case late := <-m.fatal: // of the closing itself: a state that could not be written
			switch {
			case errors.Is(late, errRebuild):
			case err == nil:
				err = late
			default:
				s.deps.Log.Error("ending, and not for this alone", "error", late)
			}
		default:
		}
	}
	return err
}

// learnWithin is how long brokers may be unreachable that were there when the topics were checked.
const learnWithin = 30 * time.Second

// learn asks the brokers for what must be known before anything is judged, and takes our names over.
func (s *Stage) learn(ctx context.Context, client *kgo.Client, admin *kadm.Client) (baselineTopic, error) {
	for began := time.Now(); ; {
		baseline, err := describeBaseline(ctx, admin, s.deps.Topics)
		if err == nil {
			err = s.takeNames(ctx, client, admin)
		}
		if err == nil || !kafka.Unreachable(err) || time.Since(began) > learnWithin {
			return baseline, err
		}
		s.deps.Log.Debug("asking the brokers before anything is judged; trying on", "error", err)
		select {
		case <-ctx.Done():
			return baseline, err
		case <-time.After(rebuildAfter):
		}
	}
}

// settling is for how long a member that was given nothing may be waiting for its share, which others
// have to give up first: a heartbeat, what they have in hand, and a second rebalance. Who restarts
// instances one after the other would else have the next one stopped in the middle of that. In the
// consumer protocol the broker says how often there is a heartbeat, each 5 s by default.
func (c Config) settling() time.Duration {
	if c.GroupProtocol == Consumer {
		return 12 * time.Second
	}
	return 2 * time.Second
}

// Ready reports whether every member has joined the group and every partition that is ours
// is restored, and if not, what is missing: how much was read, how fast, and how long the rest
// will take. Owning no partition is ready, once none has come for settling.
func (s *Stage) Ready() (bool, string) {
	var under, over restores
	for _, m := range s.members {
		u, o, joined := m.roster.restoring(cmp.Or(s.deps.settling, s.cfg.settling()))
		if !joined {
			return false, "detect: joining the consumer group"
		}
		under, over = append(under, u...), append(over, o...)
	}
	if len(under) == 0 {
		return true, ""
	}
	return false, "detect: " + under.say(time.Now(), over)
}

// Partitions returns how many partitions this process judges, and how many it was given and does not judge yet.
func (s *Stage) Partitions() (judged, others int) {
	phases := s.phases()
	return phases[running], phases[assigned] + phases[restoring] + phases[restored]
}

// phases returns how many partitions are in each phase.
func (s *Stage) phases() (phases [len(phaseNames)]int) {
	for _, m := range s.members {
		m.roster.count(&phases)
	}
	return phases
}
