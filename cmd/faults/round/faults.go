package round

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
	"github.com/prtwatch/prtwatch/cmd/faults/plan"
	"github.com/prtwatch/prtwatch/internal/fault"
)

// injection is a fault that has claimed what it disturbs.
type injection struct {
	target string
	// do injects the fault, ends it when its time or ctx is over, leaves everything as it must be,
	// and gives back what was claimed. It reports whether there was a fault at all, and one that
	// lasted for as long as it was to, and how it went.
	do func(ctx context.Context) (injected bool, detail string)
}

// claims are how each fault claims its target; nil where it cannot be injected as things are.
func (s *scene) claims() map[string]func(*rand.Rand) *injection {
	return map[string]func(*rand.Rand) *injection{
		plan.Kill:        s.kill(0),
		plan.Crash:       s.kill(12 * time.Second),
		plan.Freeze:      s.freeze(13*time.Second, 20*time.Second),
		plan.Nap:         s.freeze(time.Second, 3*time.Second),
		plan.Stop:        s.stop,
		plan.Join:        s.join,
		plan.Point:       s.point,
		plan.Hang:        s.hang,
		plan.BrokerKill:  s.brokerDown(false),
		plan.BrokerStop:  s.brokerDown(true),
		plan.BrokerPause: s.brokerPause,
		plan.Coordinator: s.coordinator,
		plan.Leaders:     s.leaders,
		plan.Cut:         s.net(func(slot int, _ *rand.Rand) { s.Cluster.Cut(slot) }),
		plan.HalfOpen:    s.net(func(slot int, _ *rand.Rand) { s.Cluster.HalfOpen(slot) }),
		plan.Slow: s.net(func(slot int, r *rand.Rand) {
			s.Cluster.Slow(slot, plan.Between(r, 50*time.Millisecond, 300*time.Millisecond), 200*time.Millisecond)
		}),
		plan.Throttle:  s.net(func(slot int, r *rand.Rand) { s.Cluster.Throttle(slot, 20+r.IntN(180)) }),
		plan.Reset:     s.reset,
		plan.Outage:    s.outage,
		plan.Deleted:   s.damage(func(dir string, _ *rand.Rand) (string, error) { return "", os.RemoveAll(dir) }),
		plan.Older:     s.damage(func(dir string, _ *rand.Rand) (string, error) { return "", outdate(dir) }),
		plan.Truncated: s.damage(fleet.Truncate),
		plan.Flipped:   s.damage(fleet.Flip),
		plan.Swapped:   s.swap,
		plan.Compacted: s.compacted,
		plan.Full:      s.full,
	}
}

// claim returns an instance that runs and that nobody disturbs, nil where there is none. The
// caller unlocks its Busy.
func (s *scene) claim(r *rand.Rand, but *fleet.Instance) *fleet.Instance {
	for _, n := range r.Perm(len(s.instances)) {
		i := s.instances[n]
		if i == but || !i.Busy.TryLock() {
			continue
		}
		if i.Wanted() && i.Running() {
			return i
		}
		i.Busy.Unlock()
	}
	return nil
}

// pause waits, and reports whether for as long as it was to: ctx ends it early.
func pause(ctx context.Context, d time.Duration) (whole bool) {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (s *scene) kill(away time.Duration) func(*rand.Rand) *injection {
	return func(r *rand.Rand) *injection {
		i := s.claim(r, nil)
		if i == nil {
			return nil
		}
		remember := r.IntN(3) == 0
		if away > 0 {
			return s.killed(i, remember, plan.Between(r, away, 2*away))
		}
		return s.killed(i, remember, 0)
	}
}

func (s *scene) killed(i *fleet.Instance, remember bool, away time.Duration) *injection {
	return &injection{i.Name, func(ctx context.Context) (bool, string) {
		defer i.Busy.Unlock()
		was := i.Kill()
		if remember {
			s.remember(i)
		}
		whole := pause(ctx, away)
		s.start(i)
		return was && whole, away.Round(time.Millisecond).String()
	}}
}

// remember keeps a copy of the state of an instance that does not run, for the fault that puts
// it back later.
func (s *scene) remember(i *fleet.Instance) {
	if err := fleet.Copy(older(i.Dir), i.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.find("suite", "copying the state of %s: %v", i.Name, err)
	}
}

func older(dir string) string { return filepath.Join(filepath.Dir(dir), "older") }

func putBack(dir string) error {
	if _, err := os.Stat(older(dir)); err != nil {
		return fleet.ErrNothing
	}
	return fleet.Copy(dir, older(dir))
}

// outdate puts the older copy of a state back, and where there is none yet makes one for the next time.
func outdate(dir string) error {
	err := putBack(dir)
	if !errors.Is(err, fleet.ErrNothing) {
		return err
	}
	if copied := fleet.Copy(older(dir), dir); copied != nil && !errors.Is(copied, os.ErrNotExist) {
		return copied
	}
	return err
}

func (s *scene) freeze(least, most time.Duration) func(*rand.Rand) *injection {
	return func(r *rand.Rand) *injection {
		i := s.claim(r, nil)
		if i == nil {
			return nil
		}
		long := plan.Between(r, least, most)
		return &injection{i.Name, func(ctx context.Context) (bool, string) {
			defer i.Busy.Unlock()
			froze := i.Freeze()
			whole := pause(ctx, long)
			i.Thaw()
			return froze && whole, long.Round(time.Millisecond).String()
		}}
	}
}

// stopWithin is how long an end in good order may take: prtwatch promises ten seconds, and then
// ends itself. A little before that it is made to say what it waits for.
const stopWithin = 9500 * time.Millisecond

// halt stops an instance and says what was wrong with that.
func (s *scene) halt(i *fleet.Instance) (stopped bool, detail string) {
	armed := i.Armed()
	calm := s.calm(i)
	if !i.Running() {
		return false, ""
	}
	e, took := i.Stop(stopWithin)
	calm = calm && s.calm(i)
	detail = fmt.Sprintf("code %d after %s, calm %t", e.Code, took.Round(time.Millisecond), calm)
	switch {
	case e.Code == 0:
	case armed && e.Killed && took < stopWithin: // the point lay on the way out
	case e.Unborn, metFullDisk(e):
	case metDamage(e):
		detail += ", damaged state"
	case !calm && e.Code == 1:
	default:
		s.find("stop", "%s ended with code %d, %s after SIGTERM (brokers and network being well: %t): %s", i.Name, e.Code, took, calm, e.Tail())
	}
	return true, detail
}

func (s *scene) stop(r *rand.Rand) *injection {
	i := s.claim(r, nil)
	if i == nil {
		return nil
	}
	away := plan.Between(r, 0, 5*time.Second)
	return &injection{i.Name, func(ctx context.Context) (bool, string) {
		defer i.Busy.Unlock()
		stopped, detail := s.halt(i)
		pause(ctx, away)
		s.start(i)
		return stopped, detail
	}}
}

func (s *scene) join(*rand.Rand) *injection {
	i := s.instances[len(s.instances)-1]
	if !i.Busy.TryLock() {
		return nil
	}
	return &injection{i.Name, func(context.Context) (bool, string) {
		defer i.Busy.Unlock()
		if !i.Wanted() {
			i.Want(true)
			s.start(i)
			return true, "joins"
		}
		i.Want(false)
		stopped, detail := s.halt(i)
		return stopped, "leaves: " + detail
	}}
}

// point starts an instance with a fault point armed. It is counted when the process has killed
// itself there (exited).
func (s *scene) point(r *rand.Rand) *injection {
	if len(s.Points) == 0 {
		return nil
	}
	i := s.claim(r, nil)
	if i == nil {
		return nil
	}
	if i.Armed() { // it has yet to come
		i.Busy.Unlock()
		return nil
	}
	step := s.Points[r.IntN(len(s.Points))]
	point := fmt.Sprintf("%s:%d", step, 1+r.IntN(passages(step)))
	kill := r.IntN(2) == 0
	return &injection{i.Name, func(context.Context) (bool, string) {
		defer i.Busy.Unlock()
		if kill {
			i.Kill()
		} else {
			s.halt(i)
		}
		s.startWith(i, fleet.Life{Point: point})
		return false, "armed " + point
	}}
}

// passages is how often an instance comes by a step at the most before it ends there. Some come seldom.
func passages(step string) int {
	if strings.HasPrefix(step, "restore-") || step == string(fault.SplitCommitted) || step == string(fault.DetectFinished) {
		return 2
	}
	return 25
}

// hangWithin is how long an instance may take until it comes by the step at which it stops.
const hangWithin = 30 * time.Second

// hang has an instance stop by itself between two steps of a commit, and go on when its
// transaction has timed out: within its session or beyond that, as the timeout of the round is.
func (s *scene) hang(r *rand.Rand) *injection {
	var steps []string
	for _, point := range s.Points {
		if strings.HasPrefix(point, "detect-") && point != "detect-finished" {
			steps = append(steps, point)
		}
	}
	if len(steps) == 0 {
		return nil
	}
	i := s.claim(r, nil)
	if i == nil {
		return nil
	}
	point := fmt.Sprintf("%s:%d", steps[r.IntN(len(steps))], 1+r.IntN(10))
	long := s.transactionTimeout() + plan.Between(r, 1500*time.Millisecond, 4*time.Second)
	return &injection{i.Name, func(ctx context.Context) (bool, string) {
		defer i.Busy.Unlock()
		s.halt(i)
		s.startWith(i, fleet.Life{Point: point + fleet.Stops})
		waiting, cancel := context.WithTimeout(ctx, hangWithin)
		defer cancel()
		if !until(waiting, 5*time.Millisecond, func(context.Context) bool { return i.Frozen() }) {
			i.Kill() // or it would stop later, with nobody to wake it
			s.start(i)
			return false, "did not come by " + point
		}
		whole := pause(ctx, long)
		i.Thaw()
		return whole, point + " " + long.Round(time.Millisecond).String()
	}}
}

func (s *scene) net(disturb func(slot int, r *rand.Rand)) func(*rand.Rand) *injection {
	return func(r *rand.Rand) *injection {
		slot := s.claimNetwork(r)
		if slot < 0 {
			return nil
		}
		long := plan.Between(r, time.Second, 15*time.Second)
		return &injection{s.instances[slot].Name, func(ctx context.Context) (bool, string) {
			defer s.network[slot].Unlock()
			disturb(slot, r)
			whole := pause(ctx, long)
			s.Cluster.Heal(slot)
			s.shook(slot)
			return whole, long.Round(time.Millisecond).String()
		}}
	}
}

// claimNetwork returns a slot whose instance runs and whose network nobody disturbs, or -1.
func (s *scene) claimNetwork(r *rand.Rand) int {
	for _, slot := range r.Perm(len(s.instances)) {
		if s.instances[slot].Running() && s.network[slot].TryLock() {
			return slot
		}
	}
	return -1
}

func (s *scene) reset(r *rand.Rand) *injection {
	slot := s.claimNetwork(r)
	if slot < 0 {
		return nil
	}
	return &injection{s.instances[slot].Name, func(context.Context) (bool, string) {
		defer s.network[slot].Unlock()
		lines := s.Cluster.Reset(slot)
		s.shook(slot)
		return lines > 0, fmt.Sprintf("%d connections", lines)
	}}
}

// outage takes all instances away, lets some hours wait for them, and brings them back.
func (s *scene) outage(r *rand.Rand) *injection {
	for n, i := range s.instances {
		if !i.Busy.TryLock() {
			for _, claimed := range s.instances[:n] {
				claimed.Busy.Unlock()
			}
			return nil
		}
	}
	hours := 1 + r.IntN(3)
	return &injection{"all", func(ctx context.Context) (bool, string) {
		for _, i := range s.instances {
			defer i.Busy.Unlock()
			i.Kill()
		}
		ask := backlog{hours, make(chan int)}
		written := 0
		select {
		case s.backlog <- ask:
			written = <-ask.written
		case <-time.After(20 * time.Second):
		case <-ctx.Done():
		}
		for _, i := range s.instances {
			if i.Wanted() {
				s.start(i)
			}
		}
		return written > 0, fmt.Sprintf("%d of %d hours", written, hours)
	}}
}

// damage kills an instance and does something to its state.
func (s *scene) damage(how func(dir string, r *rand.Rand) (string, error)) func(*rand.Rand) *injection {
	return func(r *rand.Rand) *injection {
		i := s.claim(r, nil)
		if i == nil {
			return nil
		}
		return &injection{i.Name, func(context.Context) (bool, string) {
			defer i.Busy.Unlock()
			if r.IntN(2) == 0 {
				i.Kill()
			} else {
				s.halt(i)
			}
			detail, err := how(i.Dir, r)
			s.start(i)
			if err != nil && !errors.Is(err, fleet.ErrNothing) {
				s.find("suite", "damaging the state of %s: %v", i.Name, err)
			}
			return err == nil, detail
		}}
	}
}

func (s *scene) swap(r *rand.Rand) *injection {
	a := s.claim(r, nil)
	if a == nil {
		return nil
	}
	b := s.claim(r, a)
	if b == nil {
		a.Busy.Unlock()
		return nil
	}
	return &injection{a.Name + " and " + b.Name, func(context.Context) (bool, string) {
		defer a.Busy.Unlock()
		defer b.Busy.Unlock()
		a.Kill()
		b.Kill()
		err := fleet.Swap(a.Dir, b.Dir)
		if err != nil {
			s.find("suite", "swapping two states: %v", err)
		}
		s.start(a)
		s.start(b)
		return err == nil, ""
	}}
}
