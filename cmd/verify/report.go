package main

import (
	"fmt"
	"io"
	"strings"
)

// report is what was found. Whatever is wrong has an entry in Examples, under the JSON name
// of its count. What each figure is stands in figures.
type report struct {
	OK bool `json:"ok"`

	Messages int `json:"messages"`
	SignIns  int `json:"sign_ins"`
	Unsplit  int `json:"unsplit"`
	Rows     int `json:"rows"`
	Alerts   int `json:"alerts"`

	Missing   int `json:"missing"`
	Doubled   int `json:"doubled"`
	MadeUp    int `json:"made_up"`
	Altered   int `json:"altered"`
	Repeated  int `json:"repeated"`
	Misplaced int `json:"misplaced"`

	DeadLetters        int `json:"dead_letters"`
	DeadLettersAgain   int `json:"dead_letters_repeated"`
	DeadLettersMissing int `json:"dead_letters_missing"`
	DeadLettersMadeUp  int `json:"dead_letters_made_up"`

	Users         int `json:"users"`
	Profiles      int `json:"profiles"`
	ProfilesWrong int `json:"profiles_wrong"`

	PebblePartitions int `json:"pebble_partitions"`
	PebbleProfiles   int `json:"pebble_profiles"`
	PebbleAhead      int `json:"pebble_ahead"`
	PebbleWrong      int `json:"pebble_wrong"`

	Stuck      int64 `json:"stuck"`
	MarksWrong int   `json:"marks_wrong"`

	Examples map[string][]string `json:"examples"`
	most     int
}

// figure is a count of the report, as people and as programs read it.
type figure struct {
	name string // in JSON
	n    int64
	bad  bool // it must be 0
	what string
}

func (r *report) figures() []figure {
	return []figure{
		{"messages", int64(r.Messages), false, "messages of the input"},
		{"sign_ins", int64(r.SignIns), false, "sign-ins in them"},
		{"unsplit", int64(r.Unsplit), true, "of them not in the sign-ins topic"},
		{"rows", int64(r.Rows), false, "sign-ins that are rows of the query"},
		{"alerts", int64(r.Alerts), false, "alerts"},
		{"missing", int64(r.Missing), true, "rows without an alert"},
		{"doubled", int64(r.Doubled), true, "alerts on a sign-in that has one"},
		{"made_up", int64(r.MadeUp), true, "alerts on what is no row, or that cannot be read"},
		{"altered", int64(r.Altered), true, "alerts that say something else than the input does"},
		{"repeated", int64(r.Repeated), false, "alerts again, byte for byte, as at-least-once allows"},
		{"misplaced", int64(r.Misplaced), true, "records in a wrong partition, with a wrong key or header, or outside of a transaction"},
		{"dead_letters", int64(r.DeadLetters), false, "dead letters"},
		{"dead_letters_repeated", int64(r.DeadLettersAgain), false, "of them again, as the splitter may"},
		{"dead_letters_missing", int64(r.DeadLettersMissing), true, "unreadable records without a dead letter"},
		{"dead_letters_made_up", int64(r.DeadLettersMadeUp), true, "dead letters on what can be read or is not there, or with other bytes or headers"},
		{"users", int64(r.Users), false, "users in the input"},
		{"profiles", int64(r.Profiles), false, "profiles in the baseline topic"},
		{"profiles_wrong", int64(r.ProfilesWrong), true, "profiles that are not what the input taught"},
		{"pebble_partitions", int64(r.PebblePartitions), false, "partitions in the state folders"},
		{"pebble_profiles", int64(r.PebbleProfiles), false, "profiles in them"},
		{"pebble_ahead", int64(r.PebbleAhead), true, "of them newer than their checkpoint; checkpoints beyond the topic's end"},
		{"pebble_wrong", int64(r.PebbleWrong), true, "of them not what the topic has at the checkpoint; checkpoints of another topic"},
		{"stuck", r.Stuck, true, "records that a group has not taken"},
		{"marks_wrong", int64(r.MarksWrong), true, "offsets of the detecting group whose mark is not true"},
	}
}

func newReport(examples int) *report {
	return &report{Examples: map[string][]string{}, most: examples}
}

// find notes something that is wrong under the name of its count, with an example while there
// are few.
func (r *report) find(name, format string, args ...any) {
	examples := r.Examples[name]
	if examples == nil {
		examples = []string{} // it is wrong also where no examples are wanted
	}
	if len(examples) < r.most {
		examples = append(examples, fmt.Sprintf(format, args...))
	}
	r.Examples[name] = examples
}

// print writes the report for people: what is wrong is marked, with its examples below.
func (r *report) print(w io.Writer) error {
	for _, f := range r.figures() {
		mark := ' '
		if f.bad && f.n > 0 {
			mark = '!'
		}
		if _, err := fmt.Fprintf(w, "%c %9d  %s\n", mark, f.n, f.what); err != nil {
			return err
		}
		examples := r.Examples[f.name]
		for _, example := range examples {
			if _, err := fmt.Fprintf(w, "%15s%s\n", "- ", example); err != nil {
				return err
			}
		}
	}
	verdict := "all is well"
	if !r.OK {
		verdict = "NOT WELL: see the lines with an exclamation mark"
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}

// fields documents the JSON object.
func fields() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %-22s %s\n", "ok", "whether all is well")
	for _, f := range newReport(0).figures() {
		mark := " "
		if f.bad {
			mark = "!"
		}
		fmt.Fprintf(&b, "%s %-22s %s\n", mark, f.name, f.what)
	}
	fmt.Fprintf(&b, "  %-22s %s", "examples", "for each that is wrong a list of texts: the first of what was found")
	return b.String()
}
