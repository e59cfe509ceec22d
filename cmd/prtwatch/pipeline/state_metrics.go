package pipeline

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/prtwatch/prtwatch/state"
)

// stateCollector shows a store's counters to Prometheus: package state knows nothing of it.
type stateCollector struct {
	store   *state.Store
	figures []stateFigure
}

type stateFigure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(state.Metrics) float64
}

func newStateCollector(store *state.Store) *stateCollector {
	c := &stateCollector{store: store}
	add := func(kind prometheus.ValueType, name, help string, of func(state.Metrics) float64) {
		c.figures = append(c.figures, stateFigure{prometheus.NewDesc("prtwatch_state_"+name, help, nil, nil), kind, of})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "cached_profiles", "Profiles that are held decoded.", func(m state.Metrics) float64 { return float64(m.CachedProfiles) })
	add(gauge, "cache_bytes", "Estimated memory of the profiles that are held decoded.", func(m state.Metrics) float64 { return float64(m.CachedBytes) })
	add(gauge, "cache_limit_bytes", "What the profiles that are held decoded may take.", func(m state.Metrics) float64 { return float64(m.CacheLimit) })
	add(counter, "cache_hits_total", "Profiles that were found decoded.", func(m state.Metrics) float64 { return float64(m.Hits) })
	add(counter, "cache_misses_total", "Profiles that Pebble was asked for.", func(m state.Metrics) float64 { return float64(m.Misses) })
	add(counter, "cache_evictions_total", "Profiles that left the cache for want of room.", func(m state.Metrics) float64 { return float64(m.Evictions) })
	add(counter, "networks_evicted_total", "Networks that users lost to max_ips and max_asns.", func(m state.Metrics) float64 { return float64(m.NetworksEvicted) })
	add(gauge, "partitions_leased", "Partitions that are judged or restored here.", func(m state.Metrics) float64 { return float64(m.LeasedPartitions) })
	add(gauge, "disk_bytes", "Pebble's use of the disk.", func(m state.Metrics) float64 { return float64(m.DiskBytes) })
	add(gauge, "memtable_bytes", "What Pebble has not written out yet.", func(m state.Metrics) float64 { return float64(m.MemTableBytes) })
	add(gauge, "entries", "Entries of Pebble's tables: profiles, and former versions until they are compacted.", func(m state.Metrics) float64 { return float64(m.Entries) })
	add(counter, "compactions_total", "Compactions that Pebble has done.", func(m state.Metrics) float64 { return float64(m.Compactions) })
	add(gauge, "compaction_debt_bytes", "What Pebble has yet to compact, as it estimates.", func(m state.Metrics) float64 { return float64(m.CompactionDebt) })
	add(gauge, "compactions_running", "Compactions that go on now.", func(m state.Metrics) float64 { return float64(m.CompactionsActive) })
	add(gauge, "read_amplification", "Tables that a look-up may have to ask.", func(m state.Metrics) float64 { return float64(m.ReadAmplification) })
	add(counter, "write_stalls_total", "Times that Pebble made writers wait for the disk.", func(m state.Metrics) float64 { return float64(m.WriteStalls) })
	add(counter, "write_stall_seconds_total", "Time in which Pebble made writers wait for the disk.", func(m state.Metrics) float64 { return m.WriteStallTime.Seconds() })
	add(counter, "flushes_total", "Times that Pebble wrote memtables out.", func(m state.Metrics) float64 { return float64(m.Flushes) })
	add(counter, "written_bytes_total", "What Pebble wrote to the disk: flushes, compactions, and the tables of restores.", func(m state.Metrics) float64 { return float64(m.WrittenBytes) })
	add(counter, "block_cache_hits_total", "Blocks of tables that Pebble found in memory.", func(m state.Metrics) float64 { return float64(m.BlockCacheHits) })
	add(counter, "block_cache_misses_total", "Blocks of tables that Pebble read from the disk.", func(m state.Metrics) float64 { return float64(m.BlockCacheMisses) })
	c.figures = append(c.figures, stateFigure{
		prometheus.NewDesc("prtwatch_previous_shutdown_unclean", "1 when the process before this one in state.dir did not close it, as after a crash.", nil, nil), gauge,
		func(m state.Metrics) float64 {
			if m.PreviousUnclean {
				return 1
			}
			return 0
		},
	})
	return c
}

// Describe is prometheus.Collector's.
func (c *stateCollector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		out <- f.desc
	}
}

// Collect is prometheus.Collector's.
func (c *stateCollector) Collect(out chan<- prometheus.Metric) {
	m := c.store.Metrics()
	for _, f := range c.figures {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.of(m))
	}
}
