package main

import "fmt"

type row struct {
	title  string
	panels []panel
}

type panel struct {
	title   string
	about   string
	unit    string
	stat    bool
	bad     float64 // red from here on
	good    float64 // red below
	queries []query
}

type query struct{ expr, legend string }

// quantiles are the queries for a histogram's median and its 99th percentile.
func quantiles(histogram string) []query {
	var qs []query
	for _, q := range []struct{ of, name string }{{"0.5", "p50"}, {"0.99", "p99"}} {
		qs = append(qs, query{fmt.Sprintf("histogram_quantile(%s, sum by (le) (rate(prtwatch_%s_bucket{#}[$__rate_interval])))", q.of, histogram), q.name})
	}
	return qs
}

// rate is the query for a counter's rate, by labels.
func rate(counter, by string) query {
	legend := "{{" + by + "}}"
	if by == "" {
		return query{fmt.Sprintf("sum(rate(prtwatch_%s{#}[$__rate_interval]))", counter), counter}
	}
	return query{fmt.Sprintf("sum by (%s) (rate(prtwatch_%s{#}[$__rate_interval]))", by, counter), legend}
}

// named is a query under a legend of its own.
func named(legend string, q query) query { return query{q.expr, legend} }

// each is the query for a gauge of each instance.
func each(gauge string) query { return query{"prtwatch_" + gauge + "{#}", "{{instance}}"} }

// ratio is the query for the share that hits have among hits and misses.
func ratio(hits, misses string) query {
	rate := func(name string) string {
		return "sum by (instance) (rate(prtwatch_" + name + "{#}[$__rate_interval]))"
	}
	return query{fmt.Sprintf("%s / (%s + %s)", rate(hits), rate(hits), rate(misses)), "{{instance}}"}
}

var rows = []row{
	{"At a glance", []panel{
		{title: "Instances up", stat: true, good: 1, queries: []query{{`sum(up{#})`, ""}}},
		{title: "Ready", about: "How many would answer /readyz with 200.", stat: true, good: 1, queries: []query{{`sum(prtwatch_ready{#})`, ""}}},
		{title: "Splitting", about: "One instance reads the input, the others stand by.", stat: true, good: 1, queries: []query{{`sum(prtwatch_split_active{#})`, ""}}},
		{title: "Partitions judged by nobody", about: "Of the sign-ins topic.", stat: true, bad: 1, queries: []query{{`max(prtwatch_signins_partitions{#}) - sum(prtwatch_detect_partitions{#, state="running"})`, ""}}},
		{title: "Newest sign-in came", about: "How long ago a message with sign-ins came to the input.", unit: "s", stat: true, bad: 1800, queries: []query{
			{`time() - max(prtwatch_split_last_signin_timestamp_seconds{#})`, ""},
		}},
		{title: "Judged within, of 99 in 100", about: "From arrival in the raw topic to the commit.", unit: "s", stat: true, bad: 1, queries: []query{
			{`histogram_quantile(0.99, sum by (le) (rate(prtwatch_signin_age_seconds_bucket{#}[5m])))`, ""},
		}},
		{title: "prtwatch's alerts that fire", about: "Of this installation, or of none that is known. The rules are deploy/prometheus/prtwatch.rules.yml; docs/runbooks says what to do.", stat: true, bad: 1, queries: []query{
			{`count(ALERTS{alertname=~"Prtwatch.*", alertstate="firing", job="$job", namespace=~"$namespace"} or ALERTS{alertname=~"Prtwatch.*", alertstate="firing", job=""}) or vector(0)`, ""},
		}},
		{title: "Sign-ins a second", unit: "short", stat: true, queries: []query{{`sum(rate(prtwatch_signins_judged_total{#}[5m]))`, ""}}},
		{title: "Alerts in this time", stat: true, queries: []query{{`sum(increase(prtwatch_alerts_total{#}[$__range]))`, ""}}},
		{title: "Not split", about: "Messages of the input.", unit: "short", stat: true, queries: []query{{`sum(prtwatch_split_lag_messages{#})`, ""}}},
		{title: "Not judged", about: "Records of the sign-ins topic.", unit: "short", stat: true, queries: []query{{`sum(prtwatch_detect_lag_records{#})`, ""}}},
		{title: "Dead letters in this time", stat: true, bad: 1, queries: []query{{`sum(increase(prtwatch_dead_letters_total{#}[$__range]))`, ""}}},
		{title: "Allowlist current", about: "0: its files are damaged, the old list is in force.", stat: true, good: 1, queries: []query{{`min(prtwatch_allowlist_current{#})`, ""}}},
	}},
	{"Latency by phase", []panel{
		{title: "Azure's own delay", about: "From the sign-in's own time to its arrival in the raw topic.", unit: "s", queries: quantiles("azure_delay_seconds")},
		{title: "Read", about: "Age of a message of the raw topic when it was split.", unit: "s", queries: quantiles("split_message_age_seconds")},
		{title: "Judged", about: "From arrival in the raw topic to the commit of the verdict.", unit: "s", queries: quantiles("signin_age_seconds")},
		{title: "Alerted", about: "The same, of the sign-ins that alert.", unit: "s", queries: quantiles("alert_age_seconds")},
		{title: "A transaction takes", about: "From the first produce to the broker's answer.", unit: "s", queries: quantiles("transaction_seconds")},
		{title: "Waiting for partitions of the input", about: "Share of the time in which nothing was split because a partition with more to come was waited for.", unit: "percentunit", queries: []query{
			named("waiting", rate("split_merge_wait_seconds_total", "")), named("in vain, a second", rate("split_merge_waits_total", "")),
		}},
	}},
	{"Lag", []panel{
		{title: "Not split", about: "Messages of the input.", unit: "short", queries: []query{{`sum by (topic, partition) (prtwatch_split_lag_messages{#})`, "{{topic}} {{partition}}"}}},
		{title: "Not judged", about: "Records of the sign-ins topic, by partition.", unit: "short", queries: []query{{`sum by (partition) (prtwatch_detect_lag_records{#})`, "{{partition}}"}}},
		{title: "Age of these figures", about: "An old figure says nothing. Each partition has a tick a minute.", unit: "s", queries: []query{
			{`max by (instance) (prtwatch_detect_lag_age_seconds{#})`, "{{instance}}, not judged"}, {`max by (instance) (prtwatch_split_lag_age_seconds{#})`, "{{instance}}, not split"},
		}},
		{title: "Sign-ins a second", unit: "short", queries: []query{
			named("split", rate("split_sign_ins_total", "")), named("judged", rate("signins_judged_total", "")), named("of other categories", rate("split_skipped_total", "")),
		}},
		{title: "Input", unit: "Bps", queries: []query{named("split", rate("split_bytes_total", ""))}},
		{title: "Newest sign-in came", about: "How long ago a message with sign-ins came to the input. It grows when Azure falls silent.", unit: "s", queries: []query{
			{`time() - max(prtwatch_split_last_signin_timestamp_seconds{#})`, "newest"},
		}},
	}},
	{"Alerts", []panel{
		{title: "Alerts by reason", about: "A second.", unit: "short", queries: []query{rate("alerts_total", "reason")}},
		{title: "Sign-ins by what decided", about: "A second.", unit: "short", queries: []query{rate("signins_judged_total", "outcome")}},
		{title: "Sign-ins that are not as usual", about: "A second: later than the state is complete for, dated in the future, or split again after a crash.", unit: "short", queries: []query{
			named("late", rate("signins_late_total", "")), named("clamped", rate("signins_clamped_total", "")), named("split again", rate("signins_split_again_total", "")),
		}},
		{title: "Unreadable", about: "Records a second, by reason.", unit: "short", queries: []query{
			rate("split_unreadable_total", "reason"), named("in the sign-ins topic", rate("signins_unreadable_total", "")),
		}},
		{title: "Dead letters", about: "A second, by stage.", unit: "short", queries: []query{rate("dead_letters_total", "stage")}},
		{title: "Allowlist", about: "Ranges in force, and how often the files were read again.", unit: "short", queries: []query{
			each("allowlist_ranges"),
			{`sum by (result) (increase(prtwatch_allowlist_reloads_total{#}[$__rate_interval]))`, "{{result}}"},
			{`(time() - prtwatch_allowlist_timestamp_seconds{#}) / 3600`, "{{instance}}, hours old"},
		}},
	}},
	{"Group and transactions", []panel{
		{title: "Transactions", about: "A second, by how they ended.", unit: "short", queries: []query{rate("transactions_total", "result")}},
		{title: "Transactions that were not committed", about: "A second, by cause.", unit: "short", queries: []query{rate("transaction_aborts_total", "cause")}},
		{title: "Partitions", about: "By what becomes of them.", unit: "short", queries: []query{{`sum by (state) (prtwatch_detect_partitions{#})`, "{{state}}"}}},
		{title: "Rebalances", about: "Generations of its group that a member has seen.", unit: "short", queries: []query{
			{`sum by (instance) (increase(prtwatch_detect_rebalances_total{#}[$__rate_interval]))`, "{{instance}}"}, {`sum by (instance) (increase(prtwatch_split_rebalances_total{#}[$__rate_interval]))`, "{{instance}}, splitter"},
		}},
		{title: "A rebalance takes", unit: "s", queries: quantiles("detect_rebalance_seconds")},
		{title: "Errors", about: "A second.", unit: "short", queries: []query{
			named("reading sign-ins", rate("detect_fetch_errors_total", "")), named("commits of the splitter", rate("split_commit_errors_total", "")),
			named("commits at least once", rate("detect_commit_errors_total", "")), named("profiles mended", rate("baseline_mended_total", "")),
		}},
		{title: "Connections that failed", about: "A second, by cluster.", unit: "short", queries: []query{{`sum by (cluster, instance) (rate(prtwatch_kafka_connect_errors_total{#}[$__rate_interval])) or vector(0)`, "{{cluster}} {{instance}}"}}},
		{title: "Read from brokers", unit: "Bps", queries: []query{rate("kafka_read_bytes_total", "cluster")}},
		{title: "Written to brokers", unit: "Bps", queries: []query{rate("kafka_write_bytes_total", "cluster")}},
	}},
	{"Restore", []panel{
		{title: "To be restored", about: "Offsets of the baseline topic that are before the restores.", unit: "short", queries: []query{{`sum by (partition) (prtwatch_restore_records_remaining{#}) or vector(0)`, "{{partition}}"}}},
		{title: "Restored", about: "Records a second.", unit: "short", queries: []query{{`sum by (instance) (rate(prtwatch_restore_records_total{#}[$__rate_interval]))`, "{{instance}}"}}},
		{title: "A restore takes", about: "From a partition's assignment.", unit: "s", queries: quantiles("restore_seconds")},
	}},
	{"State", []panel{
		{title: "Profiles found decoded", unit: "percentunit", queries: []query{ratio("state_cache_hits_total", "state_cache_misses_total")}},
		{title: "Blocks found in Pebble's cache", unit: "percentunit", queries: []query{ratio("state_block_cache_hits_total", "state_block_cache_misses_total")}},
		{title: "Memory", unit: "bytes", queries: []query{
			{`sum(prtwatch_state_cache_bytes{#})`, "profiles, decoded"}, {`sum(prtwatch_state_cache_limit_bytes{#})`, "their limit"}, {`sum(prtwatch_state_memtable_bytes{#})`, "memtables"},
		}},
		{title: "Disk", unit: "bytes", queries: []query{each("state_disk_bytes"), {`sum(prtwatch_state_compaction_debt_bytes{#})`, "to be compacted"}}},
		{title: "Written to the disk", unit: "Bps", queries: []query{{`sum by (instance) (rate(prtwatch_state_written_bytes_total{#}[$__rate_interval]))`, "{{instance}}"}}},
		{title: "Writes that waited for the disk", about: "Share of the time.", unit: "percentunit", queries: []query{
			{`sum by (instance) (rate(prtwatch_state_write_stall_seconds_total{#}[$__rate_interval]))`, "{{instance}}"}, named("stalls a second", rate("state_write_stalls_total", "")),
		}},
		{title: "Flushes and compactions", about: "A second.", unit: "short", queries: []query{
			named("flushes", rate("state_flushes_total", "")), named("compactions", rate("state_compactions_total", "")), {`sum(prtwatch_state_compactions_running{#})`, "running"},
		}},
		{title: "Read amplification", about: "Tables that a look-up may have to ask.", unit: "short", queries: []query{each("state_read_amplification")}},
		{title: "Profiles", about: "Entries of Pebble's tables, with former versions until they are compacted; those held decoded.", unit: "short", queries: []query{
			{`sum(prtwatch_state_entries{#})`, "in tables"}, {`sum(prtwatch_state_cached_profiles{#})`, "decoded"},
		}},
		{title: "Left for want of room", about: "A second.", unit: "short", queries: []query{
			named("profiles, from the cache", rate("state_cache_evictions_total", "")), named("networks, beyond max_ips and max_asns", rate("state_networks_evicted_total", "")),
		}},
		{title: "Partitions leased", unit: "short", queries: []query{each("state_partitions_leased")}},
	}},
	{"Process", []panel{
		{title: "CPU", about: "Cores.", unit: "short", queries: []query{{`rate(process_cpu_seconds_total{#}[$__rate_interval])`, "{{instance}}"}}},
		{title: "Memory", unit: "bytes", queries: []query{{`process_resident_memory_bytes{#}`, "{{instance}}"}, {`go_memstats_heap_inuse_bytes{#}`, "{{instance}}, Go's heap"}}},
		{title: "Goroutines and files", unit: "short", queries: []query{{`go_goroutines{#}`, "{{instance}}, goroutines"}, {`process_open_fds{#}`, "{{instance}}, files"}}},
		{title: "Up since", unit: "s", queries: []query{{`time() - process_start_time_seconds{#}`, "{{instance}}"}}},
		{title: "The one before was not closed", about: "1: killed, crashed, or the machine was lost.", unit: "short", queries: []query{each("previous_shutdown_unclean")}},
		{title: "Versions", unit: "short", queries: []query{{`count by (version, commit) (prtwatch_build_info{#})`, "{{version}} {{commit}}"}}},
	}},
}
