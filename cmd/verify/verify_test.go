package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/oracle"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// The users of an installation.
const (
	ada  = "ada@example.com"
	bob  = "bob@example.com"
	cleo = "cleo@example.com"
	dan  = "dan@example.com"
	eve  = "eve@example.com"
)

func partitionFor(user string) int32 { return kafka.Partition([]byte(user), partitions) }

// harm is what is done to an installation in which all is well.
type harm func(in *installation, f flags)

// alerts is a harm to the alerts topic.
func alerts(change func([]*kgo.Record) []*kgo.Record) harm {
	return func(in *installation, f flags) { in.rewrite(f, "alerts", change) }
}

// alertOf is a harm to the one alert of a user.
func alertOf(user string, change func(*kgo.Record)) harm {
	return alerts(func(all []*kgo.Record) []*kgo.Record {
		change(of(all, user))
		return all
	})
}

// letters is a harm to the dead letters.
func letters(change func([]*kgo.Record) []*kgo.Record) harm {
	return func(in *installation, f flags) { in.rewrite(f, "dead-letter", change) }
}

// anotherLetter adds a copy of the first dead letter that is changed.
func anotherLetter(change func(*kgo.Record)) harm {
	return letters(func(all []*kgo.Record) []*kgo.Record {
		again := *all[0]
		again.Headers = slices.Clone(again.Headers)
		change(&again)
		return append(all, &again)
	})
}

// comesAgain is an alert that comes again some time later, at least once.
func comesAgain(within string, after time.Duration) harm {
	return func(in *installation, f flags) {
		f["delivery"], f["again-within"] = atLeastOnce, within
		in.rewrite(f, "alerts", func(all []*kgo.Record) []*kgo.Record {
			first := of(all, ada)
			again := *first
			first.Timestamp, again.Timestamp = in.now.Add(-time.Hour), in.now.Add(-time.Hour+after)
			return append(all, &again)
		})
	}
}

// profileOf is a harm to the profile of a user in the baseline topic.
func profileOf(user string, change func(*profile)) harm {
	return func(in *installation, _ flags) { in.teach(user, partitionFor(user), in.profile(user, change)) }
}

// says writes a value for a user to a partition of the baseline topic.
func says(user string, partition int32, value []byte) harm {
	return func(in *installation, _ flags) { in.teach(user, partition, value) }
}

// pebbleOf is a harm to the partition of a user in the state folder.
func pebbleOf(user string, change func(*state.Partition, state.Checkpoint) error) harm {
	return func(in *installation, f flags) { in.store(f, user, change) }
}

// offset is a harm to what the detecting group has committed of ada's partition.
func offset(change func(*kadm.Offset)) harm {
	return func(in *installation, f flags) {
		in.commit(f, "detect-group", "signins", partitionFor(ada), change)
	}
}

// markWith is a harm to one field of the mark of that offset.
func markWith(field int, value string) harm {
	return offset(func(o *kadm.Offset) {
		fields := strings.Fields(o.Metadata)
		fields[field] = value
		o.Metadata = strings.Join(fields, " ")
	})
}

// of returns the one record of a user.
func of(records []*kgo.Record, user string) *kgo.Record {
	return records[slices.IndexFunc(records, func(r *kgo.Record) bool { return string(r.Key) == user })]
}

// edit replaces a part of the value.
func edit(from, to string) func(*kgo.Record) {
	return func(r *kgo.Record) { r.Value = bytes.Replace(r.Value, []byte(from), []byte(to), 1) }
}

// without takes a header away.
func without(header string) func(*kgo.Record) {
	return func(r *kgo.Record) {
		r.Headers = slices.DeleteFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == header })
	}
}

// with gives a header another value.
func with(header, value string) func(*kgo.Record) {
	return func(r *kgo.Record) {
		for i := range r.Headers {
			if r.Headers[i].Key == header {
				r.Headers[i].Value = []byte(value)
			}
		}
	}
}

// harms are kinds of harm, each with the findings that must come of it, by name, and a part of what
// their examples tell.
var harms = []struct {
	name  string
	do    harm
	want  []string
	tells string
}{
	{"an alert is lost", alerts(func(all []*kgo.Record) []*kgo.Record {
		return slices.DeleteFunc(all, func(r *kgo.Record) bool { return string(r.Key) == ada })
	}), []string{"missing", "profiles_wrong"}, `of "ada@example.com" at 20`},
	{"an alert is there twice", alerts(func(all []*kgo.Record) []*kgo.Record {
		return append(all, of(all, ada))
	}), []string{"doubled"}, `of "ada@Example.com", partition`},
	{"an alert is on a sign-in that is no row", alerts(func(all []*kgo.Record) []*kgo.Record {
		madeUp := *of(all, ada)
		edit(`"sign_in":{"id":"`, `"sign_in":{"id":"no-`)(&madeUp)
		return append(all, &madeUp)
	}), []string{"made_up"}, "no row of the query"},
	{"an alert is no JSON", alerts(func(all []*kgo.Record) []*kgo.Record {
		return append(all, &kgo.Record{Key: []byte(ada), Value: []byte("alert!")})
	}), []string{"made_up"}, "is no alert"},
	{"an alert has another reason", alertOf(bob, edit("no_baseline", "new_network")), []string{"altered"}, `its reason is "new_network", not "no_baseline"`},
	{"an alert says that it came late", alertOf(ada, edit(`"baseline":`, `"late":true,"baseline":`)), []string{"altered"}, `its late is "true", not "false"`},
	{"an alert hides that its time was clamped", alertOf(eve, edit(`"clamped":true`, `"clamped":false`)), []string{"altered"}, `its clamped is "false", not "true"`},
	{"an alert is in another partition", alertOf(ada, func(r *kgo.Record) {
		r.Partition = (r.Partition + 1) % partitions
	}), []string{"misplaced"}, "it belongs to partition"},
	{"an alert has another key", alertOf(ada, func(r *kgo.Record) {
		r.Key = []byte("ada@Example.com")
	}), []string{"misplaced"}, `its key is "ada@Example.com"`},
	{"an alert has another ce_id", alertOf(ada, with("ce_id", "5")), []string{"misplaced"}, `its header ce_id is "5"`},
	{"an alert has another ce_time", alertOf(ada, with("ce_time", "now")), []string{"misplaced"}, `its header ce_time is "now"`},
	{"an alert lacks a header", alertOf(ada, without("content-type")), []string{"misplaced"}, "it has no header content-type"},
	{"an alert has a header twice", alertOf(ada, func(r *kgo.Record) {
		r.Headers = append(r.Headers, r.Headers[0])
	}), []string{"misplaced"}, "it has header ce_id twice"},
	{"an alert has a header too many", alertOf(ada, func(r *kgo.Record) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "x"})
	}), []string{"misplaced"}, `it has a header "x"`},
	{"alerts were written outside of a transaction", func(in *installation, f flags) {
		var all []*kgo.Record
		in.rewrite(f, "alerts", func(records []*kgo.Record) []*kgo.Record { all = records; return nil })
		for _, r := range all {
			r.Topic = f["alerts"]
		}
		in.b.Produce(all...)
	}, []string{"misplaced"}, "outside of a transaction"},
	{"at least once, an alert is there again with other bytes", func(in *installation, f flags) {
		f["delivery"] = atLeastOnce
		in.rewrite(f, "alerts", func(all []*kgo.Record) []*kgo.Record {
			again := *of(all, bob)
			edit(`"title":"`, `"title":"!`)(&again)
			return append(all, &again)
		})
	}, []string{"doubled"}, `of "bob@Example.com"`},
	{"at least once, an alert is there again long after", comesAgain("1m", 2*time.Minute), []string{"doubled"}, "there was one before, by 2m0s"},

	{"a dead letter is lost", letters(func(all []*kgo.Record) []*kgo.Record { return all[1:] }), []string{"dead_letters_missing"}, "partition"},
	{"a dead letter is on what can be read", anotherLetter(with("offset", "0")), []string{"dead_letters_made_up"}, "nothing there is unreadable"},
	{"a dead letter is on no offset", anotherLetter(with("offset", "first")), []string{"dead_letters_made_up"}, `its header offset is "first"`},
	{"a dead letter has other bytes", anotherLetter(edit("t", "T")), []string{"dead_letters_made_up"}, "its bytes are others"},
	{"a dead letter has no reason", anotherLetter(without("reason")), []string{"dead_letters_made_up"}, "no header reason"},
	{"a dead letter hides that it was cut", letters(func(all []*kgo.Record) []*kgo.Record {
		for _, r := range all {
			without("truncated")(r)
		}
		return all
	}), []string{"dead_letters_made_up", "dead_letters_missing"}, "it has no header truncated"},

	{"a profile has an hour too many", profileOf(cleo, func(p *profile) {
		p.ips[0].hours = slices.Insert(p.ips[0].hours, 1, p.newest-1)
	}), []string{"profiles_wrong"}, `address "198.51.100.7" has hour`},
	{"a profile has an hour that is too old", profileOf(ada, func(p *profile) {
		p.asns[0].hours = append(p.asns[0].hours, p.newest-(18*24-22)) // of the first sign-in
	}), []string{"profiles_wrong"}, "which is too old to be kept"},
	{"a profile has a network too many", profileOf(cleo, func(p *profile) {
		p.asns = append(p.asns, network{key: "64499", hours: []int64{p.newest}})
	}), []string{"profiles_wrong"}, `ASN "64499" has hour`},
	{"a profile lacks an hour", profileOf(ada, func(p *profile) {
		p.ips[0].hours = slices.Delete(p.ips[0].hours, 3, 4)
	}), []string{"profiles_wrong"}, `address "192.0.2.7" lacks hour`},
	{"a profile lacks its newest hour", profileOf(cleo, func(p *profile) {
		p.ips[0].hours, p.asns[0].hours = p.ips[0].hours[1:], p.asns[0].hours[1:]
		p.newest = p.ips[0].hours[0]
	}), []string{"profiles_wrong"}, "its newest hour is"},
	{"a profile lacks a network", profileOf(ada, func(p *profile) { p.asns = p.asns[:1] }), []string{"profiles_wrong"}, `ASN "64499" lacks hour`},
	{"a profile has forgotten an alert", profileOf(ada, func(p *profile) { p.alerts = nil }), []string{"profiles_wrong"}, "it has forgotten alert"},
	{"a profile remembers an alert at another hour", profileOf(ada, func(p *profile) { p.alerts[0].hour-- }), []string{"profiles_wrong"}, "it remembers alert"},
	{"a profile has given up a network", profileOf(ada, func(p *profile) { p.evicted = 1 }), []string{"profiles_wrong"}, "1 networks were given up"},
	{"a profile carries an offset beyond the sign-ins", profileOf(ada, func(p *profile) { p.carried = 999 }), []string{"profiles_wrong"}, "it carries offset 999"},
	{"a user has no profile", says(cleo, partitionFor(cleo), nil), []string{"profiles_wrong"}, "there is none"},
	{"a swept user is there again", func(in *installation, _ flags) {
		in.teach(dan, partitionFor(dan), in.profile(dan, func(*profile) {}))
	}, []string{"profiles_wrong"}, "it was written 2 times, and the sign-ins topic has 1"},
	{"a user was not swept", func(in *installation, f flags) {
		var others []*kgo.Record
		in.rewrite(f, "baseline", func(all []*kgo.Record) []*kgo.Record {
			his := of(all, dan) // the first, in a transaction of its own
			others = slices.DeleteFunc(all, func(r *kgo.Record) bool { return string(r.Key) == dan })
			return []*kgo.Record{his}
		})
		in.transact(f["baseline"], kgo.TryCommit, others...)
		delete(f, "state")
	}, []string{"marks_wrong", "profiles_wrong"}, "it should have been swept: event time has come to"},
	{"there is a profile of nobody", func(in *installation, _ flags) {
		in.teach("fay@example.com", partitionFor("fay@example.com"), in.profile(ada, func(*profile) {}))
	}, []string{"profiles_wrong"}, "no sign-in of that user is in the input"},

	{"Pebble has a profile of nobody", pebbleOf(ada, func(p *state.Partition, cp state.Checkpoint) error {
		return errors.Join(see(p, "fay@example.com", 600000), p.Commit(cp))
	}), []string{"pebble_wrong"}, `user "fay@example.com": the topic has no record of him`},
	{"Pebble has another profile", pebbleOf(ada, func(p *state.Partition, cp state.Checkpoint) error {
		return errors.Join(see(p, ada, 600000), p.Commit(cp))
	}), []string{"pebble_wrong"}, `user "ada@example.com": his profile is not that of the topic`},
	{"Pebble has a profile that was deleted", pebbleOf(dan, func(p *state.Partition, cp state.Checkpoint) error {
		return errors.Join(see(p, dan, 600000), p.Commit(cp))
	}), []string{"pebble_wrong"}, `user "dan@example.com": the topic has him deleted`},
	{"Pebble lacks a profile", pebbleOf(ada, func(p *state.Partition, cp state.Checkpoint) error {
		return errors.Join(p.Put([]byte(ada), nil), p.Restored(cp))
	}), []string{"pebble_wrong"}, `user "ada@example.com": he is missing at offset`},
	{"a checkpoint is beyond the topic's end", pebbleOf(ada, func(p *state.Partition, cp state.Checkpoint) error {
		cp.Offset += 100
		return p.Commit(cp)
	}), []string{"pebble_ahead"}, "and the topic ends at"},
	{"Pebble is newer than its checkpoint in part", func(in *installation, f flags) {
		// What is said later of ada is in Pebble, of cleo, who shares her partition, it is not.
		value := in.profile(ada, func(p *profile) { p.ips = p.ips[:1] })
		in.teach("gus@example.com", partitionFor(ada), value)
		in.teach(ada, partitionFor(ada), value)
		in.store(f, ada, func(p *state.Partition, cp state.Checkpoint) error {
			return errors.Join(p.Put([]byte(ada), value), p.Restored(cp))
		})
	}, []string{"pebble_ahead", "profiles_wrong"}, `user "ada@example.com" is newer than the checkpoint`},
	{"a checkpoint is of another topic", pebbleOf(ada, func(p *state.Partition, cp state.Checkpoint) error {
		cp.TopicID[0]++
		return p.Commit(cp)
	}), []string{"pebble_wrong"}, "another cluster, topic or partition count"},
	{"a checkpoint is of another cluster", pebbleOf(ada, func(p *state.Partition, cp state.Checkpoint) error {
		cp.ClusterID += "x"
		return p.Commit(cp)
	}), []string{"pebble_wrong"}, "another cluster, topic or partition count"},

	{"sign-ins are not judged", offset(func(o *kadm.Offset) { o.At = 0 }), []string{"marks_wrong", "profiles_wrong", "stuck"}, "records of partition"},
	{"messages are not split", func(in *installation, f flags) {
		in.commit(f, "split-group", "input", 0, func(o *kadm.Offset) { o.At-- })
	}, []string{"stuck"}, "has not taken 1 records of partition 0"},
	{"nothing is committed", func(in *installation, f flags) { f["detect-group"] = in.name("nobody") }, []string{"profiles_wrong", "stuck"}, "has not taken"},
	{"an offset is beyond the end", offset(func(o *kadm.Offset) { o.At += 100 }), []string{"marks_wrong", "profiles_wrong", "stuck"}, "which ends at"},
	{"an offset has no mark", offset(func(o *kadm.Offset) { o.Metadata = "" }), []string{"marks_wrong", "profiles_wrong"}, "it is no mark"},
	{"a mark is of another baseline topic", markWith(1, strings.Repeat("0", 32)), []string{"marks_wrong"}, "another baseline topic"},
	{"a mark is beyond the baseline topic's end", markWith(2, "999"), []string{"marks_wrong"}, "which ends at"},
	{"a mark has event time run ahead", markWith(3, "999999"), []string{"marks_wrong", "profiles_wrong"}, "its event time is in the future"},
	{"a mark is of another sign-ins topic", markWith(4, strings.Repeat("0", 32)), []string{"marks_wrong"}, "another sign-ins topic"},
	{"a mark is of another partition count", markWith(5, "5"), []string{"marks_wrong"}, "it is of 5 partitions"},
	{"a mark is of another offset", markWith(7, "5"), []string{"marks_wrong", "profiles_wrong"}, "it is of another offset than"},
}

// see changes what Pebble has of a user.
func see(p *state.Partition, user string, hour int32) error {
	profile, err := p.Profile(user)
	if err == nil {
		profile.See("192.0.2.99", "64511", hour)
	}
	return err
}

func TestWhatIsWrongIsFound(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	if code, r := in.verify(in.flags); code != exitWell || !r.OK || r.Rows != 3 || r.DeadLetters != 3 || r.Profiles != 4 || r.PebbleProfiles != 4 {
		t.Fatalf("before any harm: exit code %d, %+v", code, r)
	}
	for _, h := range harms {
		t.Run(h.name, func(t *testing.T) {
			in.t = t
			in.wantFound(h.do, h.want, h.tells)
		})
	}
}

// wantFound does harm, and wants it found.
func (in *installation) wantFound(do harm, want []string, tells string) {
	in.t.Helper()
	f := maps.Clone(in.flags)
	do(in, f)
	code, r := in.verify(f)
	found := slices.Sorted(maps.Keys(r.Examples))
	if code != exitWrong || r.OK || !slices.Equal(found, want) {
		in.t.Fatalf("exit code %d, found %v, not %v: %v", code, found, want, r.Examples)
	}
	if !strings.Contains(fmt.Sprint(r.Examples), tells) {
		in.t.Errorf("%v does not tell %q", r.Examples, tells)
	}
}

// What is written to the input, or is no profile at all, stays: each has an installation of its own.
func TestWhatIsWrongForGoodIsFound(t *testing.T) {
	t.Parallel()
	for _, h := range []struct {
		name  string
		do    harm
		want  []string
		tells string
	}{
		{"a profile cannot be read", says(ada, partitionFor(ada), []byte("ada")), []string{"profiles_wrong"}, "it has version 97"},
		{"a user's profile is in another partition", func(in *installation, _ flags) {
			in.teach(ada, partitionFor(cleo), in.profile(ada, func(*profile) {}))
		}, []string{"misplaced"}, "it belongs to partition"},
		{"a sign-in is not in the sign-ins topic", func(in *installation, f flags) {
			late := record("cleo-lost", "cleo", "Exchange", in.now.Add(-25*time.Hour), "198.51.100.7", 64498)
			in.b.Produce(&kgo.Record{Topic: f["input"], Value: []byte(late), Timestamp: in.now})
		}, []string{"profiles_wrong", "stuck", "unsplit"}, `user "cleo@example.com", partition`},
		{"a sign-in is not in the sign-ins topic, and another is twice", func(in *installation, f flags) {
			late := record("cleo-lost", "cleo", "Exchange", in.now.Add(-25*time.Hour), "198.51.100.7", 64498)
			in.b.Produce(&kgo.Record{Topic: f["input"], Value: []byte(late), Timestamp: in.now})
			for _, r := range in.b.ReadAll(f["signins"]) {
				if string(r.Key) == cleo {
					in.b.Produce(&kgo.Record{Topic: f["signins"], Key: r.Key, Value: r.Value, Partition: r.Partition})
					break
				}
			}
		}, []string{"profiles_wrong", "stuck", "unsplit"}, `sign-in "cleo-lost"`},
		{"a sign-in is in another partition of the sign-ins topic", func(in *installation, f flags) {
			in.b.Produce(&kgo.Record{Topic: f["signins"], Key: []byte(ada), Partition: partitionFor(cleo)})
		}, []string{"misplaced", "stuck"}, "it belongs to partition"},
		{"a sign-in is of nobody", func(in *installation, f flags) {
			in.b.Produce(&kgo.Record{Topic: f["signins"], Key: []byte("fay@example.com"), Partition: partitionFor("fay@example.com")})
		}, []string{"misplaced", "stuck"}, "no sign-in of that user is in the input"},
		{"a profile was written outside of a transaction", func(in *installation, f flags) {
			in.b.Produce(&kgo.Record{Topic: f["baseline"], Key: []byte(ada), Partition: partitionFor(ada), Value: in.profile(ada, func(*profile) {})})
		}, []string{"misplaced"}, "it was written outside of a transaction"},
	} {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			newInstallation(t).wantFound(h.do, h.want, h.tells)
		})
	}
}

// Of what may be, nothing is wrong.
func TestWhatMayBeIsNotWrong(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	for _, c := range []struct {
		name string
		do   harm
		want func(report) bool // what is counted
	}{
		{"an alert of an aborted transaction", func(in *installation, f flags) {
			var again *kgo.Record
			in.rewrite(f, "alerts", func(all []*kgo.Record) []*kgo.Record {
				again = &kgo.Record{Partition: of(all, ada).Partition, Key: []byte(ada), Value: of(all, ada).Value}
				return all
			})
			in.transact(f["alerts"], kgo.TryAbort, again)
		}, func(r report) bool { return r.Alerts == 3 }},
		{"a dead letter that the splitter repeats", anotherLetter(func(*kgo.Record) {}), func(r report) bool { return r.DeadLetters == 4 && r.DeadLettersAgain == 1 }},
		{"at least once, the same alert again", func(in *installation, f flags) {
			f["delivery"] = atLeastOnce
			in.rewrite(f, "alerts", func(all []*kgo.Record) []*kgo.Record { return append(all, of(all, ada)) })
		}, func(r report) bool { return r.Alerts == 4 && r.Repeated == 1 }},
		{"at least once, the same alert again within the time for that", comesAgain("3m", 2*time.Minute), func(r report) bool { return r.Alerts == 4 && r.Repeated == 1 }},
		{"a state that lags behind the topic", func(in *installation, f flags) {
			in.teach(ada, partitionFor(ada), in.profile(ada, func(*profile) {}))
		}, func(r report) bool { return r.PebbleProfiles == 4 }},
		{"a restore that was broken off", func(in *installation, f flags) {
			now, then := in.profile(ada, func(*profile) {}), in.profile(ada, func(p *profile) { p.ips[0].hours = p.ips[0].hours[:1] })
			in.teach(ada, partitionFor(ada), then)
			in.teach(ada, partitionFor(ada), now)
			in.store(f, ada, func(p *state.Partition, cp state.Checkpoint) error {
				return errors.Join(p.Put([]byte(ada), then), p.Restored(cp))
			})
		}, func(r report) bool { return r.PebbleProfiles == 4 }},
		{"ticks that nobody has taken", func(in *installation, f flags) {
			tick := &kgo.Record{Topic: f["signins"], Headers: []kgo.RecordHeader{{Key: "control", Value: []byte("tick")}}, Value: []byte("tick")}
			in.b.Produce(tick)
		}, func(r report) bool { return r.SignIns > 100 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			in.t = t
			f := maps.Clone(in.flags)
			c.do(in, f)
			if code, r := in.verify(f); code != exitWell || !r.OK || !c.want(r) {
				t.Errorf("exit code %d, %+v", code, r)
			}
		})
	}
}

// A tenant with all that is odd in real records, delivered twice now and then.
func TestAllIsWellOfAMadeTenant(t *testing.T) {
	t.Parallel()
	for _, delivery := range []string{exactlyOnce, atLeastOnce} {
		t.Run(delivery, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
				in := newTopics(t, b, delivery)
				in.produceTenant()
				in.runPipeline(func() bool { return true })
				code, r := in.verify(in.flags)
				t.Logf("%d sign-ins, %d rows", r.SignIns, r.Rows)
				if code != exitWell || r.Rows == 0 || r.Profiles == 0 {
					t.Errorf("exit code %d, %+v", code, r)
				}
			})
		})
	}
}

// Every field of an alert that is looked at is one whose change is noticed.
func TestEachFieldOfAnAlertIsComparedWithItsSignIn(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	query, err := oracle.New(oracle.Options{OpenFarEdge: true, MaxFuture: 15 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range in.b.ReadAll(in.flags["input"]) {
		query.Take(r.Value, r.Timestamp)
	}
	row := query.Rows()[slices.IndexFunc(query.Rows(), func(row oracle.Row) bool { return row.UPN == ada })]
	value := of(in.b.ReadAll(in.flags["alerts"]), ada).Value
	read := func(value []byte) (a alert) {
		if err := json.Unmarshal(value, &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := read(value); len(differences(&a, row)) > 0 {
		t.Fatalf("as it is: %v", differences(&a, row))
	}
	for path, other := range map[string]any{
		"schema": "prtwatch.alert/2", "id": "5", "status": "old", "severity": "low", "reason": "no_baseline", "time": "2026-11-23T10:14:03.1234567Z",
		"rule.id": "5", "user.upn": "ida@example.com", "user.tenant_id": "22222222-2222-4222-8222-222222222222",
		"source.ip": "203.0.113.8", "source.asn": 64500, "source.country": "BE", "resource.name": "Windows 365", "app.name": "Outlook", "user_agent": "Edge/2",
		"baseline.ips": 2, "baseline.asns": 0, "baseline.first_hour": "2026-11-23T10:00:00Z", "baseline.last_hour": nil, "baseline.evicted": 1,
		"late": true, "clamped": true,
	} {
		var all map[string]any
		if err := json.Unmarshal(value, &all); err != nil {
			t.Fatal(err)
		}
		object, field, nested := strings.Cut(path, ".")
		if nested {
			all[object].(map[string]any)[field] = other
		} else {
			all[object] = other
		}
		changed, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		a := read(changed)
		if wrong := differences(&a, row); len(wrong) != 1 || !strings.HasPrefix(wrong[0], "its "+path+" is") {
			t.Errorf("%s is %v: %q", path, other, wrong)
		}
	}
}

func TestAProfileThatWasNotSweptIsOverdueWhenADayHasPassed(t *testing.T) {
	const lateness, newest = 48, 490000
	span := int64(window + lateness)
	for _, c := range []struct {
		name           string
		written, event int64
		users          int
		delivery       string
		overdue        bool
	}{
		{"a day and an hour later", newest, newest + span + sweepWithin + 1, 1, exactlyOnce, true},
		{"a day later", newest, newest + span + sweepWithin, 1, exactlyOnce, false},
		{"written when it was too old already", newest + span + 100, newest + span + sweepWithin + 100, 1, exactlyOnce, false},
		{"written then, and event time went on for longer than it may be ahead", newest + span + 100, newest + span + sweepWithin + 100 + lateness + 1, 1, exactlyOnce, true},
		{"in a partition that takes more than one slice", newest, newest + span + sweepWithin + 1, sweepSlice + 1, exactlyOnce, false},
		{"at least once", newest, newest + span + sweepWithin + 1, 1, atLeastOnce, false},
	} {
		j := &judge{options: options{lateness: lateness * time.Hour, delivery: c.delivery}}
		if got := j.overdue(&history{newest: newest, written: c.written}, c.event, c.users); got != c.overdue {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// Of what compaction has taken away it is looked whether it may have been.
func TestAProfileOfWhomTheTopicHasNothingMoreMayBeOfAnExpiredUser(t *testing.T) {
	for _, c := range []struct {
		name                 string
		offset               int64
		expired, mayHaveBeen bool
		differs              bool
	}{
		{"swept since, and compacted", 5, true, true, false},
		{"a user who is not to be swept", 5, false, true, true},
		{"a profile that he never had", 5, true, false, true},
		{"below a checkpoint at the beginning", 0, true, true, true},
	} {
		r := &replay{
			topic:       &topicProfiles{replaces: (&options{}).replaces},
			mayHaveBeen: func(string, []byte) bool { return c.mayHaveBeen },
			expired:     func(string) bool { return c.expired },
		}
		if got := r.differences(c.offset, map[string][]byte{dan: {1}}); (len(got) > 0) != c.differs {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
