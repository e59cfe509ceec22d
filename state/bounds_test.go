package state

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// many is how often a flood repeats itself: a million times in a long test.
func many() int {
	if long() {
		return 1_000_000
	}
	return 20_000
}

func TestAUserOfManyNetworksTakesNoMoreThanOneOfTheMost(t *testing.T) {
	s := openMem(t, vfs.NewMem(), kql())
	defer func() { must(t, s.Close()) }()
	p := lease(t, s, 3)
	largest, opened := 0, 0
	for i := range many() {
		hour := int32(490_000 + i/1000)
		ip := fmt.Sprintf("2001:db8:%x:%x::", i>>16, i&0xffff)
		profile(t, p, "flood").See(ip, fmt.Sprint("64496/", i), hour)
		opened = max(opened, p.OpenBytes())
		if i%500 == 499 {
			for _, value := range p.Changes() {
				largest = max(largest, len(value))
			}
			must(t, p.Commit(Checkpoint{Offset: int64(i)}))
		}
	}
	got := profile(t, p, "flood")
	if ips, asns, _, _ := got.Counts(0, 500_000); ips != s.limits.maxIPs || asns != s.limits.maxASNs {
		t.Errorf("%d addresses and %d ASNs are kept", ips, asns)
	}
	if want := s.limits.largestProfile(); largest > want || want > MaxProfileBytes || opened > 4*want {
		t.Errorf("%d bytes encoded, %d in memory; %d are the bound", largest, opened, want)
	}
	if evicted, want := s.Metrics().NetworksEvicted, uint64(2*many()-s.limits.maxIPs-s.limits.maxASNs); evicted != want {
		t.Errorf("%d evictions are counted, want %d", evicted, want)
	}
	t.Logf("%d networks: %d bytes encoded, %d in memory", many(), largest, opened)
}

// compacted returns how many keys Pebble holds and how many bytes of disk it takes for them.
func compacted(t tb, s *Store) (keys int, disk uint64) {
	t.Helper()
	must(t, s.Flush())
	must(t, s.use(func(db *pebble.DB) error {
		return db.Compact(context.Background(), []byte{0}, []byte{0xff}, false)
	}))
	must(t, s.use(func(db *pebble.DB) error {
		for _, level := range db.Metrics().Levels {
			disk += uint64(level.TablesSize)
		}
		return nil
	}))
	return len(keysOfUsers(t, s)), disk
}

// sweepAll sweeps until the partition's end, and commits what each slice deleted.
func sweepAll(t tb, p *Partition, now int32) {
	t.Helper()
	for ended := false; !ended; {
		var err error
		ended, err = p.Sweep(now, 500)
		must(t, err)
		must(t, p.Commit(Checkpoint{}))
	}
}

func TestOfUsersWhoCameOnceNothingIsLeftAfterTheirTime(t *testing.T) {
	s := openMem(t, vfs.NewMem(), kql())
	defer func() { must(t, s.Close()) }()
	p := lease(t, s, 3)
	for i := range many() {
		profile(t, p, fmt.Sprintf("once%d@example.com", i)).See("192.0.2.1", "64500", 490_000)
		if i%1000 == 999 {
			must(t, p.Commit(Checkpoint{}))
		}
	}
	must(t, p.Commit(Checkpoint{}))
	full, disk := compacted(t, s)
	sweepAll(t, p, int32(490_000+s.limits.span()+1))
	left, after := compacted(t, s)
	t.Logf("%d keys on %d bytes, %d on %d after the sweep", full, disk, left, after)
	if full != many() || left != 0 || after > 2000 {
		t.Errorf("%d keys on %d bytes became %d on %d", full, disk, left, after)
	}
}

// A month goes by hour by hour: some stay, and each hour others come who are never seen again.
func TestAMonthOfUsersWhoComeAndGoTakesNoMoreThanTheWindow(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	l := kql()
	s := openMem(t, vfs.NewMem(), l)
	defer func() { must(t, s.Close()) }()
	p := lease(t, s, 3)
	newcomers := max(many()/20_000, 2)
	const residents, months = 50, 2
	var steadyKeys int
	var steadyDisk uint64
	for hour := range int32(months * 30 * 24) {
		see := func(user string) {
			got, err := p.ProfileAt(user, hour)
			must(t, err)
			got.See(fmt.Sprint("192.0.2.", rng.IntN(20)), "64500", hour)
		}
		for range 5 {
			see(fmt.Sprint("resident", rng.IntN(residents)))
		}
		for n := range newcomers {
			see(string(binary.BigEndian.AppendUint32([]byte("newcomer"), uint32(hour)*1000+uint32(n))))
		}
		must(t, p.Commit(Checkpoint{}))
		if hour%6 == 0 {
			sweepAll(t, p, hour)
		}
		if hour%240 != 239 {
			continue
		}
		keys, disk := compacted(t, s)
		t.Logf("day %d: %d keys on %d bytes", hour/24, keys, disk)
		if most := residents + newcomers*(l.span()+7); keys > most {
			t.Errorf("day %d: %d users are held, at most %d came within window, lateness and a sweep", hour/24, keys, most)
		}
		switch {
		case int(hour) < l.span()+240:
		case steadyKeys == 0:
			steadyKeys, steadyDisk = keys, disk
		case keys > steadyKeys*11/10 || disk > steadyDisk*5/4:
			t.Errorf("day %d: %d keys on %d bytes, they were %d on %d", hour/24, keys, disk, steadyKeys, steadyDisk)
		}
	}
}
