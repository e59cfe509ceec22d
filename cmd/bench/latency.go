package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prtwatch/prtwatch/cmd/bench/contender"
	"github.com/prtwatch/prtwatch/cmd/bench/corpus"
	"github.com/prtwatch/prtwatch/cmd/bench/latency"
	"github.com/prtwatch/prtwatch/cmd/bench/report"
)

// readyWithin bounds the wait for an instance, a million profiles to restore included.
const readyWithin = 5 * time.Minute

// rates are the sign-ins a second at which latency is measured.
var rates = []int{1_000, 10_000}

// latency measures the age of alerts in an open loop.
func (b *bench) latency(ctx context.Context) error {
	var rows [][]string
	for _, rate := range rates {
		row, err := b.latencyAt(ctx, rate)
		if err != nil {
			return fmt.Errorf("at %d sign-ins a second: %w", rate, err)
		}
		rows = append(rows, row)
	}
	b.sections = append(b.sections, fmt.Sprintf("## From arrival to alert\n\nAn open loop of %s: an alert's age counts from when its sign-in "+
		"should have been sent to when a reader of committed alerts has it, in ms. Every candidate alerts, far more than in a real tenant.\n\n", b.lasts)+
		report.Table([]string{
			"sign-ins/s", "sign-ins", "alerts", "p50", "p99", "max", "writer late by at most", "prtwatch, cores", "broker, cores", "peak RSS, MB",
		}, rows))
	return nil
}

func (b *bench) latencyAt(ctx context.Context, rate int) (row []string, err error) {
	raw := contender.Raw{Broker: b.broker, Topic: fmt.Sprintf("bench.latency.%d.raw", rate), Dir: b.dir}
	if err := b.broker.Create(ctx, raw.Topic, corpus.Partitions); err != nil {
		return nil, err
	}
	i := b.prtwatch().Instance(raw, fmt.Sprintf("bench.latency.%d", rate))
	if err := i.CreateTopics(ctx); err != nil {
		return nil, err
	}
	p, err := i.Start()
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	waiting, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if _, err := contender.AwaitReady(waiting, p); err != nil {
		return nil, err
	}
	ownBefore, ownErr := p.Usage()
	brokerBefore, brokerErr := b.broker.Usage()
	if err := errors.Join(ownErr, brokerErr); err != nil {
		return nil, err
	}
	r, err := latency.Measure(ctx, latency.Options{
		Brokers: b.broker.Addr, Input: raw.Topic, Alerts: i.Topic("alerts"), Rate: rate, For: b.lasts, Seed: b.seed,
	})
	if err != nil {
		return nil, err
	}
	own, ownErr := p.Usage()
	kafka, brokerErr := b.broker.Usage()
	if err := errors.Join(ownErr, brokerErr, p.Stop(stopLimit)); err != nil {
		return nil, err
	}
	if len(r.Ages) == 0 || r.Unaccountable > 0 {
		b.wrong = append(b.wrong, fmt.Sprintf("latency at %d sign-ins a second: %d alerts, %d that no sign-in explains", rate, len(r.Ages), r.Unaccountable))
	}
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	p50, p99, most := ms(r.Percentile(0.5)), ms(r.Percentile(0.99)), ms(r.Percentile(1))
	for _, t := range []struct {
		target report.Target
		value  float64
	}{{report.AgeMedian, p50}, {report.Age99, p99}, {report.AgeMost, most}} {
		t.target.Name = fmt.Sprintf(t.target.Name, rate)
		b.results = append(b.results, report.Result{Target: t.target, Value: report.Figure{t.value}})
	}
	text := func(x float64, digits int) string { return report.Figure{x}.Text(digits) }
	cores := func(d time.Duration) string { return text(d.Seconds()/r.Took.Seconds(), 2) }
	return []string{
		text(float64(rate), 0), fmt.Sprint(r.SignIns), fmt.Sprint(len(r.Ages)), text(p50, 0), text(p99, 0), text(most, 0), text(ms(r.WorstTardy), 0),
		cores(own.CPU - ownBefore.CPU), cores(kafka.CPU - brokerBefore.CPU), text(float64(own.Peak)/1e6, 0),
	}, nil
}

// stopLimit is how long prtwatch may take to end in order: it promises ten seconds.
const stopLimit = 15 * time.Second
