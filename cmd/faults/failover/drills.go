package failover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
)

// Figure is what a drill did to the alerts, over all the times that it was done.
type Figure struct {
	Drill  string
	Gaps   []time.Duration // the longest between two alerts of one partition
	Latest []time.Duration // the longest from when a sign-in was due to its alert
	Dark   []int           // partitions that gave no alert for a second
	Within time.Duration   // what the median of Latest must not pass
	Most   time.Duration   // what none of Latest may pass; 0: nobody promises
}

// drill is something that is done to a fleet which is well, again and again. It leaves the fleet as
// it was. within is far beyond what a machine at rest shows: it finds a timeout that is not what it
// should be, and not a machine that is busy. most is what is aimed at, and a finding where one broker
// alone leaves enough of the machine.
type drill struct {
	name   string
	do     func(s *scene, ctx context.Context, name string, time int) error
	within time.Duration // what the median alert must not be later than
	most   time.Duration // what no alert may be later than
}

// allDrills are in the order of the report. What follows on a drill, so that the fleet is whole
// again, may be a drill of its own: then it is measured under that name.
var allDrills = []drill{
	{"nothing: 5 s of peace", (*scene).peace, 4 * time.Second, 0},
	{"kill -9 of the active splitter, restarted at once", (*scene).killAndRestartActive, 6 * time.Second, 0},
	{"kill -9 of another instance, restarted at once", (*scene).killAndRestartOther, 6 * time.Second, 0},
	{"kill -9 of the active splitter, not restarted", (*scene).killActive, 16 * time.Second, 0},
	{"kill -9 of another instance, not restarted", (*scene).killOther, 16 * time.Second, 0},
	{"SIGTERM of the active splitter, not restarted", (*scene).stopActive, 4 * time.Second, 0},
	{"SIGTERM of another instance, not restarted", (*scene).stopOther, 4 * time.Second, 0},
	{joins, nil, 4 * time.Second, 0},
	{"a rolling restart of all three", (*scene).roll, 5 * time.Second, 2 * time.Second},
	{"kill -9 of a broker", (*scene).killBroker, 40 * time.Second, 0},
}

// joins is the drill that mends what others took away.
const joins = "an instance joins"

// drills does each drill so many times, and measures.
func (s *scene) drills(ctx context.Context) error {
	for _, d := range allDrills {
		s.result.Figures = append(s.result.Figures, Figure{Drill: d.name, Within: d.within, Most: d.most})
	}
	for _, d := range allDrills {
		if d.do == nil || !s.wants(d.name) {
			continue
		}
		for time := range s.Times {
			if err := d.do(s, ctx, d.name, time); err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
		}
	}
	return nil
}

func (s *scene) wants(name string) bool {
	for _, prefix := range s.Drills {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return len(s.Drills) == 0
}

// measure does something, waits until alerts flow as if nothing had been, and notes what readers
// of alerts saw.
func (s *scene) measure(ctx context.Context, name string, do func() error) error {
	if _, err := s.flowing(ctx, time.Now()); err != nil {
		return err
	}
	from := time.Now()
	if err := do(); err != nil {
		return err
	}
	until, err := s.flowing(ctx, time.Now())
	if err != nil {
		return err
	}
	o := s.stream.outage(from, until)
	s.Log("%s: gap %s, latest %s, %d partitions dark, settled after %s", name, o.gap.Round(time.Millisecond), o.latest.Round(time.Millisecond),
		o.dark, until.Sub(from).Round(time.Millisecond))
	for n := range s.result.Figures {
		if f := &s.result.Figures[n]; f.Drill == name {
			f.Gaps, f.Latest, f.Dark = append(f.Gaps, o.gap), append(f.Latest, o.latest), append(f.Dark, o.dark)
		}
	}
	return nil
}

func (s *scene) peace(ctx context.Context, name string, _ int) error {
	return s.measure(ctx, name, func() error {
		until := time.Now().Add(5 * time.Second)
		return s.await(ctx, "the alerts", func(context.Context) error { return s.stream.missing(until) })
	})
}

func (s *scene) killAndRestartActive(ctx context.Context, name string, _ int) error {
	return s.killAndRestart(ctx, name, true)
}

func (s *scene) killAndRestartOther(ctx context.Context, name string, _ int) error {
	return s.killAndRestart(ctx, name, false)
}

func (s *scene) killAndRestart(ctx context.Context, name string, active bool) error {
	i, err := s.pick(ctx, active)
	if err != nil {
		return err
	}
	return s.measure(ctx, name, func() error {
		i.Kill()
		return i.Start(fleet.Life{})
	})
}

func (s *scene) killActive(ctx context.Context, name string, _ int) error {
	return s.away(ctx, name, true, s.kill)
}

func (s *scene) killOther(ctx context.Context, name string, _ int) error {
	return s.away(ctx, name, false, s.kill)
}

func (s *scene) stopActive(ctx context.Context, name string, _ int) error {
	return s.away(ctx, name, true, s.stop)
}

func (s *scene) stopOther(ctx context.Context, name string, _ int) error {
	return s.away(ctx, name, false, s.stop)
}

// away takes an instance away, and when the others have taken over brings it back, which is a
// drill too.
func (s *scene) away(ctx context.Context, name string, active bool, end func(*fleet.Instance)) error {
	i, err := s.pick(ctx, active)
	if err != nil {
		return err
	}
	if err := s.measure(ctx, name, func() error { end(i); return nil }); err != nil {
		return err
	}
	return s.measure(ctx, joins, func() error { return i.Start(fleet.Life{}) })
}

// pick returns the instance that is the active splitter, or one that is not.
func (s *scene) pick(ctx context.Context, active bool) (*fleet.Instance, error) {
	splits, err := s.active(ctx)
	if err != nil || active {
		return splits, err
	}
	for _, i := range s.instances {
		if i != splits {
			return i, nil
		}
	}
	return nil, errors.New("there is no other")
}

func (s *scene) kill(i *fleet.Instance) { i.Kill() }

// stop is SIGTERM, and waits for the end.
func (s *scene) stop(i *fleet.Instance) {
	if e, took := i.Stop(patience); e.Code != 0 {
		s.find("%s ended with code %d, %s after SIGTERM: see %s", i.Name, e.Code, took, i.Log)
	}
}

// roll restarts one instance after the other, each when the one before is ready.
func (s *scene) roll(ctx context.Context, name string, _ int) error {
	return s.measure(ctx, name, func() error {
		for _, i := range s.instances {
			s.stop(i)
			if err := i.Start(fleet.Life{}); err != nil {
				return err
			}
			if err := s.await(ctx, i.Name+" to be ready", i.Ready); err != nil {
				return err
			}
		}
		return nil
	})
}

// killBroker kills one broker after the other, each when the one before is back and in sync. Of one
// broker alone it would say how long Kafka takes to start.
func (s *scene) killBroker(ctx context.Context, name string, time int) error {
	if s.Brokers < 3 {
		return nil
	}
	broker := time % s.Brokers
	if err := s.measure(ctx, name, func() error { return s.cluster.Kill(broker) }); err != nil {
		return err
	}
	if err := s.cluster.Restart(ctx, broker); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.cluster.AwaitInSync(ctx)
}
