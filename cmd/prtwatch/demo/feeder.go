package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/tenant"
)

// feeder plays Azure in the demo: it writes what the made people do to the raw topic, first
// their past at once, then their present as it passes.
type feeder struct {
	people *tenant.Tenant
	begin  time.Time // of the present
	client *kgo.Client
	topic  string
	show   *story
	judged func() int // how many sign-ins the pipeline has judged

	packer tenant.Packer
	newest time.Time
	made   int
	thefts int
	next   time.Time // when the next theft begins
}

// run writes until ctx is done.
func (f *feeder) run(ctx context.Context) error {
	first, err := f.past(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	if !f.awaitJudged(ctx) {
		return nil
	}
	f.show.learned(f.made)
	return f.present(ctx, first)
}

// past writes the history and returns the first sign-in of the present.
func (f *feeder) past(ctx context.Context) (tenant.SignIn, error) {
	f.show.say("past", "%d days of it, so that everybody is known from somewhere.", days)
	for ctx.Err() == nil {
		s, _ := f.people.Next()
		if !s.Time.Before(f.begin) {
			if message := f.packer.Flush(); message != nil {
				f.send(message, f.newest)
			}
			return s, f.client.Flush(ctx)
		}
		f.made++
		if message := f.packer.Add(s.Record); message != nil {
			f.send(message, f.newest)
		}
		f.newest = s.Time
	}
	return tenant.SignIn{}, nil
}

// awaitJudged waits until the pipeline has caught up with the past.
func (f *feeder) awaitJudged(ctx context.Context) bool {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for f.judged() < f.made {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// present writes each sign-in when it is due, and has a token stolen now and then.
func (f *feeder) present(ctx context.Context, s tenant.SignIn) error {
	// The past took its time: what is dated before now is due at once, and goes by itself.
	behind := time.Since(s.Time)
	f.next = s.Time.Add(firstTheft)
	f.show.say("live", "%d sign-ins a second, each in the topic when it happens.", rate)
	said := time.Now()
	for {
		if err := f.plan(s.Time); err != nil {
			return err
		}
		if !sleepUntil(ctx, s.Time.Add(behind)) {
			return nil
		}
		f.made++
		f.show.signIn(s, f.people)
		f.send(tenant.Envelope(nil, s.Record), time.Now())
		if time.Since(said) > 5*time.Second {
			said = time.Now()
			f.show.progress(f.judged())
		}
		s, _ = f.people.Next()
	}
}

// plan has the next token stolen when it is time for it.
func (f *feeder) plan(now time.Time) error {
	if now.Add(time.Second).Before(f.next) {
		return nil
	}
	f.thefts++
	theft := f.people.Plan(f.thefts*7%f.people.Users(), f.next, theftPace)
	number, err := f.people.Steal(theft)
	if err != nil {
		return fmt.Errorf("planning a theft: %w", err)
	}
	f.show.plan(number, theft, f.people.Name(theft.User))
	f.next = f.next.Add(nextTheft)
	return nil
}

func (f *feeder) send(message []byte, at time.Time) {
	f.client.Produce(context.Background(), &kgo.Record{Topic: f.topic, Value: message, Timestamp: at}, nil)
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// judged adds up the sign-ins that the registry says were judged.
func judged(registry *prometheus.Registry) int {
	families, err := registry.Gather()
	if err != nil {
		return 0
	}
	var sum float64
	for _, family := range families {
		if family.GetName() == "prtwatch_signins_judged_total" {
			for _, metric := range family.GetMetric() {
				sum += metric.GetCounter().GetValue()
			}
		}
	}
	return int(sum)
}
