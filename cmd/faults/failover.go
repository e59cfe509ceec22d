package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/prtwatch/prtwatch/cmd/faults/failover"
)

// failoverOptions are the part of the command line that --failover reads.
type failoverOptions struct {
	wanted  bool
	times   int
	brokers int
	drills  []string
	set     []string
}

func (o *failoverOptions) flags(flags *flag.FlagSet) {
	flags.BoolVar(&o.wanted, "failover", false, "measure for how long alerts stop flowing, and inject no faults: some seven minutes a protocol")
	flags.IntVar(&o.times, "times", 5, "with --failover: how often each drill is done")
	flags.IntVar(&o.brokers, "brokers", 3, "with --failover: how many brokers there are")
	flags.Func("drill", "with --failover: only drills whose names begin so (repeatable)", func(name string) error {
		o.drills = append(o.drills, name)
		return nil
	})
	flags.Func("set", "with --failover: key=value of prtwatch's configuration (repeatable); without, what is shipped is measured", func(kv string) error {
		o.set = append(o.set, kv)
		return nil
	})
}

// measure measures with each group protocol that is wanted.
func (s *suite) measure(ctx context.Context) error {
	for _, protocol := range []string{"classic", "consumer"} {
		if s.protocol != protocol && s.protocol != "both" {
			continue
		}
		s.logf("measuring failover with protocol %s in %s", protocol, s.dir)
		result, err := failover.Run(ctx, failover.Options{
			Protocol: protocol, Times: s.failover.times, Brokers: s.failover.brokers, Drills: s.failover.drills, Set: s.failover.set,
			Prtwatch: s.prtwatch, Dir: filepath.Join(s.dir, "failover-"+protocol), Keep: s.keep, Log: s.logf,
		})
		s.outages = append(s.outages, result)
		if err != nil {
			return fmt.Errorf("measuring failover with protocol %s: %w", protocol, err)
		}
	}
	return nil
}

// failoverMarkdown is the report of measure.
func (s *suite) failoverMarkdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Failover\n\n`go run ./cmd/faults --failover --times %d --brokers %d --protocol %s`",
		s.failover.times, s.failover.brokers, s.protocol)
	if len(s.failover.set) > 0 {
		fmt.Fprintf(&b, " with `%s`", strings.Join(s.failover.set, " "))
	}
	fmt.Fprintf(&b, "\n\n%s, %d cores, %s; Apache Kafka; %s.\n\n",
		runtime.GOOS+"/"+runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Since(s.began).Round(time.Second))
	if s.failed != nil {
		fmt.Fprintf(&b, "The measuring itself failed: %v\n\n", s.failed)
	}
	for _, r := range s.outages {
		b.WriteString(r.Markdown())
	}
	return b.String()
}
