package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/oracle"
)

// version is one committed record of a user in the baseline topic.
type version struct {
	offset  int64
	carried int64
	deleted bool
	bytes   digest
}

// history is all committed records of one user in a partition, in their order.
type history struct {
	versions []version
	at       int    // index of the one that counts at the end; -1 where there is none
	value    []byte // of that one
	newest   int64  // hour of that one
	written  int64  // the newest hour in the partition at the end of that one's transaction
}

// gone reports whether the user has no profile at the end.
func (h *history) gone() bool { return h == nil || h.at < 0 || h.versions[h.at].deleted }

// topicProfiles is the baseline topic: what each partition says of each user.
type topicProfiles struct {
	partitions map[int32]map[string]*history
	replaces   func(before, next version) bool
}

// replaces reports whether a record puts the one before it out of force. Without transactions
// a zombie may have written last what it knew first: then the one that was made at the later
// sign-in counts.
func (o *options) replaces(before, next version) bool {
	return !o.atLeastOnce() || before.deleted || next.deleted || next.carried >= before.carried
}

// readBaseline reads the baseline topic. A record that cannot be read is a wrong profile.
func (j *judge) readBaseline(ctx context.Context) (*topicProfiles, error) {
	t := &topicProfiles{partitions: map[int32]map[string]*history{}, replaces: j.replaces}
	n := j.brokers.partitions(j.baseline)
	newest := map[int32]int64{}         // hour in each partition, so far
	undecided := map[int32][]*history{} // whose records a marker follows
	err := j.brokers.readFrom(ctx, j.baseline, j.brokers.beginnings(j.baseline), func(r *kgo.Record) {
		if r.Attrs.IsControl() {
			for _, h := range undecided[r.Partition] {
				h.written = newest[r.Partition]
			}
			undecided[r.Partition] = nil
			return
		}
		where := fmt.Sprintf("the profile of %q at partition %d offset %d of %s", r.Key, r.Partition, r.Offset, r.Topic)
		if want := partitionOf(string(r.Key), n); r.Key == nil || want != r.Partition {
			j.Misplaced++
			j.find("misplaced", "%s: it belongs to partition %d", where, want)
		} else if j.outside(r) {
			j.Misplaced++
			j.find("misplaced", "%s: it was written outside of a transaction", where)
		}
		next := version{offset: r.Offset, carried: -1, deleted: r.Value == nil, bytes: digestOf(r.Value)}
		var hour int64
		if r.Value != nil {
			p, err := decode(r.Value)
			if err != nil {
				j.ProfilesWrong++
				j.find("profiles_wrong", "%s: %v", where, err)
				return
			}
			next.carried, hour = p.carried, p.newest
			newest[r.Partition] = max(newest[r.Partition], hour)
		}
		h := t.history(r.Partition, string(r.Key))
		h.versions = append(h.versions, next)
		if h.at < 0 || t.replaces(h.versions[h.at], next) {
			h.at, h.value, h.newest = len(h.versions)-1, r.Value, hour
			undecided[r.Partition] = append(undecided[r.Partition], h)
		}
	})
	return t, err
}

// history returns that of a user, which it makes where there is none.
func (t *topicProfiles) history(partition int32, user string) *history {
	users := t.partitions[partition]
	if users == nil {
		users = map[string]*history{}
		t.partitions[partition] = users
	}
	if users[user] == nil {
		users[user] = &history{at: -1}
	}
	return users[user]
}

// profiles returns how many of the records are profiles.
func (h *history) profiles() (n int) {
	for _, v := range h.versions {
		if !v.deleted {
			n++
		}
	}
	return n
}

// below returns the record of a user that counts among those below offset, nil where there
// is none or it is a deletion; known is false where there is no record below offset at all.
func (t *topicProfiles) below(h *history, offset int64) (v *version, known bool) {
	for i := range h.versions {
		if next := &h.versions[i]; next.offset < offset && (v == nil || t.replaces(*v, *next)) {
			v = next
		}
	}
	if v != nil && v.deleted {
		return nil, true
	}
	return v, v != nil
}

const (
	window    = 335 // hours that a verdict looks back
	maxAlerts = 256 // that a profile remembers
)

func (o *options) span() int64 { return window + int64(o.lateness/time.Hour) }

// hourOf is t rounded up to the hour.
func hourOf(t time.Time) int64 {
	hour := t.Unix() / 3600 // no sign-in is from before 1970
	if t.Unix()%3600 != 0 || t.Nanosecond() != 0 {
		hour++
	}
	return hour
}

// taught is what the sign-ins of a user teach: for each address and each ASN all its hours.
type taught struct {
	signIns   map[string]int // how often each is in the input, by id
	newest    int64
	ips, asns map[string]map[int64]bool
	hours     []int64 // of either, rising
}

func teach(signIns iter.Seq[oracle.Seen]) *taught {
	t := &taught{signIns: map[string]int{}, ips: map[string]map[int64]bool{}, asns: map[string]map[int64]bool{}}
	note := func(of map[string]map[int64]bool, key string, hour int64) {
		if of[key] == nil {
			of[key] = map[int64]bool{}
		}
		of[key][hour] = true
	}
	for s := range signIns {
		hour := hourOf(s.Time)
		t.signIns[s.ID]++
		t.newest = max(t.newest, hour)
		t.hours = append(t.hours, hour)
		note(t.ips, networkKey(s.IP), hour)
		note(t.asns, networkKey(s.ASN), hour)
	}
	slices.Sort(t.hours)
	t.hours = slices.Compact(t.hours)
	return t
}

// networkKey is what a network is kept as: its text, or where that is longer than any real one
// the beginning of its SHA-256, so that the whole has 64 bytes.
func networkKey(text string) string {
	if len(text) <= 64 {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return ("sha256:" + hex.EncodeToString(sum[:]))[:64]
}

// checkProfiles holds the profiles of the baseline topic against what the input taught.
// events is the event time of each partition.
//
// There are two legal exceptions, and no others:
//   - A user of whom nothing was seen within window and lateness before the event time of his
//     partition is unknown, swept or not: he may be absent, or have begun anew with a copy of
//     an old sign-in that came again. Nothing may be made up of him either, nor may he stay.
//   - A user who stayed away for longer than the window may have been unknown by then when he
//     came back (the event time may be up to the lateness ahead of him): what was before such
//     a gap may be missing, all of it or nothing.
func (j *judge) checkProfiles(topic *topicProfiles, events map[int32]int64) {
	n := j.brokers.partitions(j.baseline)
	for user, want := range j.taught {
		j.Users++
		partition := partitionOf(user, n)
		users := topic.partitions[partition]
		event := eventTime(events, partition, want.newest)
		expired := want.newest < event-j.span()
		j.expired[user] = expired
		wrong := ""
		if h := users[user]; !h.gone() {
			wrong = j.wrongWith(user, h, want, expired)
			if wrong == "" && j.overdue(h, event, len(users)) {
				wrong = "it should have been swept: event time has come to " + hourText(event)
			}
		} else if !expired {
			wrong = "there is none"
		}
		if wrong != "" {
			j.wrongProfile(user, partition, wrong)
		}
	}
	for partition, users := range topic.partitions {
		for user, h := range users {
			if h.gone() {
				continue
			}
			if j.Profiles++; j.taught[user] == nil {
				j.wrongProfile(user, partition, "no sign-in of that user is in the input")
			}
		}
	}
}

// wrongWith says what is wrong with the profile that a user has, or "".
func (j *judge) wrongWith(user string, h *history, want *taught, expired bool) string {
	p, err := decode(h.value)
	if err != nil {
		return "" // found when it was read
	}
	if wrong := j.compare(user, p, want, expired); wrong != "" {
		return wrong
	}
	if split := j.split[user].all(); h.profiles() > split && !j.atLeastOnce() {
		return fmt.Sprintf("it was written %d times, and the sign-ins topic has %d sign-ins of that user", h.profiles(), split)
	}
	if end := j.brokers.end(j.signIns, partitionOf(user, j.brokers.partitions(j.signIns))); p.carried > end {
		return fmt.Sprintf("it carries offset %d of the sign-ins, which end at %d", p.carried, end)
	}
	return ""
}

// A sweep comes every few hours of event time, and takes so many users of a partition at once.
const (
	sweepWithin = 24 // hours, with much to spare
	sweepSlice  = 500
)

// overdue reports whether a profile was to be swept since long: it was too old when event time
// came to it, and time has gone on since it was written. Event time may have been up to the
// lateness ahead of the sign-ins then. What a larger partition's sweep has come to is not known,
// nor, at least once, what the transaction before the last one had.
func (j *judge) overdue(h *history, event int64, users int) bool {
	since := max(h.newest+j.span(), h.written+j.span()-window)
	return event > since+sweepWithin && users <= sweepSlice && !j.atLeastOnce()
}

// eventTime is that of the partition, as its group's offset says; where that says nothing, no
// time has passed.
func eventTime(events map[int32]int64, partition int32, otherwise int64) int64 {
	if hour, ok := events[partition]; ok {
		return hour
	}
	return otherwise
}

func (j *judge) wrongProfile(user string, partition int32, wrong string) {
	j.ProfilesWrong++
	j.find("profiles_wrong", "user %q, partition %d: %s", user, partition, wrong)
}

// compare says what is wrong with a profile, or "".
func (j *judge) compare(user string, p *profile, want *taught, expired bool) string {
	if p.evicted > 0 {
		return fmt.Sprintf("%d networks were given up, and the user is within the bounds", p.evicted)
	}
	if p.newest > want.newest || p.newest < want.newest && !expired {
		return fmt.Sprintf("its newest hour is %s, not %s", hourText(p.newest), hourText(want.newest))
	}
	floor := p.newest - j.span() // what is before it may be missing
	if expired {
		floor = p.newest + 1
	} else if back := j.cameBack(want); back > floor && p.oldest() >= back {
		floor = back
	}
	for _, kind := range []struct {
		what string
		have []network
		want map[string]map[int64]bool
	}{{"address", p.ips, want.ips}, {"ASN", p.asns, want.asns}} {
		if wrong := compareNetworks(kind.have, kind.want, p.newest-j.span(), floor); wrong != "" {
			return kind.what + " " + wrong
		}
	}
	return j.compareAlerts(user, p, floor)
}

// cameBack returns the first hour after the last gap that is longer than the window; the
// user's first hour where there is none.
func (j *judge) cameBack(want *taught) int64 {
	for i := len(want.hours) - 1; i > 0; i-- {
		if want.hours[i]-want.hours[i-1] > window {
			return want.hours[i]
		}
	}
	return want.hours[0]
}

// oldest returns the oldest hour of the profile.
func (p *profile) oldest() int64 {
	oldest := p.newest
	for _, n := range slices.Concat(p.ips, p.asns) {
		oldest = min(oldest, n.hours[len(n.hours)-1])
	}
	return oldest
}

// compareNetworks says what is made up, kept though it is from before oldest, or missing from
// floor on.
func compareNetworks(have []network, want map[string]map[int64]bool, oldest, floor int64) string {
	there := map[string]network{}
	for _, n := range have {
		there[n.key] = n
		for _, hour := range n.hours {
			switch {
			case !want[n.key][hour]:
				return fmt.Sprintf("%q has hour %s, in which it was not seen", n.key, hourText(hour))
			case hour < oldest:
				return fmt.Sprintf("%q has hour %s, which is too old to be kept", n.key, hourText(hour))
			}
		}
	}
	for key, hours := range want {
		for hour := range hours {
			if hour >= floor && !there[key].contains(hour) {
				return fmt.Sprintf("%q lacks hour %s", key, hourText(hour))
			}
		}
	}
	return ""
}

// compareAlerts says which alert the profile remembers that was none, or has forgotten. An
// alert goes with the hour that it was raised at: one of those that the query returns it at.
func (j *judge) compareAlerts(user string, p *profile, floor int64) string {
	raised := map[string]announced{}
	for _, a := range j.alerted[user] {
		raised[a.id] = a
	}
	kept := map[string]bool{}
	for _, r := range p.alerts {
		kept[r.id] = true
		a, ok := raised[r.id]
		rows := j.rows[a.signIn]
		switch {
		case !ok:
			return fmt.Sprintf("it remembers alert %s, which is not in the alerts topic", r.id)
		case len(rows) > 0 && !slices.ContainsFunc(rows, func(row oracle.Row) bool { return hourOf(row.Time) == r.hour }):
			return fmt.Sprintf("it remembers alert %s at hour %s, and the sign-in is of %s", r.id, hourText(r.hour), hourText(hourOf(rows[0].Time)))
		}
	}
	if len(p.alerts) == maxAlerts {
		return "" // others may have had to go
	}
	for _, a := range raised {
		young := len(j.rows[a.signIn]) > 0
		for _, row := range j.rows[a.signIn] {
			young = young && hourOf(row.Time) >= floor
		}
		if young && !kept[a.id] {
			return fmt.Sprintf("it has forgotten alert %s on sign-in %s", a.id, a.signIn)
		}
	}
	return ""
}

func hourText(hour int64) string {
	return time.Unix(hour*3600, 0).UTC().Format(time.RFC3339)
}
