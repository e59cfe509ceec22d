package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prtwatch/prtwatch/cmd/bench/contender"
	"github.com/prtwatch/prtwatch/cmd/bench/corpus"
	"github.com/prtwatch/prtwatch/cmd/bench/history"
	"github.com/prtwatch/prtwatch/cmd/bench/process"
	"github.com/prtwatch/prtwatch/cmd/bench/report"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// manyUsers is how many users the targets of a large state are for.
const manyUsers = 1_000_000

// firstSignIns are so many that each partition has some. The offsets that a history is filled in with are not prtwatch's
// own: it trusts no state beside them, and would restore all of it at each start until it has committed some.
const firstSignIns = 1_000

// million is the measurement of a large state.
type million struct {
	*bench
	first     contender.Raw // a few sign-ins of each partition
	raw       contender.Raw
	templates []history.Template
	copies    int

	full, restart, rate, ratio, peak, restorePeak report.Figure
	alerts, alertsEmpty                           int
}

// million measures with the state of a large tenant: how long it takes to come back, and what it
// does to rate and memory. The same sign-ins run over an empty state.
func (b *bench) million(ctx context.Context) error {
	// So many that every second user comes: more than a cache holds, and a state that does not grow by it.
	signIns := (b.stateUsers + 1) / 2
	if err := b.makeCorpus(ctx); err != nil {
		return err
	}
	raw := func(topic string, signIns int) contender.Raw {
		return contender.Raw{Broker: b.broker, Topic: topic, SignIns: signIns, Dir: b.dir}
	}
	m := &million{bench: b, first: raw("bench.million.first", firstSignIns), raw: raw("bench.million.raw", signIns)}
	var err error
	if m.templates, _, err = b.templates(ctx, b.raw(), "bench.templates"); err != nil {
		return err
	}
	m.copies = (b.stateUsers + len(m.templates) - 1) / len(m.templates)
	// A step that shares no factor with a count goes through all of it before it comes again.
	spread := func(n int, s tenant.SignIn) (copyNumber, user int) { return n * 7919 % m.copies, s.User }
	for _, raw := range []contender.Raw{m.first, m.raw} {
		if err := b.broker.Create(ctx, raw.Topic, corpus.Partitions); err != nil {
			return err
		}
		if _, err := b.corpus.WritePresent(ctx, b.broker.Addr, raw.Topic, raw.SignIns, spread); err != nil {
			return err
		}
	}
	for turn := range b.times {
		if err := m.turn(ctx, turn+1); err != nil {
			return fmt.Errorf("run %d: %w", turn+1, err)
		}
	}
	m.report()
	return b.broker.Delete(ctx, "bench.million")
}

// templates has prtwatch judge a corpus, and returns the profiles that it made. Its topics begin with name.
func (b *bench) templates(ctx context.Context, raw contender.Raw, name string) (all []history.Template, o contender.Outcome, err error) {
	i := b.prtwatch().Instance(raw, name)
	if err := i.CreateTopics(ctx); err != nil {
		return nil, o, err
	}
	if o, _, err = judge(ctx, i); err != nil {
		return nil, o, err
	}
	all, err = history.Templates(ctx, b.broker, i.Topic("baseline"))
	return all, o, errors.Join(err, b.broker.Delete(ctx, name+"."), os.RemoveAll(i.State))
}

// judge runs an instance over its raw topic, and returns besides how many bytes it wrote to the disk, with
// what its end wrote.
func judge(ctx context.Context, i *contender.Instance) (o contender.Outcome, written int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, runFor)
	defer cancel()
	p, err := i.Start()
	if err != nil {
		return o, 0, err
	}
	defer p.Kill()
	if o, err = i.Watch(ctx, p); err != nil {
		return o, 0, err
	}
	if err := p.Stop(stopLimit); err != nil {
		return o, 0, err
	}
	return o, p.Written(), nil
}

// turn measures once, on fresh topics.
func (m *million) turn(ctx context.Context, turn int) error {
	name := fmt.Sprintf("bench.million.%d", turn)
	i := m.prtwatch().Instance(m.raw, name)
	if err := i.CreateTopics(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := history.Fill(ctx, m.broker, i.Topic("baseline"), i.Topic("signins"), i.Flow().Second.Group, m.templates, m.copies); err != nil {
		return err
	}
	m.logf("wrote %d profiles of %.0f bytes in %s", m.copies*len(m.templates), history.Size(m.templates), time.Since(began).Round(100*time.Millisecond))
	// With the stage that restores alone: the other one would begin to judge.
	took, usage, _, err := restore(ctx, i, nil, "--only", "detect")
	if err != nil {
		return err
	}
	m.full, m.restorePeak = append(m.full, took.Seconds()), append(m.restorePeak, float64(usage.Peak)/1e6)
	m.logf("restored whole in %.2f s, %.2f s of CPU, %d MB", took.Seconds(), usage.CPU.Seconds(), usage.Peak/1e6)
	if _, _, err := judge(ctx, m.prtwatch().Instance(m.first, name)); err != nil {
		return err
	}
	if took, usage, _, err = restore(ctx, i, nil, "--only", "detect"); err != nil {
		return err
	}
	m.restart = append(m.restart, took.Seconds())
	m.logf("restarted in %.2f s, %.2f s of CPU, %d MB", took.Seconds(), usage.CPU.Seconds(), usage.Peak/1e6)
	with, _, err := judge(ctx, i)
	if err != nil {
		return err
	}
	empty := m.prtwatch().Instance(m.raw, name+".empty")
	if err := empty.CreateTopics(ctx); err != nil {
		return err
	}
	without, _, err := judge(ctx, empty)
	if err != nil {
		return err
	}
	m.rate = append(m.rate, float64(m.raw.SignIns)/with.Wall.Seconds())
	m.ratio = append(m.ratio, without.Wall.Seconds()/with.Wall.Seconds())
	m.peak = append(m.peak, float64(with.Peak)/1e6)
	m.alerts, m.alertsEmpty = len(with.Alerts), len(without.Alerts)
	m.logf("with history %.2f s, %.2f s of CPU, %d MB, %d alerts; with an empty state %.2f s, %.2f s, %d MB, %d alerts", with.Wall.Seconds(),
		with.CPU.Seconds(), with.Peak/1e6, m.alerts, without.Wall.Seconds(), without.CPU.Seconds(), without.Peak/1e6, m.alertsEmpty)
	return errors.Join(m.broker.Delete(ctx, name+"."), os.RemoveAll(i.State), os.RemoveAll(empty.State))
}

// restore starts an instance, waits until it is ready and then for what then waits for, if anything, and stops
// it. It returns besides how many bytes that wrote to the disk.
func restore(ctx context.Context, i *contender.Instance, then func(context.Context, *process.Process) error, args ...string) (took time.Duration, u process.Usage, written int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	p, err := i.Start(args...)
	if err != nil {
		return took, u, 0, err
	}
	defer p.Kill()
	if took, err = contender.AwaitReady(ctx, p); err != nil {
		return took, u, 0, err
	}
	if u, err = p.Usage(); err != nil {
		return took, u, 0, err
	}
	if then != nil {
		if err := then(ctx, p); err != nil {
			return took, u, 0, err
		}
	}
	if err := p.Stop(stopLimit); err != nil {
		return took, u, 0, err
	}
	return took, u, p.Written(), nil
}

func (m *million) report() {
	users := m.copies * len(m.templates)
	m.sections = append(m.sections, fmt.Sprintf("## %d users in the state\n\nProfiles of %.0f bytes on average, as prtwatch made them of 16 days of %d users; "+
		"%d sign-ins after that, spread evenly over the users. Restored is from the start of a process to its /readyz.\n\n", users, history.Size(m.templates), len(m.templates), m.raw.SignIns)+
		report.Table([]string{"", "measured"}, [][]string{
			{"restored whole, folder deleted, s", m.full.Text(2)},
			{"peak RSS of that, MB", m.restorePeak.Text(0)},
			{"restored after a clean restart, s", m.restart.Text(2)},
			{"sign-ins/s with history", m.rate.Text(0)},
			{"rate to that with an empty state", m.ratio.Text(2)},
			{"peak RSS of that, MB", m.peak.Text(0)},
			{"alerts with history / with an empty state", fmt.Sprintf("%d / %d", m.alerts, m.alertsEmpty)},
		}))
	if users < manyUsers {
		return // the targets are for more
	}
	m.results = append(
		m.results,
		report.Result{Target: report.MillionPeak, Value: m.peak},
		report.Result{Target: report.MillionRate, Value: m.ratio},
		report.Result{Target: report.RestoreWhole, Value: m.full},
		report.Result{Target: report.RestoreRestart, Value: m.restart},
	)
}
