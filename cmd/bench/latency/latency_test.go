package latency

import (
	"fmt"
	"testing"
	"time"
)

// A message is due at the end of the 10 ms whose sign-ins it has, so that none is sent before it
// has happened, and none is older than that when it is sent.
func TestASignInIsDueWithTheMessageThatHasIt(t *testing.T) {
	began := time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)
	l := &loop{start: time.Date(2026, 11, 2, 9, 0, 1, 0, time.UTC), began: began}
	for offset, want := range map[time.Duration]time.Duration{
		0: every, 1: every, every - 1: every, every: 2 * every, 3*every + every/2: 4 * every,
	} {
		if got := l.due(l.start.Add(offset)).Sub(began); got != want {
			t.Errorf("%s: due after %s, not %s", offset, got, want)
		}
	}
}

func TestAgesCountFromWhenSignInsWereDue(t *testing.T) {
	began := time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)
	l := &loop{start: time.Date(2026, 11, 2, 9, 0, 1, 0, time.UTC), began: began, warmUp: time.Second}
	alert := func(offset time.Duration) []byte {
		return fmt.Appendf(nil, `{"time":%q}`, l.start.Add(offset).Format("2006-01-02T15:04:05.0000000Z"))
	}
	now := began.Add(10 * time.Second)
	l.note(alert(5*time.Millisecond), now) // of the warm-up
	l.note(alert(9*time.Second), now)
	l.note(alert(-time.Second), now)   // of before
	l.note(alert(11*time.Second), now) // of a sign-in that is not due yet
	if l.failed.err != nil {
		t.Fatal(l.failed.err)
	}
	r := l.result
	if len(r.Ages) != 1 || r.Ages[0] != time.Second-every || r.Unaccountable != 2 {
		t.Errorf("%+v", r)
	}
	if l.note([]byte("{"), now); l.failed.err == nil {
		t.Error("no error of an alert that is no JSON")
	}
}
