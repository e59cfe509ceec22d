package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prtwatch/prtwatch/cmd/bench/contender"
	"github.com/prtwatch/prtwatch/cmd/bench/corpus"
	"github.com/prtwatch/prtwatch/cmd/bench/report"
)

// How long an instance settles, and is then watched. A tick is written each minute.
const (
	settleFor      = 10 * time.Second
	idleFor        = 2 * time.Minute
	quickIdleFor   = 5 * time.Second
	idlePartitions = 16
)

// idle measures what an instance takes that has nothing to do.
func (b *bench) idle(ctx context.Context) error {
	settle, lasts := settleFor, idleFor
	if b.quick {
		settle, lasts = time.Second, quickIdleFor
	}
	raw := contender.Raw{Broker: b.broker, Topic: "bench.idle.raw", Dir: b.dir}
	if err := b.broker.Create(ctx, raw.Topic, corpus.Partitions); err != nil {
		return err
	}
	w := b.prtwatch()
	w.Set = append([]string{fmt.Sprintf("topics.partitions=%d", idlePartitions)}, w.Set...)
	i := w.Instance(raw, "bench.idle")
	if err := i.CreateTopics(ctx); err != nil {
		return err
	}
	p, err := i.Start()
	if err != nil {
		return err
	}
	defer p.Kill()
	waiting, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if _, err := contender.AwaitReady(waiting, p); err != nil {
		return err
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	ownBefore, ownErr := p.Usage()
	brokerBefore, brokerErr := b.broker.Usage()
	began := time.Now()
	if err := errors.Join(ownErr, brokerErr, sleep(ctx, lasts)); err != nil {
		return err
	}
	own, ownErr := p.Usage()
	kafka, brokerErr := b.broker.Usage()
	if err := errors.Join(ownErr, brokerErr, p.Stop(stopLimit)); err != nil {
		return err
	}
	percent := func(d time.Duration) report.Figure {
		return report.Figure{100 * d.Seconds() / time.Since(began).Seconds()}
	}
	took := percent(own.CPU - ownBefore.CPU)
	b.sections = append(b.sections, fmt.Sprintf("## Nothing to do\n\nAn instance with %d partitions, %s after %s.\n\n", idlePartitions, lasts, settle)+
		report.Table([]string{"", "measured"}, [][]string{
			{"CPU, % of a core", took.Text(2)},
			{"broker CPU meanwhile, % of a core", percent(kafka.CPU - brokerBefore.CPU).Text(2)},
			{"peak RSS, MB", report.Figure{float64(own.Peak) / 1e6}.Text(0)},
		}))
	b.results = append(b.results, report.Result{Target: report.Idle, Value: took})
	return errors.Join(b.broker.Delete(ctx, "bench.idle"), os.RemoveAll(i.State))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
