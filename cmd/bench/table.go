package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prtwatch/prtwatch/cmd/bench/contender"
	"github.com/prtwatch/prtwatch/cmd/bench/corpus"
	"github.com/prtwatch/prtwatch/cmd/bench/report"
)

// runFor bounds one run of a contender: what takes longer hangs.
const runFor = 20 * time.Minute

// warmTurns is how many turns warm the broker up.
const warmTurns = 3

// figures are what the runs of one contender took, a value a run.
type figures struct {
	wall, rate, perCPU, warmRate, warmPerCPU, cpu, peak, brokerCPU report.Figure

	alerts, missing, madeUp, doubled int // of the last run
	flowing                          bool
}

// table runs the contenders in turn and compares them.
func (b *bench) table(ctx context.Context) error {
	streams := filepath.Join(b.repository, "deploy", "bench", "streams")
	if err := contender.BuildStreams(ctx, streams); err != nil {
		return err
	}
	if err := b.makeCorpus(ctx); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	contenders := []contender.Contender{
		contender.Noop{Command: []string{self, noopCommand}},
		contender.Streams{Folder: streams, Set: b.streamsSet},
		b.prtwatch(),
	}
	taken := make([]figures, len(contenders))
	if !b.quick {
		// A broker that has just started spends more on compiling itself than on what it is asked: in the second
		// of these turns that is a third of its CPU still.
		b.logf("%d turns that do not count, until the broker is warm", warmTurns)
		for turn := range warmTurns {
			for _, c := range contenders {
				if err := b.one(ctx, c, turn-warmTurns+1, new(figures)); err != nil {
					return err
				}
			}
		}
	}
	for turn := range b.times {
		for i, c := range contenders {
			if err := b.one(ctx, c, turn+1, &taken[i]); err != nil {
				return err
			}
		}
	}
	b.compare(contenders, taken)
	return nil
}

// one runs a contender once.
func (b *bench) one(ctx context.Context, c contender.Contender, turn int, f *figures) error {
	ctx, cancel := context.WithTimeout(ctx, runFor)
	defer cancel()
	o, err := c.Run(ctx, b.raw(), turn)
	if err != nil {
		return fmt.Errorf("%s, run %d: %w", c.Name(), turn, err)
	}
	f.add(o, b.corpus)
	b.logf("%s, run %d: %.2f s, %.2f s of CPU, %d MB, broker %.2f s; %d alerts, %d missing, %d made up, %d doubled", c.Name(), turn,
		o.Wall.Seconds(), o.CPU.Seconds(), o.Peak/1e6, o.BrokerCPU.Seconds(), f.alerts, f.missing, f.madeUp, f.doubled)
	if f.flowing && f.missing+f.madeUp+f.doubled > 0 {
		b.differs(c, turn, f)
	}
	return nil
}

// differs notes alerts that are not the query's rows. Only prtwatch promises them while it catches up: a
// Kafka Streams application reads its partitions unevenly, and has no way to wait.
func (b *bench) differs(c contender.Contender, turn int, f *figures) {
	if _, ours := c.(contender.Prtwatch); ours {
		b.wrong = append(b.wrong, fmt.Sprintf("%s, run %d: %d alerts, %d of the query's rows missing, %d made up, %d doubled",
			c.Name(), turn, f.alerts, f.missing, f.madeUp, f.doubled))
	}
}

// add adds a run over the corpus, whose alerts should be its rows.
func (f *figures) add(o contender.Outcome, c *corpus.Corpus) {
	f.took(o, c.SignIns)
	if f.flowing = o.Flowing; !f.flowing {
		return
	}
	f.alerts, f.missing, f.madeUp, f.doubled = len(o.Alerts), 0, 0, 0
	for id, times := range o.Alerts {
		if !c.Rows[id] {
			f.madeUp++
		}
		f.doubled += times - 1
	}
	for id := range c.Rows {
		if o.Alerts[id] == 0 {
			f.missing++
		}
	}
}

// took adds what a run over so many sign-ins took.
func (f *figures) took(o contender.Outcome, signIns int) {
	n := float64(signIns)
	f.wall = append(f.wall, o.Wall.Seconds())
	f.rate = append(f.rate, n/o.Wall.Seconds())
	f.cpu = append(f.cpu, o.CPU.Seconds())
	f.perCPU = append(f.perCPU, n/o.CPU.Seconds())
	f.peak = append(f.peak, float64(o.Peak)/1e6)
	f.brokerCPU = append(f.brokerCPU, o.BrokerCPU.Seconds())
	if o.Warm.Wall > 0 && o.Warm.CPU > 0 {
		f.warmRate = append(f.warmRate, o.Warm.SignIns/o.Warm.Wall.Seconds())
		f.warmPerCPU = append(f.warmPerCPU, o.Warm.SignIns/o.Warm.CPU.Seconds())
	}
}

// compare writes the section and the targets that are ratios of the table.
func (b *bench) compare(contenders []contender.Contender, taken []figures) {
	noop, streams, ours := taken[0], taken[1], taken[2]
	var rows, ratios [][]string
	for i, c := range contenders {
		f := taken[i]
		alerts := []string{"", ""}
		if f.flowing {
			alerts = []string{fmt.Sprint(f.alerts), fmt.Sprintf("%d / %d / %d", f.missing, f.madeUp, f.doubled)}
		}
		rows = append(rows, append([]string{
			c.Name(), f.wall.Text(2), f.rate.Text(0), f.perCPU.Text(0), f.warmRate.Text(0), f.warmPerCPU.Text(0), f.peak.Text(0), f.brokerCPU.Text(1),
		}, alerts...))
		ratios = append(ratios, []string{
			c.Name(), f.rate.Over(noop.rate).Text(2), f.rate.Over(streams.rate).Text(1), f.perCPU.Over(streams.perCPU).Text(1),
			f.warmPerCPU.Over(streams.warmPerCPU).Text(1), f.peak.Over(streams.peak).Text(2), f.brokerCPU.Over(streams.brokerCPU).Text(2),
		})
	}
	warm := fmt.Sprintf("; %d turns before them warmed the broker up", warmTurns)
	if b.quick {
		warm = ""
	}
	b.sections = append(b.sections, fmt.Sprintf("## From the raw topic to committed alerts\n\nMedians of %d runs in turn, least and greatest in brackets%s.\n\n", b.times, warm)+
		report.Table([]string{
			"", "wall, s", "sign-ins/s", "sign-ins/CPU s", "warm: sign-ins/s", "warm: sign-ins/CPU s", "peak RSS, MB", "broker CPU, s",
			"alerts", "missing / made up / doubled",
		}, rows)+"\n"+
		report.Table([]string{
			"as ratios", "rate to noop's", "rate to streams'", "sign-ins/CPU s to streams'", "warm: the same", "peak RSS to streams'", "broker CPU to streams'",
		}, ratios))
	b.results = append(
		b.results,
		report.Result{Target: report.PerCPU, Value: ours.perCPU.Over(streams.perCPU)},
		report.Result{Target: report.WarmPerCPU, Value: ours.warmPerCPU.Over(streams.warmPerCPU)},
		report.Result{Target: report.Rate, Value: ours.rate.Over(noop.rate)},
		report.Result{Target: report.Peak, Value: ours.peak},
	)
}
