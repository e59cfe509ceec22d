package main

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// made is a sign-in of a test's own making, in the shape of the table.
type made struct {
	id, user, ip, asn string
	at                time.Time
	fails             bool // teaches, and cannot alert
}

// record is the sign-in as Log Analytics exports it.
func (s made) record() []byte {
	result := "0"
	if s.fails {
		result = "50126"
	}
	return fmt.Appendf(nil, `{"TimeGenerated":%q,"Id":%q,"UserPrincipalName":%q,"IPAddress":%q,"AutonomousSystemNumber":%q,`+
		`"ResultType":%q,"ResourceDisplayName":"Microsoft Graph"}`, s.at.UTC().Format(time.RFC3339Nano), s.id, s.user, s.ip, s.asn, result)
}

// write writes sign-ins, which are in the order of time, in messages of so many, and tells the oracle.
func (in *installation) write(list []made, most int) {
	in.t.Helper()
	var records []*kgo.Record
	for chunk := range slices.Chunk(list, most) {
		var of [][]byte
		for _, s := range chunk {
			record := s.record()
			if err := in.query.Add(record); err != nil {
				in.t.Fatal(err)
			}
			of = append(of, record)
			in.made++
			in.ids[s.id]++
		}
		in.newest = chunk[len(chunk)-1].at
		records = append(records, &kgo.Record{Topic: in.input, Partition: in.partition(), Value: tenant.Envelope(nil, of...), Timestamp: in.newest})
	}
	in.inputBroker.Produce(records...)
}

// month is what the people of a place did in the days up to now: those who work there, those who
// left, those who were away and came back, and each day some who came once.
type month struct {
	list []made
	last map[string]time.Time // when each was seen for the last time
}

const (
	monthDays = 40
	// kept is for how long a user is known: the window of 335 hours and the lateness of 48.
	kept = 383 * time.Hour
)

// newMonth makes a month. Nobody's last day is one on which it depends on the minute whether he is
// known at the end.
func newMonth(random *rand.Rand, now time.Time, perDay int) *month {
	m := &month{last: map[string]time.Time{}}
	// It ends some hours ago: between the last sign-in and the tick after it there is time for a sweep.
	start := now.Truncate(time.Hour).Add(-8*time.Hour - monthDays*24*time.Hour)
	see := func(user string, day int) {
		at := start.Add(time.Duration(day)*24*time.Hour + time.Duration(random.Int64N(int64(24*time.Hour))))
		asn := 64496 + random.IntN(4)
		m.list = append(m.list, made{
			id: fmt.Sprintf("%s-%d-%d", user, day, len(m.list)), user: user + "@example.com", asn: fmt.Sprint(asn),
			ip: fmt.Sprintf("198.51.100.%d", random.IntN(20)), at: at, fails: random.IntN(3) > 0,
		})
	}
	doubtful := func(day int) bool { return day >= monthDays-18 && day <= monthDays-14 }
	for day := range monthDays {
		for n := range perDay / 4 {
			see(fmt.Sprint("regular", n), day)
			// Away for 10 days, whom it knows when they come back, and for 20, whom it does not.
			if day%20 < 10 {
				see(fmt.Sprint("briefly", n), day)
			}
			if day < 10 || day >= 30 {
				see(fmt.Sprint("long", n), day)
			}
			if day < monthDays-20 {
				see(fmt.Sprint("leaver", n), day)
			}
		}
		for n := range perDay {
			if !doubtful(day) {
				see(fmt.Sprintf("once%d-%d", day, n), day)
			}
		}
	}
	slices.SortFunc(m.list, func(a, b made) int { return a.at.Compare(b.at) })
	for _, s := range m.list {
		m.last[s.user] = s.at
	}
	return m
}

// known returns those who were seen within what is kept before a time.
func (m *month) known(at time.Time) map[string]bool {
	users := make(map[string]bool)
	for user, last := range m.last {
		if at.Sub(last) <= kept {
			users[user] = true
		}
	}
	return users
}

// inTopic returns the users of whom the baseline topic has a profile as of its end, and how many bytes
// keys and profiles were after each of its records.
func (in *installation) inTopic(topic string) (users map[string]bool, course []int) {
	in.t.Helper()
	users = make(map[string]bool)
	profiles, size := make(map[string]int), 0
	records := in.b.ReadAll(topic)
	slices.SortStableFunc(records, func(a, b *kgo.Record) int { return a.Timestamp.Compare(b.Timestamp) })
	for _, r := range records {
		size -= profiles[string(r.Key)]
		if r.Value == nil {
			delete(users, string(r.Key))
			delete(profiles, string(r.Key))
		} else {
			users[string(r.Key)] = true
			profiles[string(r.Key)] = len(r.Key) + len(r.Value)
			size += profiles[string(r.Key)]
		}
		course = append(course, size)
	}
	return users, course
}

// inPebble returns the users of whom a state folder has anything, in whatever partition.
func inPebble(t *testing.T, dir string) map[string]bool {
	t.Helper()
	users := make(map[string]bool)
	for key := range pebbleEntries(t, dir) {
		if len(key) > 4 && key[4] == 1 { // a profile: partition, kind, user
			users[key[5:]] = true
		}
	}
	return users
}

// pebbleEntries returns the keys and values of a state folder.
func pebbleEntries(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	instance, err := os.ReadFile(filepath.Join(dir, "instance"))
	if err != nil {
		t.Fatal(err)
	}
	merger := &pebble.Merger{Name: "prtwatch " + strings.TrimSpace(string(instance)), Merge: pebble.DefaultMerger.Merge}
	db, err := pebble.Open(filepath.Join(dir, "pebble"), &pebble.Options{ReadOnly: true, Logger: quiet{}, Merger: merger})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	keys, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	entries := make(map[string][]byte)
	for ok := keys.First(); ok; ok = keys.Next() {
		entries[string(keys.Key())] = bytes.Clone(keys.Value())
	}
	return entries
}

// quiet is Pebble's logger.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// differ says what is in one set of users and not in the other.
func differ(got, want map[string]bool) string {
	var more, less []string
	for user := range got {
		if !want[user] {
			more = append(more, user)
		}
	}
	for user := range want {
		if !got[user] {
			less = append(less, user)
		}
	}
	slices.Sort(more)
	slices.Sort(less)
	return fmt.Sprintf("%d too many (%.200s), %d too few (%.200s)", len(more), strings.Join(more, " "), len(less), strings.Join(less, " "))
}

// People come, stay away, come back, and most of them come once. In the second half of the month the
// state grows no more, and at its end there is nothing of who stayed away: not in Pebble, and
// once it was compacted not in the topic.
func TestAMonthOfPeopleWhoComeAndGoLeavesNothingOfWhoStayedAway(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		m := newMonth(in.random, time.Now(), scaled(40, 2000))
		in.write(m.list, 20)
		dir := t.TempDir()
		i := in.start(dir)
		in.done()
		baseline := b.Name("baseline")
		want := m.known(time.Now())
		// The first tick says that the input has been read to the present.
		waitFor(t, "the state to forget who stayed away", func() bool {
			users, _ := in.inTopic(baseline)
			return len(users) <= len(want)
		})
		in.done()
		i.wantBoundedMemory(mostOfFew)
		i.stop()
		in.wantTheQuerysRows()

		held, course := in.inTopic(baseline)
		if !maps.Equal(held, want) {
			t.Errorf("the topic: %s", differ(held, want))
		}
		if users := inPebble(t, dir); !maps.Equal(users, want) {
			t.Errorf("Pebble: %s", differ(users, want))
		}
		third, last := slices.Max(course[len(course)/2:len(course)*3/4]), slices.Max(course[len(course)*3/4:])
		t.Logf("%d users in all, of whom %d are left; profiles took at most %d bytes in the third quarter and %d in the last", len(m.last), len(want), third, last)
		if last > third*5/4 {
			t.Errorf("the state grew from %d bytes in the third quarter to %d in the last", third, last)
		}

		compact(t, b, baseline, func() {
			for p := range int32(6) {
				b.Produce(&kgo.Record{Topic: baseline, Partition: p, Key: []byte("roll"), Value: []byte("x")})
			}
		}, func() bool {
			for _, r := range b.ReadAll(baseline) {
				if user := string(r.Key); user != "roll" && !want[user] {
					return false
				}
			}
			return true
		})
	})
}

// twin returns the command line of a detecting stage that judges the same sign-ins for itself.
func (in *installation) twin(name string, args ...string) []string {
	in.t.Helper()
	for _, key := range []string{"detect.group", "topics.baseline", "topics.alerts"} {
		args = append(args, "--set", key+"="+in.b.Name(name+"."+strings.Split(key, ".")[1]))
	}
	if got := prtwatch("", slices.Concat([]string{"topics", "--create"}, in.config, args)...); got.code != 0 {
		in.t.Fatalf("topics --create: %d %s", got.code, got.stderr)
	}
	return append(args, "--only", "detect")
}

// The same sign-ins are judged by one member undisturbed; by several in short transactions, who are
// killed, or go and lose their state; and at least once. They sweep at different moments, and write
// the same alerts: in each partition the same bytes in the same order.
func TestWhoSweepsWhenChangesNoByteOfAnyAlert(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		b = b.Unguarded() // there are more topics and groups than rights
		in := newInstallation(t, b)
		m := newMonth(in.random, time.Now(), scaled(60, 1000))
		p := newProxy(t, b)
		steps := scaled(4, 20)
		portions := slices.Collect(slices.Chunk(m.list, len(m.list)/(steps+2)))

		calm := in.twin("calm", "--set", "detect.members=1", "--set", "detect.transaction=1s")
		restless := in.twin("restless", "--set", "detect.members=2", "--set", "detect.transaction=1ms")
		again := in.twin("again", "--set", "delivery=at-least-once")
		instances := []*instance{
			in.startAt(in.b.Door(), t.TempDir(), "--only", "split", "--set", "kafka.brokers="+p.addr()),
			in.start(t.TempDir(), calm...),
			in.start(t.TempDir(), again...),
		}
		dirs := [2]string{t.TempDir(), t.TempDir()}
		movers := [2]*instance{in.start(dirs[0], restless...), in.start(dirs[1], restless...)}
		for step := range steps {
			air := p.holdProduces(in.signs, in.random.IntN(len(portions[step])/2))
			in.write(portions[step], 20)
			air.wait(t)
			n := step % 2
			movers[n].says("partitions assigned")
			if in.random.IntN(2) == 0 {
				movers[n].kill()
			} else {
				movers[n].stop()
				dirs[n] = t.TempDir()
			}
			movers[n] = in.start(dirs[n], restless...)
			air.end()
		}
		groups := []string{"calm", "restless", "again"}
		// Who reads all of it in one transaction sweeps before it, when nobody has stayed away: so there is another.
		for _, portion := range [][]made{portions[steps], slices.Concat(portions[steps+1:]...)} {
			in.write(portion, 20)
			in.split(in.made)
			for _, name := range groups {
				waitFor(t, name+" to judge all", func() bool {
					return atEnd(b, in.input, b.Name("split")) && atEnd(b, in.signs, b.Name(name+".group"))
				})
			}
		}
		for _, i := range append(instances, movers[:]...) {
			i.says("running")
			i.stop()
		}
		want := b.ReadAll(b.Name("calm.alerts"))
		if len(want) < 100 {
			t.Fatalf("only %d alerts", len(want))
		}
		for _, name := range groups {
			got := b.ReadAll(b.Name(name + ".alerts"))
			if !slices.EqualFunc(got, want, sameRecord) {
				t.Errorf("%s wrote other alerts: %d, not the same %d", name, len(got), len(want))
			}
			swept, runs := in.swept(b.Name(name + ".baseline"))
			t.Logf("%s: %d alerts, %d users swept in %d runs", name, len(got), swept, runs)
			if swept == 0 {
				t.Errorf("%s has swept nobody", name)
			}
		}
	})
}

// sameRecord reports whether two records say the same in the same partition.
func sameRecord(x, y *kgo.Record) bool {
	return x.Partition == y.Partition && bytes.Equal(x.Key, y.Key) && bytes.Equal(x.Value, y.Value) &&
		slices.EqualFunc(x.Headers, y.Headers, func(x, y kgo.RecordHeader) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) })
}

// swept returns how many deletions are in a baseline topic, and in how many runs of them.
func (in *installation) swept(baseline string) (users, runs int) {
	deleting := false
	for _, r := range in.b.ReadAll(baseline) {
		if r.Value == nil {
			users++
			if !deleting {
				runs++
			}
		}
		deleting = r.Value == nil
	}
	return users, runs
}
