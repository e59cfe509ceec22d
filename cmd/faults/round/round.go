package round

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prtwatch/prtwatch/cmd/faults/feeder"
	"github.com/prtwatch/prtwatch/cmd/faults/plan"
)

// Around is how much of a round is kept for what is not disturbed: writing the backlog before, and
// waiting, stopping and verifying after. What it takes beyond that makes the round longer, and its
// faults not fewer.
const Around = time.Minute

const (
	// stuckAfter is how long after everything is healed all must be judged.
	stuckAfter = 2 * time.Minute
	// leastWave is how soon one hour of sign-ins may follow another.
	leastWave = 2 * time.Second
)

// Run runs a round. The error is of the suite itself; what is wrong with prtwatch is in the
// result's findings. ctx ends the round in good order, and early.
func Run(ctx context.Context, o Options) (Result, error) {
	began := time.Now()
	s, err := newScene(o)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	if err := s.prepare(ctx); err != nil {
		return s.mu.result, err
	}
	watching, watched := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	watch.Go(func() { s.watchProgress(watching) })
	s.disturbed(ctx, time.Now().Add(o.For-Around))
	s.settle(context.WithoutCancel(ctx))
	watched() // from now on a tick may come that nobody takes
	watch.Wait()
	s.end(context.WithoutCancel(ctx))
	s.mu.result.Feed = s.feeder.Counts()
	s.mu.result.Took = time.Since(began)
	if len(s.mu.result.Findings) == 0 {
		s.drop(context.WithoutCancel(ctx))
	}
	return s.mu.result, nil
}

// prepare makes the topics and writes the backlog.
func (s *scene) prepare(ctx context.Context) (err error) {
	if err := s.topics(ctx); err != nil {
		return err
	}
	s.feeder, err = feeder.New(feeder.Options{
		Brokers: s.Cluster.Addrs(), Topic: s.names["input"], Users: s.Users,
		Random: plan.Random(s.Seed, s.Turn, "feeder"), Now: time.Now(),
	})
	if err != nil {
		return err
	}
	if err := s.feeder.Backlog(ctx); err != nil {
		return err
	}
	s.write(entry{What: "note", Detail: fmt.Sprintf("backlog written: %+v", s.feeder.Counts())})
	return nil
}

// disturbed starts the instances, feeds them and injects faults until the deadline. When it
// returns, nothing is disturbed any more.
func (s *scene) disturbed(ctx context.Context, deadline time.Time) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	for _, i := range s.instances {
		if i.Wanted() {
			s.start(i)
		}
	}
	var watchers sync.WaitGroup
	watchers.Go(func() { s.watchUsage(ctx) })
	watchers.Go(func() { s.feed(ctx, deadline) })
	s.inject(ctx)
	s.faults.Wait()
	watchers.Wait()
}

// inject injects one fault after the other until ctx is done.
func (s *scene) inject(ctx context.Context) {
	steps := plan.New(s.Seed, s.Turn, s.Pace, s.Faults)
	claims := s.claims()
	for {
		step := steps.Next()
		pause(ctx, step.After)
		if ctx.Err() != nil {
			return
		}
		for _, name := range step.Faults {
			in := claims[name](step.Random)
			if in == nil {
				continue
			}
			s.begun(name, in.target)
			s.faults.Go(func() { s.carryOut(ctx, name, in) })
			break
		}
	}
}

// carryOut has a fault do what it does, and counts it where it was one.
func (s *scene) carryOut(ctx context.Context, name string, in *injection) {
	began := time.Now()
	injected, detail := in.do(ctx)
	s.undid(name, began)
	if injected {
		s.count(name)
	}
	s.write(entry{What: "done", Name: name, Target: in.target, Detail: fmt.Sprintf("%s, injected: %t", detail, injected)})
}

// feed writes hour after hour, each when all of the one before has been split, so that the hours
// that there are last until the deadline.
func (s *scene) feed(ctx context.Context, deadline time.Time) {
	for ctx.Err() == nil {
		if !s.awaitSplit(ctx) {
			return
		}
		if !s.feeder.More() {
			s.refuseBacklogs(ctx)
			return
		}
		wave := max(leastWave, time.Until(deadline)/time.Duration(s.feeder.Hours()))
		began := time.Now()
		if err := s.feeder.Hour(ctx, wave*3/4); err != nil && ctx.Err() == nil {
			s.find("suite", "%v", err)
		}
		s.write(entry{What: "hour", Detail: fmt.Sprintf("%d left, took %s", s.feeder.Hours(), time.Since(began).Round(time.Millisecond))})
	}
}

// awaitSplit waits until all of the input has been split. Meanwhile hours may be asked for that
// are to wait for instances which are down: nobody reads, and the merge finds them in order.
func (s *scene) awaitSplit(ctx context.Context) bool {
	for !s.split(ctx) {
		select {
		case ask := <-s.backlog:
			written := 0
			for ; written < ask.hours && s.feeder.More(); written++ {
				if err := s.feeder.Hour(ctx, 0); err != nil && ctx.Err() == nil {
					s.find("suite", "%v", err)
				}
			}
			until(ctx, 200*time.Millisecond, s.decided)
			ask.written <- written
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// refuseBacklogs answers who asks for hours when there are none left.
func (s *scene) refuseBacklogs(ctx context.Context) {
	for {
		select {
		case ask := <-s.backlog:
			ask.written <- 0
		case <-ctx.Done():
			return
		}
	}
}

// settle waits until all is judged.
func (s *scene) settle(ctx context.Context) {
	s.mu.Lock()
	s.mu.ending = true
	s.mu.Unlock()
	for _, i := range s.instances {
		i.Busy.Lock()
		if i.Armed() {
			i.Kill()
			s.undid(plan.Point, time.Now().Add(-seen))
		}
		if i.Wanted() {
			s.start(i)
		}
		i.Busy.Unlock()
	}
	waiting, cancel := context.WithTimeout(ctx, stuckAfter)
	began := time.Now()
	done := until(waiting, 300*time.Millisecond, func(ctx context.Context) bool { return s.split(ctx) && s.judged(ctx) })
	cancel()
	if !done {
		s.stuck(ctx)
	}
	s.write(entry{What: "note", Detail: "all judged after " + time.Since(began).Round(time.Millisecond).String()})
}

// end stops the instances and has the verifier look.
func (s *scene) end(ctx context.Context) {
	var stopping sync.WaitGroup
	for _, i := range s.instances {
		stopping.Go(func() {
			i.Busy.Lock()
			defer i.Busy.Unlock()
			i.Want(false)
			s.halt(i)
		})
	}
	stopping.Wait()
	s.boundStandstill()
	for _, what := range grown(s.mu.result.Usage, s.Users) {
		s.find("growth", "%s", what)
	}
	s.verify(ctx)
}

// stuck says what has not been committed.
func (s *scene) stuck(ctx context.Context) {
	for _, stage := range [][2]string{{"input", "split"}, {"signins", "detect"}} {
		at, err := s.standing(ctx, s.admin.ListEndOffsets, s.names[stage[0]], s.names[stage[1]])
		if !at.done() || err != nil {
			s.find("stuck", "%s after everything was healed group %s has committed %s (error: %v)", stuckAfter, s.names[stage[1]], at, err)
		}
	}
}
