package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prtwatch/prtwatch/cmd/bench/contender"
	"github.com/prtwatch/prtwatch/cmd/bench/corpus"
	"github.com/prtwatch/prtwatch/cmd/bench/history"
	"github.com/prtwatch/prtwatch/cmd/bench/process"
	"github.com/prtwatch/prtwatch/cmd/bench/report"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// setup is what prtwatch runs in.
type setup struct {
	users      int // in the state
	days       int // of their history
	partitions int // of the topics between and behind the stages
	members    int // that detect
	networks   int // addresses that a user comes from
	hot        int // percent of the sign-ins that one user makes
}

// factor is a thing that grows while all others stay.
type factor struct {
	name   string
	values []int
	of     func(*setup) *int
}

// factors are the things that grow, with so many users at most, and the setup that all are compared with.
// Its value is among those of each.
func factors(users int) (base setup, all []factor) {
	base = setup{users: max(1, users/10), days: 14, partitions: 16, members: 2, networks: 30}
	return base, []factor{
		{"users in the state", []int{max(1, users/100), base.users, users}, func(s *setup) *int { return &s.users }},
		{"days of history", []int{1, 7, 14}, func(s *setup) *int { return &s.days }},
		{"partitions", []int{1, 4, 16, 64}, func(s *setup) *int { return &s.partitions }},
		{"members", []int{1, 2, 4}, func(s *setup) *int { return &s.members }},
		{"addresses a user", []int{3, 30, 500}, func(s *setup) *int { return &s.networks }},
		{"% of the sign-ins from one user", []int{0, 10, 50}, func(s *setup) *int { return &s.hot }},
	}
}

// setups are the base with this factor at each of its values.
func (f factor) setups(base setup) (all []setup) {
	for _, value := range f.values {
		s := base
		*f.of(&s) = value
		all = append(all, s)
	}
	return all
}

// growth is the measurement of how cost grows.
type growth struct {
	*bench
	inputs map[setup]*input
	taken  map[setup]*costs
	runs   int
}

// costs are what the runs in one setup took, a value a run.
type costs struct {
	figures
	disk, amplification, restoring, profiles, baseline, brokerEach, restored report.Figure

	profile float64 // bytes of one, before the runs
}

// input is a history, and what happens after it.
type input struct {
	first     contender.Raw // of what happens at first: a few sign-ins of each partition
	raw       contender.Raw // of what happens then
	templates []history.Template
	copies    int
	judged    map[string]bool // the sign-ins of the first copy, and whether the query returns them
	alerts    map[string]int  // of the first run; nil before it
}

// growth measures prtwatch alone in setups that differ from one of them in one thing.
func (b *bench) growth(ctx context.Context) error {
	g := &growth{bench: b, inputs: make(map[setup]*input), taken: make(map[setup]*costs)}
	base, factors := factors(b.stateUsers)
	setups := []setup{base}
	for _, f := range factors {
		for _, s := range f.setups(base) {
			if !slices.Contains(setups, s) {
				setups = append(setups, s)
			}
		}
	}
	if !b.quick {
		b.logf("a run that does not count, until the broker is warm")
		if err := g.run(ctx, base, new(costs)); err != nil {
			return err
		}
	}
	for turn := range b.times {
		for _, s := range setups {
			if g.taken[s] == nil {
				g.taken[s] = new(costs)
			}
			if err := g.run(ctx, s, g.taken[s]); err != nil {
				if turn > 0 {
					g.report(base, factors)
				}
				return fmt.Errorf("%+v, run %d: %w", s, turn+1, err)
			}
		}
	}
	g.report(base, factors)
	return b.broker.Delete(ctx, growthPrefix)
}

const growthPrefix = "bench.growth."

// signIns is how many are judged in a setup: three of each user of the base, or few enough of large profiles
// that writing them takes no minutes.
func (g *growth) signIns(s setup) int {
	base, _ := factors(g.stateUsers)
	if s.networks < 100 {
		return 3 * base.users
	}
	return max(1, base.users/4)
}

// How many users have their history made: all others have a copy of it. Nearly all of the time is the query's.
const (
	growthUsers      = 30
	quickGrowthUsers = 5
)

// input makes what a setup reads, where it was not made yet.
func (g *growth) input(ctx context.Context, s setup) (*input, error) {
	s.partitions, s.members = 0, 0 // the same is read by however many
	if in := g.inputs[s]; in != nil {
		return in, nil
	}
	name := fmt.Sprintf("%sinput.%d", growthPrefix, len(g.inputs))
	past := contender.Raw{Broker: g.broker, Topic: name + ".past", Dir: g.dir}
	in := &input{
		first:  contender.Raw{Broker: g.broker, Topic: name + ".first", SignIns: firstSignIns, Dir: g.dir},
		raw:    contender.Raw{Broker: g.broker, Topic: name + ".present", SignIns: g.signIns(s), Dir: g.dir},
		judged: make(map[string]bool),
	}
	for _, topic := range []string{past.Topic, in.first.Topic, in.raw.Topic} {
		if err := g.broker.Create(ctx, topic, corpus.Partitions); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	to, err := corpus.Open(g.broker.Addr, past.Topic)
	if err != nil {
		return nil, err
	}
	users := min(g.users, growthUsers)
	if g.quick {
		users = quickGrowthUsers
	}
	made, err := corpus.Make(ctx, corpus.Options{
		Users: users, Seed: g.seed, Days: s.days, Networks: s.networks, Judge: true,
		// Each user once an hour in every setup: else the more would write the more, or the less.
		Rate: float64(s.users) / 3600,
	}, to)
	if err != nil {
		return nil, err
	}
	past.SignIns = made.SignIns
	var o contender.Outcome
	if in.templates, o, err = g.templates(ctx, past, name+".templates"); err != nil {
		return nil, err
	}
	var f figures
	if f.add(o, made); f.missing+f.madeUp+f.doubled > 0 {
		g.wrong = append(g.wrong, fmt.Sprintf("the history of %+v: %d of the query's rows missing, %d made up, %d doubled", s, f.missing, f.madeUp, f.doubled))
	}
	in.copies = (s.users + len(in.templates) - 1) / len(in.templates)
	for _, raw := range []contender.Raw{in.first, in.raw} {
		judged, err := made.WritePresent(ctx, g.broker.Addr, raw.Topic, raw.SignIns, in.pick(s))
		if err != nil {
			return nil, err
		}
		maps.Copy(in.judged, judged)
	}
	g.logf("made %d sign-ins of history and %d after it, %d of which the query judges, in %s", made.SignIns, in.raw.SignIns, len(in.judged), time.Since(began).Round(100*time.Millisecond))
	g.inputs[s] = in
	return in, g.broker.Delete(ctx, past.Topic)
}

// pick returns whose a sign-in is: the hot user's, for which he is the first of the first copy; else one in
// fifty is of the first copy, whose alerts the query knows; else of any.
func (in *input) pick(s setup) func(int, tenant.SignIn) (copyNumber, user int) {
	return func(_ int, signIn tenant.SignIn) (copyNumber, user int) {
		switch d := corpus.Draw(signIn, "copy"); {
		case d%100 < uint64(s.hot):
			return 0, 0
		case d/100%50 == 0:
			return 0, signIn.User
		default:
			return int(d / 5000 % uint64(in.copies)), signIn.User
		}
	}
}

// run measures once, on fresh topics.
func (g *growth) run(ctx context.Context, s setup, c *costs) error {
	in, err := g.input(ctx, s)
	if err != nil {
		return err
	}
	g.runs++
	name := fmt.Sprintf("%srun.%d", growthPrefix, g.runs)
	w := g.prtwatch()
	w.Set = append([]string{fmt.Sprintf("topics.partitions=%d", s.partitions), fmt.Sprintf("detect.members=%d", s.members)}, w.Set...)
	i := w.Instance(in.raw, name)
	if err := i.CreateTopics(ctx); err != nil {
		return err
	}
	if err := history.Fill(ctx, g.broker, i.Topic("baseline"), i.Topic("signins"), i.Flow().Second.Group, in.templates, in.copies); err != nil {
		return err
	}
	first := w.Instance(in.first, name)
	restored, _, restoring, err := restore(ctx, first, func(ctx context.Context, p *process.Process) error {
		if _, err := first.Watch(ctx, p); err != nil {
			return err
		}
		return quiet(ctx, p)
	})
	if err != nil {
		return err
	}
	before, err := g.broker.End(ctx, i.Topic("baseline"))
	if err != nil {
		return err
	}
	o, onDisk, err := judge(ctx, i)
	if err != nil {
		return err
	}
	written, err := g.broker.WrittenSince(ctx, i.Topic("baseline"), before)
	if err != nil {
		return err
	}
	disk, err := folderSize(i.State)
	if err != nil {
		return err
	}
	n := float64(in.raw.SignIns)
	if wrong := in.check(o.Alerts); wrong != "" {
		g.wrong = append(g.wrong, fmt.Sprintf("%+v: %s", s, wrong))
	}
	c.took(o, in.raw.SignIns)
	c.profile = history.Size(in.templates)
	c.disk = append(c.disk, float64(disk)/1e6)
	c.amplification = append(c.amplification, float64(onDisk)/float64(written.Bytes))
	c.restoring = append(c.restoring, float64(restoring)/(c.profile*float64(in.copies*len(in.templates))))
	c.profiles = append(c.profiles, float64(written.Records)/n)
	c.baseline = append(c.baseline, float64(written.Stored)/n)
	c.brokerEach = append(c.brokerEach, 1e6*o.BrokerCPU.Seconds()/n)
	c.restored = append(c.restored, restored.Seconds())
	g.logf("%+v: %d sign-ins in %.2f s, %.2f s of CPU, %d MB, %d alerts; %d profiles of %.1f MB, and %.1f MB to the disk", s, in.raw.SignIns,
		o.Wall.Seconds(), o.CPU.Seconds(), o.Peak/1e6, len(o.Alerts), written.Records, float64(written.Bytes)/1e6, float64(onDisk)/1e6)
	return errors.Join(g.broker.Delete(ctx, name+"."), os.RemoveAll(i.State))
}

// quiet waits until a process takes next to nothing: what was restored is compacted as far as it will be.
func quiet(ctx context.Context, p *process.Process) error {
	const over, most = time.Second, 100 * time.Millisecond // of CPU: a tenth of a core
	for last := -2 * most; ; {
		u, err := p.Usage()
		if err != nil || u.CPU-last <= most {
			return err
		}
		last = u.CPU
		if err := sleep(ctx, over); err != nil {
			return fmt.Errorf("waiting until %s has nothing to do: %w", p.Name, err)
		}
	}
}

// check says what is wrong about the alerts of a run, if anything is. Those on the first copy are the query's
// rows, each comes once, and all runs over the same input raise the same.
func (in *input) check(alerts map[string]int) string {
	missing, madeUp, doubled := 0, 0, 0
	for id, returned := range in.judged {
		switch alerted := alerts[id] > 0; {
		case returned && !alerted:
			missing++
		case alerted && !returned:
			madeUp++
		}
	}
	for _, times := range alerts {
		doubled += times - 1
	}
	if in.alerts == nil {
		in.alerts = alerts
	}
	if missing+madeUp+doubled == 0 && maps.Equal(alerts, in.alerts) {
		return ""
	}
	return fmt.Sprintf("%d alerts, %d in the first run over the same; %d of the query's rows missing, %d made up, %d doubled",
		len(alerts), len(in.alerts), missing, madeUp, doubled)
}

// folderSize is how many bytes the files in a folder have.
func folderSize(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// report writes the section, two tables a factor.
func (g *growth) report(base setup, factors []factor) {
	rows, alerts := 0, 0
	for _, in := range g.inputs {
		alerts += len(in.alerts)
		for _, returned := range in.judged {
			if returned {
				rows++
			}
		}
	}
	text := fmt.Sprintf("## How cost grows\n\nEach table is of one thing that grows; all others stay at %d users, %d days, %d partitions, %d members, "+
		"%d addresses a user (twenty in an ASN) and nobody hot. %d sign-ins after that history (with 500 addresses %d), with which each user "+
		"comes once an hour on average, from any of his addresses: nearly each is the first of its hour and address and changes a profile. "+
		"That is written once a transaction, however often it changed: few users' less often. "+
		"Medians of %d runs in turn, least and greatest in brackets.\n\n",
		base.users, base.days, base.partitions, base.members, base.networks, g.signIns(base), g.signIns(setup{networks: 500}), g.times) +
		"Write amplification is what a process had the kernel write to the disk, from its start to after its end (ru_oublock), for each byte of the " +
		"profiles that it wrote: Pebble's own figure is not exposed. What it leaves to compact is not in it; beside it is that of the restore, until " +
		"nothing was left to compact. Baseline bytes are those of the batches in the topic, compressed. " +
		"Restored whole is from the start of a process with no state to its /readyz.\n\n" +
		fmt.Sprintf("%d alerts; of the sign-ins that the query judged too, %d are its rows.\n", alerts, rows)
	if g.quick {
		text += "\nA quick run: it shows that everything works. Its figures mean nothing.\n"
	}
	for _, f := range factors {
		var measured, ratios [][]string
		for _, s := range f.setups(base) {
			c, to := g.taken[s], g.taken[base]
			value := report.Figure{float64(*f.of(&s))}.Text(0)
			measured = append(measured, []string{
				value, c.rate.Text(0), c.perCPU.Text(0), c.warmRate.Text(0), c.warmPerCPU.Text(0), c.peak.Text(0), c.disk.Text(1), c.amplification.Text(2), c.restoring.Text(2),
				c.profiles.Text(2), report.Figure{c.profile}.Text(0), c.baseline.Text(0), c.brokerEach.Text(1), c.restored.Text(2),
			})
			ratios = append(ratios, []string{
				value, c.rate.Over(to.rate).Text(2), c.perCPU.Over(to.perCPU).Text(2), c.warmPerCPU.Over(to.warmPerCPU).Text(2), c.peak.Over(to.peak).Text(2),
				c.disk.Over(to.disk).Text(2), c.amplification.Over(to.amplification).Text(2), c.baseline.Over(to.baseline).Text(2), c.brokerEach.Over(to.brokerEach).Text(2),
			})
		}
		text += "\n" + report.Table([]string{
			f.name, "sign-ins/s", "sign-ins/CPU s", "warm: sign-ins/s", "warm: sign-ins/CPU s", "peak RSS, MB", "state on disk, MB", "write amplification", "of the restore",
			"profiles written a sign-in", "bytes a profile", "baseline bytes a sign-in", "broker CPU a sign-in, µs", "restored whole, s",
		}, measured) + "\n" + report.Table([]string{
			f.name + ", ratio to the base", "sign-ins/s", "sign-ins/CPU s", "warm: sign-ins/CPU s", "peak RSS", "state on disk", "write amplification",
			"baseline bytes a sign-in", "broker CPU a sign-in",
		}, ratios)
	}
	g.sections = append(g.sections, text)
}
