package state

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

// changesOf counts what the open transaction holds, one profile after the other.
func changesOf(p *Partition) (bytes int) {
	p.settle()
	for _, e := range p.order {
		copied := *e
		copied.weigh()
		bytes += copied.size
	}
	return bytes
}

func TestOpenBytesIsTheSumOfTheChangedProfilesWhateverHappensToThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := openMem(t, vfs.NewMem(), narrow)
		defer func() { must(t, s.Close()) }()
		s.cacheBytes = 2500 // a few profiles
		p := lease(t, s, 3)
		now := int32(1000)
		t.Repeat(map[string]func(*rapid.T){
			"sign-in": func(t *rapid.T) {
				got, err := p.ProfileAt(fmt.Sprint("user", rapid.IntRange(0, 7).Draw(t, "user")), now)
				must(t, err)
				got.See(genText.Draw(t, "ip"), genText.Draw(t, "asn"), now-rapid.Int32Range(0, 20).Draw(t, "behind"))
			},
			"alert": func(t *rapid.T) {
				profile(t, p, fmt.Sprint("user", rapid.IntRange(0, 7).Draw(t, "user"))).Remember(alertID(rapid.IntRange(0, 99).Draw(t, "id")), now)
			},
			"look":        func(t *rapid.T) { profile(t, p, fmt.Sprint("user", rapid.IntRange(0, 7).Draw(t, "user"))) },
			"time passes": func(t *rapid.T) { now += rapid.Int32Range(1, 80).Draw(t, "hours") },
			"sweep": func(t *rapid.T) {
				_, err := p.Sweep(now, 3)
				must(t, err)
			},
			"commit":   func(t *rapid.T) { must(t, p.Commit(Checkpoint{})) },
			"rollback": func(*rapid.T) { p.Rollback() },
			"": func(t *rapid.T) {
				if got, want := p.OpenBytes(), changesOf(p); got != want {
					t.Fatalf("OpenBytes %d, the changes take %d", got, want)
				}
			},
		})
		must(t, p.Commit(Checkpoint{}))
		if got := p.OpenBytes(); got != 0 {
			t.Fatalf("%d bytes are open after a commit", got)
		}
	})
}

// Few records can hold much: it is users of many networks that fill a transaction.
func TestOpenBytesIsAboutTheMemoryThatATransactionTakes(t *testing.T) {
	s := openMem(t, vfs.NewMem(), kql())
	defer func() { must(t, s.Close()) }()
	p := lease(t, s, 3)
	for _, users := range []struct{ count, networks int }{{2000, 1}, {40, 500}} {
		before := heap()
		for u := range users.count {
			for n := range users.networks {
				profile(t, p, fmt.Sprintf("user%d@example.com", u)).See(fmt.Sprintf("2001:db8:%x::1", n), fmt.Sprint(64496+n%16), 490_000)
			}
		}
		taken, encoded := heap()-before, 0
		for _, value := range p.Changes() {
			encoded += len(value)
		}
		t.Logf("%d users of %d networks: OpenBytes %d, heap %d, encoded %d", users.count, users.networks, p.OpenBytes(), taken, encoded)
		if open := p.OpenBytes(); open < taken*2/3 || open > taken*2 || encoded > open {
			t.Errorf("%d users of %d networks take %d bytes, OpenBytes says %d, their encodings %d", users.count, users.networks, taken, open, encoded)
		}
		p.Rollback()
	}
}

// heap is what is in use after everything that can be freed was.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
