package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bad reports whether something was wrong: an alert that was lost or came twice, a process that
// ended by itself or not in order, or alerts that came later than any timeout of ours explains. Whether
// they came soon enough is for the reader to judge.
func (r Result) Bad() bool { return r.Lost+r.Doubled+len(r.Findings) > 0 }

// Markdown is the result as a section of a report.
func (r Result) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Group protocol %s\n\n", r.Protocol)
	fmt.Fprintf(&b, "%d instances, %d brokers; a sign-in each %s that alerts, %d in all, %d lost, %d doubled; %s.\n\n",
		instances, r.Brokers, every, r.SignIns, r.Lost, r.Doubled, r.Took.Round(time.Second))
	fmt.Fprintf(&b, "| what happens | times | partitions dark | longest gap: median | max | latest alert: median | max |\n")
	fmt.Fprintf(&b, "|---|---:|---:|---:|---:|---:|---:|\n")
	for _, f := range r.Figures {
		if len(f.Gaps) == 0 {
			continue
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %s | %s | %s | %s |\n", f.Drill, len(f.Gaps), median(f.Dark),
			seconds(median(f.Gaps)), seconds(slices.Max(f.Gaps)), seconds(median(f.Latest)), seconds(slices.Max(f.Latest)))
	}
	fmt.Fprintln(&b)
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "- %s\n", strings.ReplaceAll(f, "\n", "\n  "))
	}
	return b.String()
}

func median[T time.Duration | int](of []T) T {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
