package feeder

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prtwatch/prtwatch/internal/oracle"
)

// Whatever the seed, or the suite shows nothing of what a flood does.
func TestEachUseInAFloodAlerts(t *testing.T) {
	for seed := range uint64(3) {
		f, err := New(Options{Brokers: []string{"127.0.0.1:1"}, Users: 3, Random: rand.New(rand.NewPCG(seed, 0)), Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		q, err := oracle.New(oracle.Options{})
		if err != nil {
			t.Fatal(err)
		}
		flooded := make(map[string]int) // by hour
		hours := make(map[string]string)
		for ; f.More(); f.advance() {
			if err := q.Add(f.next.Record); err != nil {
				t.Fatal(err)
			}
			hours[f.next.ID] = ceil(f.next.Time).String()
		}
		for _, row := range q.Rows() {
			flooded[hours[row.ID]]++
		}
		floods := 0
		for _, alerts := range flooded {
			if alerts >= flood {
				floods++
			}
		}
		if floods != 2 {
			t.Errorf("seed %d: in %d hours each use of a token alerts, of 2", seed, floods)
		}
	}
}
