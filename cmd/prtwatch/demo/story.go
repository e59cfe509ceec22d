package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// story tells the demo, a line each event. The feeder and the reader of the alerts tell it
// together.
type story struct {
	out  io.Writer
	bold func(string) string

	mu struct {
		sync.Mutex
		thefts  map[int]tenant.Theft
		stolen  map[string]int       // which theft a sign-in id belongs to
		sent    map[string]time.Time // when a sign-in of the present was written
		past    int                  // alerts of the past
		alerts  int                  // of the present
		used    int                  // sign-ins of thieves
		unseen  int                  // those for a resource that the query does not look at
		caught  int                  // those that alerted
		delays  []time.Duration
		present bool
	}
}

func newStory(out io.Writer, terminal bool) *story {
	s := &story{out: out, bold: func(text string) string { return text }}
	if terminal {
		s.bold = func(text string) string { return "\x1b[1m" + text + "\x1b[0m" }
	}
	s.mu.thefts = make(map[int]tenant.Theft)
	s.mu.stolen = make(map[string]int)
	s.mu.sent = make(map[string]time.Time)
	return s
}

// say writes one line.
func (s *story) say(what, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(what, format, args...)
}

// line writes one line. The caller holds the lock. Whoever reads a demo that cannot be written
// has ended it.
func (s *story) line(what, format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, "%s  %-7s %s\n", time.Now().Format("15:04:05.0"), what, fmt.Sprintf(format, args...))
}

// learned ends the past.
func (s *story) learned(signIns int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.present = true
	s.line("past", "%d sign-ins learned. %d alerts came of it: on the first day nobody is known (reason no_baseline).", signIns, s.mu.past)
}

func (s *story) progress(judged int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line("live", "%d sign-ins judged, %d alerts since the present began.", judged, s.mu.alerts)
}

// plan announces a theft that is about to take place.
func (s *story) plan(number int, theft tenant.Theft, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.thefts[number] = theft
	s.line(s.bold("THEFT"), "A refresh token is copied from the laptop of %s (%s). The thief sits at %s, AS%d, a hosting provider.",
		name, theft.UPN, theft.IP, theft.ASN)
}

// signIn notes a sign-in of the present, and tells those of a thief.
func (s *story) signIn(made tenant.SignIn, people *tenant.Tenant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.sent[made.ID] = time.Now()
	theft, ok := s.mu.thefts[made.Theft]
	if !ok {
		return
	}
	s.mu.used++
	if made.Step == 1 { // tenant.Tenant.Plan
		s.mu.unseen++
	}
	s.mu.stolen[made.ID] = made.Theft
	step := theft.Steps[made.Step-1]
	s.line(fmt.Sprintf("thief %d", made.Step), "He %s. No password, no MFA.", step.What)
}

// alerts reads the alerts topic as a playbook would, and tells each, until ctx is done.
func (s *story) alerts(ctx context.Context, brokers []string, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return fmt.Errorf("making the client that reads alerts: %w", err)
	}
	defer client.Close()
	for ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			var alert detector.Alert
			if err := json.Unmarshal(r.Value, &alert); err == nil {
				s.alert(&alert, r.Value)
			}
		})
	}
	return nil
}

// alert tells an alert, and of the first that a thief set off shows what a playbook gets.
func (s *story) alert(alert *detector.Alert, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent, present := s.mu.sent[alert.SignIn.ID]
	if !present {
		s.mu.past++
		return
	}
	delay := time.Since(sent)
	s.mu.alerts++
	s.mu.delays = append(s.mu.delays, delay)
	_, stolen := s.mu.stolen[alert.SignIn.ID]
	who := "It is a benign one: to the rule, who travels looks like a thief."
	switch {
	case stolen:
		who = "It is the thief."
		s.mu.caught++
	case alert.Reason == detector.NoBaseline:
		who = "It is a benign one: the rule alerts on whoever it has not seen before."
	}
	s.line(s.bold("ALERT"), "%s: %s", alert.Severity, s.bold(alert.Title))
	s.line("", "%d ms after the sign-in was in the topic. %s", delay.Milliseconds(), who)
	if stolen && s.mu.caught == 1 {
		var indented bytes.Buffer
		_ = json.Indent(&indented, value, strings.Repeat(" ", 20), "  ")
		s.line("", "What a playbook reads from prtwatch.alerts:\n%20s%s", "", &indented)
	}
}

// sum ends the story.
func (s *story) sum(judged int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slowest := time.Duration(0)
	if len(s.mu.delays) > 0 {
		slowest = slices.Max(s.mu.delays)
	}
	s.line("end", "%d sign-ins judged. Thieves used a token %d times, %d of them where the query does not look; %d alerted; the slowest alert took %d ms.",
		judged, s.mu.used, s.mu.unseen, s.mu.caught, slowest.Milliseconds())
	s.line("", `Next: README.md, "Against your own Kafka".`)
}
