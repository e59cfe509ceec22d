// Package fault names the steps between which a process can die, and in a build with the tag
// `faults` kills it there, or stops it for as long as nobody has it go on. It owns the list of the steps and nothing else; in every other
// build Pass does nothing and costs nothing. It must know nothing of ours: the stages call it.
//
// The fault suite (cmd/faults) builds prtwatch with the tag, and arms one step by the
// environment variable that Env names.
package fault

// Point is a step that has just been done when Pass is called with it.
type Point string

// The steps, in the order in which a process comes by.
const (
	SplitProduced  Point = "split-produced"  // a message's records are with the producer
	SplitLanded    Point = "split-landed"    // records are acknowledged, their input offsets not committed
	SplitCommitted Point = "split-committed" // input offsets are committed

	RestoreDropped Point = "restore-dropped" // a partition's range is dropped, to be restored whole
	RestoreMoved   Point = "restore-moved"   // some of the baseline partition is in Pebble's batch
	RestoreDone    Point = "restore-done"    // the checkpoint is at the end that was captured

	DetectJudged    Point = "detect-judged"    // a transaction's sign-ins are judged, nothing is written
	DetectProducing Point = "detect-producing" // its records are with the producer
	DetectProduced  Point = "detect-produced"  // they are acknowledged
	DetectOffsets   Point = "detect-offsets"   // its offsets are added, its end not asked for
	DetectEnding    Point = "detect-ending"    // its end is asked for and not answered
	DetectCommitted Point = "detect-committed" // it is committed, nothing is in Pebble
	DetectKeeping   Point = "detect-keeping"   // one of its partitions is in Pebble
	DetectKept      Point = "detect-kept"      // all are
	DetectFinished  Point = "detect-finished"  // a clean stop has left the group, and not given its partitions back
)

// Points returns all steps.
func Points() []Point {
	return []Point{
		SplitProduced, SplitLanded, SplitCommitted,
		RestoreDropped, RestoreMoved, RestoreDone,
		DetectJudged, DetectProducing, DetectProduced, DetectOffsets, DetectEnding,
		DetectCommitted, DetectKeeping, DetectKept, DetectFinished,
	}
}

// Env names the environment variable that arms a step: `NAME:N` kills the process (SIGKILL)
// when it has done the step for the N-th time, `NAME:N:stop` stops it (SIGSTOP), `list` prints the
// names and ends it.
const Env = "PRTWATCH_FAULT_POINT"

// Stops is what a step ends in that stops the process instead of killing it.
const Stops = ":stop"
