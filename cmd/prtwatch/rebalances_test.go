package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// One process stays while another comes and goes, again and again: each time partitions are given up
// and taken back. It takes no more at the end than it did when it had seen some of them, and
// the alerts are the query's rows.
func TestAProcessThatLivesThroughManyRebalancesGrowsNot(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		turns := scaled(4, 200)
		// Each time a message, an hour after the one before and of the last fortnight: who reads while it is written
		// reads in order, and no tick forgets anybody.
		next := time.Now().Add(-time.Duration(turns+1) * time.Hour)
		hour := func() (list []made) {
			for n := range 20 {
				list = append(list, made{
					id: fmt.Sprintf("%d-%d", next.Unix(), n), user: fmt.Sprintf("user%d@example.com", in.random.IntN(20)), at: next.Add(time.Duration(n) * time.Second),
					ip: fmt.Sprintf("198.51.100.%d", in.random.IntN(50)), asn: fmt.Sprint(64496 + in.random.IntN(8)), fails: in.random.IntN(3) == 0,
				})
			}
			next = next.Add(time.Hour)
			return list
		}
		stays, dir := in.start(t.TempDir()), t.TempDir()
		in.settled(1)
		took := func() (goroutines, memory float64) {
			return stays.metric("go_goroutines"), stays.metric("process_resident_memory_bytes") / (1 << 20)
		}
		var goroutines, memory float64
		for turn := range turns {
			list := hour()
			in.write(list, len(list))
			comes := in.start(dir)
			in.settled(2)
			in.done()
			comes.stop()
			in.settled(1)
			if turn == turns/4 {
				goroutines, memory = took()
			}
		}
		in.done()
		waitFor(t, "as few goroutines as there were", func() bool { n, _ := took(); return n <= goroutines+5 })
		after, most := took()
		t.Logf("%d times: %v goroutines and %.0f MiB, then %v and %.0f MiB", turns, goroutines, memory, after, most)
		if most > memory*5/4+32 && !raceDetected() {
			t.Errorf("it took %.0f MiB after %d rebalances, and %.0f MiB after a quarter of them", most, turns, memory)
		}
		stays.stop()
		in.wantTheQuerysRows()
	})
}
