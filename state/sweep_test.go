package state

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

// The same sign-ins go to a partition that is swept at random moments and to one that never
// is: what they answer is the same, at every sign-in and after every rollback.
func TestWhenASweepRunsCannotBeSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := genLimits.Draw(t, "limits")
		s := openMem(t, vfs.NewMem(), l)
		defer func() { must(t, s.Close()) }()
		swept, kept := lease(t, s, 1), lease(t, s, 2)
		both := []*Partition{swept, kept}
		var now, committed int32
		genUser := rapid.IntRange(0, 5)
		t.Repeat(map[string]func(*rapid.T){
			"sign-in": func(t *rapid.T) {
				user := fmt.Sprint("user", genUser.Draw(t, "user"))
				hour := now - rapid.Int32Range(-3, int32(2*l.span())).Draw(t, "behind")
				now = max(now, hour)
				ip, asn := fmt.Sprint("ip", rapid.IntRange(0, 3).Draw(t, "ip")), fmt.Sprint("asn", rapid.IntRange(0, 1).Draw(t, "asn"))
				id := alertID(rapid.IntRange(0, 3).Draw(t, "id"))
				var said [2]string
				for i, p := range both {
					profile, err := p.ProfileAt(user, now)
					must(t, err)
					said[i] = fmt.Sprint(answers(profile, -10_000, 10_000), profile.Late(hour), profile.Alerted(id))
					profile.Remember(id, hour)
					profile.See(ip, asn, hour)
				}
				if said[0] != said[1] {
					t.Fatalf("%s at %d, now %d: swept %s, not swept %s", user, hour, now, said[0], said[1])
				}
			},
			"time passes": func(t *rapid.T) { now += rapid.Int32Range(1, int32(2*l.span())).Draw(t, "hours") },
			"sweep": func(t *rapid.T) {
				_, err := swept.Sweep(now, rapid.IntRange(1, 4).Draw(t, "most"))
				must(t, err)
			},
			"commit": func(t *rapid.T) {
				for _, p := range both {
					for range p.Changes() {
					}
					must(t, p.Commit(Checkpoint{}))
				}
				committed = now
			},
			"rollback": func(t *rapid.T) {
				for _, p := range both {
					p.Rollback()
				}
				now = committed
			},
		})
	})
}

func TestASweepLeavesNothingOfWhoStayedAway(t *testing.T) {
	l := &limits{window: 335, lateness: 48, maxIPs: 5, maxASNs: 5}
	s := openMem(t, vfs.NewMem(), l)
	defer func() { must(t, s.Close()) }()
	p := lease(t, s, 7)
	const users = 1000
	for u := range users {
		profile(t, p, fmt.Sprintf("user%04d", u)).See("192.0.2.1", "64500", int32(u%2)*10)
	}
	must(t, p.Commit(Checkpoint{Offset: users}))
	sweep := func(now int32) (deleted int) {
		_, err := p.Sweep(now, 90)
		must(t, err)
		p.Rollback() // which takes back what that has deleted
		for ended := false; !ended; {
			ended, err = p.Sweep(now, 90)
			must(t, err)
			for _, value := range p.Changes() {
				if value != nil {
					t.Error("a sweep wrote a profile")
				}
				deleted++
			}
			must(t, p.Commit(Checkpoint{Offset: users}))
		}
		return deleted
	}
	for _, step := range []struct {
		now     int32
		deleted int
	}{{383, 0}, {384, users / 2}, {384, 0}, {393, 0}, {394, users / 2}} {
		if got := sweep(step.now); got != step.deleted {
			t.Errorf("at hour %d %d users were deleted, want %d", step.now, got, step.deleted)
		}
	}
	if left := keysOfUsers(t, s); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// Such a profile would never be swept: it has no newest hour.
func TestNothingIsWrittenOfAUserWhoIsAskedForAndTaughtNothingAfterHisTime(t *testing.T) {
	s := openMem(t, vfs.NewMem(), narrow)
	defer func() { must(t, s.Close()) }()
	p := lease(t, s, 7)
	for _, user := range []string{"swept", "asked"} {
		profile(t, p, user).See("192.0.2.1", "64500", 1000)
		must(t, p.Commit(Checkpoint{Offset: 1}))
		if user == "swept" {
			_, err := p.Sweep(2000, 10)
			must(t, err)
		}
		if got, err := p.ProfileAt(user, 2000); err != nil || got.seen() {
			t.Fatal(user, err, "is known")
		}
		for user, value := range p.Changes() {
			if value != nil {
				t.Errorf("of %s %x is written", user, value)
			}
		}
		must(t, p.Commit(Checkpoint{Offset: 2}))
		if left := keysOfUsers(t, s); len(left) > 0 {
			t.Errorf("%s: %q are left", user, left)
		}
	}
}

// keysOfUsers returns the keys of all profiles that Pebble holds.
func keysOfUsers(t tb, s *Store) (keys []string) {
	t.Helper()
	must(t, s.use(func(db *pebble.DB) error {
		iter, err := db.NewIter(nil)
		if err != nil {
			return err
		}
		for ok := iter.First(); ok; ok = iter.Next() {
			if iter.Key()[4] == kindProfile {
				keys = append(keys, string(iter.Key()))
			}
		}
		return iter.Close()
	}))
	return keys
}
