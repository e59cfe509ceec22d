package redrive

// Report is what became of the dead letters that were read.
type Report struct {
	From     int64          // the offset of the first that was asked for
	Before   int64          // offsets of the topic that are before it
	Position int64          // all before it were tried, by this run or one before
	Read     int            // dead letters
	Redriven map[string]int // dead letters of which something was sent (in a dry run: would be), by their reason
	SignIns  int            // that were sent
	// Unreadable are records that cannot be read today either, by today's reason. What can be read beside them was sent.
	Unreadable map[string]int
	Truncated  int            // dead letters that were cut when they were written
	TooOld     int            // sign-ins of which nothing is remembered that could be compared
	Skipped    map[string]int // dead letters that are nothing to judge, or not asked for, by why
}

func newReport() Report {
	return Report{Redriven: map[string]int{}, Unreadable: map[string]int{}, Skipped: map[string]int{}}
}
