package main

import (
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// One process stays while another comes and goes, again and again: each time partitions are given up
// and taken back. It takes no more at the end than it did when it had seen some of them, and
// the alerts are the query's rows.
func TestAProcessThatLivesThroughManyRebalancesGrowsNot(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		const days = 14 // of the last fortnight: no tick may forget anybody
		in.people(tenant.Options{Users: 10, Days: days, PerUserDay: 20, Thefts: 1000, Start: time.Now().Add(-days * 24 * time.Hour)})
		turns := scaled(4, 200)
		stays, dir := in.start(t.TempDir()), t.TempDir()
		in.settled(1)
		took := func() (goroutines, memory float64) {
			return stays.metric("go_goroutines"), stays.metric("process_resident_memory_bytes") / (1 << 20)
		}
		var goroutines, memory float64
		for turn := range turns {
			in.pour(scaled(200, 14)) // of some 2,800
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
