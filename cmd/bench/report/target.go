package report

// Target is what a figure should come to.
type Target struct {
	Name    string
	Unit    string
	Digits  int
	AtLeast float64 // what it must come to
	Aim     float64 // what it should come to
	Above   bool    // more is better; else less is
}

// Verdict says how a figure compares with its target.
type Verdict string

// The verdicts.
const (
	Missed Verdict = "missed"
	Met    Verdict = "met"
	Aimed  Verdict = "aim met"
)

// Judge compares a value with the target. Exactly what is asked for is enough.
func (t Target) Judge(value float64) Verdict {
	reaches := func(want float64) bool {
		if t.Above {
			return value >= want
		}
		return value <= want
	}
	switch {
	case reaches(t.Aim):
		return Aimed
	case reaches(t.AtLeast):
		return Met
	}
	return Missed // NaN too
}

// Result is a figure and its target.
type Result struct {
	Target
	Value Figure
}

// Targets is the table of results.
func Targets(results []Result) string {
	var rows [][]string
	for _, r := range results {
		unit := func(x float64) string {
			text := number(x, r.Digits)
			if r.Unit != "" {
				text += " " + r.Unit
			}
			return text
		}
		measured := r.Value.Text(r.Digits)
		if r.Unit != "" {
			measured += " " + r.Unit
		}
		rows = append(rows, []string{r.Name, measured, unit(r.AtLeast), unit(r.Aim), string(r.Judge(r.Value.Median()))})
	}
	return Table([]string{"what", "measured", "at least", "aim", "verdict"}, rows)
}

// The targets, of one run on two cores with exactly once on.
var (
	PerCPU     = Target{Name: "sign-ins per CPU second against Kafka Streams", Unit: "x", Digits: 1, AtLeast: 8, Aim: 12, Above: true}
	WarmPerCPU = Target{Name: "the same without the first quarter of the work, when Java has compiled", Unit: "x", Digits: 1, AtLeast: 8, Aim: 12, Above: true}
	Rate       = Target{Name: "rate from raw topic to committed alerts, against the no-op consumer", Digits: 2, AtLeast: 0.4, Aim: 0.6, Above: true}
	Peak       = Target{Name: "peak RSS at that rate, small tenant", Unit: "MB", AtLeast: 400, Aim: 250}

	// The names of these have the rate.
	AgeMedian = Target{Name: "arrival to alert at %d sign-ins/s, p50", Unit: "ms", AtLeast: 60, Aim: 25}
	Age99     = Target{Name: "arrival to alert at %d sign-ins/s, p99", Unit: "ms", AtLeast: 150, Aim: 50}
	AgeMost   = Target{Name: "arrival to alert at %d sign-ins/s, max", Unit: "ms", AtLeast: 1000, Aim: 250}

	MillionPeak    = Target{Name: "peak RSS with a million users of 14 days in the state", Unit: "MB", AtLeast: 1074, Aim: 600}
	MillionRate    = Target{Name: "rate with a million users of history against an empty state", Digits: 2, AtLeast: 0.6, Aim: 0.8, Above: true}
	RestoreWhole   = Target{Name: "restore of a million users, whole", Unit: "s", Digits: 1, AtLeast: 6, Aim: 2.5}
	RestoreRestart = Target{Name: "restore of a million users, after a clean restart", Unit: "s", Digits: 2, AtLeast: 1, Aim: 0.2}

	Replay = Target{Name: "replay of a plain file, MB/s against goccy/go-json alone on one core", Digits: 2, AtLeast: 0.6, Aim: 1.2, Above: true}
	Idle   = Target{Name: "CPU of an idle instance with 16 partitions", Unit: "% of a core", Digits: 1, AtLeast: 3, Aim: 1}
)
