package failover

import (
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/stream/entra"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// What the stream writes must be read as what it is meant to be, or there would be nothing to wait for.
func TestEachMessageIsASignInOfAFreshUserInTheNextPartition(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 5e6, time.UTC)
	users := make(map[string]bool)
	for n := range 3 * partitions {
		read := 0
		entra.NewDecoder().Decode(message(n, at), func(in *detector.SignIn) {
			read++
			if p := kafka.Partition([]byte(in.UPN), partitions); p != partitionOf(n) || users[in.UPN] {
				t.Errorf("sign-in %d is of %s in partition %d, before: %t", n, in.UPN, p, users[in.UPN])
			}
			users[in.UPN] = true
			if !in.Generated.Equal(at) || in.ResultType != "0" || in.ResourceName != "Microsoft Intune" {
				t.Errorf("%+v", in)
			}
		}, func(u entra.Unreadable) { t.Errorf("%+v", u) })
		if read != 1 {
			t.Errorf("sign-in %d was read %d times", n, read)
		}
	}
}

// Alerts each 160 ms in each partition; one partition stands still from 4 s to 7 s, and then gives all
// that it owes at once.
func TestAnOutageIsSeenWhereAndAsLongAsItWas(t *testing.T) {
	s := &stream{}
	began := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	for n := range 2000 {
		due := began.Add(time.Duration(n) * every)
		seen := due.Add(30 * time.Millisecond)
		if partitionOf(n) == 5 && due.After(at(4)) && due.Before(at(7)) {
			seen = at(7)
		}
		s.mu.due, s.mu.seen = append(s.mu.due, due), append(s.mu.seen, seen)
	}
	o := s.outage(at(3.5), at(8))
	if o.dark != 1 || o.gap < 2900*time.Millisecond || o.gap > 3200*time.Millisecond || o.latest < 2800*time.Millisecond || o.latest > 3*time.Second {
		t.Errorf("the outage: %+v", o)
	}
	if o := s.outage(at(8), at(9.5)); o.dark != 0 || o.gap > 200*time.Millisecond || o.latest > 50*time.Millisecond {
		t.Errorf("after it: %+v", o)
	}
	if err := s.missing(at(9)); err != nil {
		t.Error(err)
	}
	s.mu.seen[100] = time.Time{}
	if s.missing(at(9)) == nil {
		t.Error("an alert is missing, and nothing says so")
	}
}
