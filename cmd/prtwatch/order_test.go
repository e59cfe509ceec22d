package main

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/tenant"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// busy is a tenant small enough for a catch-up in a test, with a backlog of many fetches.
func busy() tenant.Options {
	return tenant.Options{Users: scaled(10, 60), Days: 16, Thefts: 60}
}

// through has the instances read the input through a proxy.
func (in *installation) through() *proxy {
	p := newProxy(in.t, in.inputBroker)
	in.config = append(in.config, in.inputAt(p.addr())...)
	return p
}

// end is where a partition of the input ends.
func (in *installation) end(partition int32) int64 {
	in.t.Helper()
	ends, err := in.inputBroker.Admin().ListEndOffsets(context.Background(), in.input)
	if err != nil {
		in.t.Fatal(err)
	}
	end, _ := ends.Lookup(in.input, partition)
	return end.Offset
}

// ghosts writes messages to the end of a partition in a transaction that is aborted.
func (in *installation) ghosts(partition int32) {
	in.t.Helper()
	client := in.inputBroker.Client(kgo.TransactionalID(in.b.Name("ghosts")), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(10*time.Millisecond))
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		in.t.Fatal(err)
	}
	for i := range 20 {
		r := &kgo.Record{Topic: in.input, Partition: partition, Key: fmt.Append(nil, "ghost", i), Value: in.ghost(), Timestamp: in.newest}
		if err := client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			in.t.Fatal(err)
		}
	}
	if err := client.EndTransaction(context.Background(), kgo.TryAbort); err != nil {
		in.t.Fatal(err)
	}
}

// ghost is a message of a sign-in that nobody may see: it would alert.
func (in *installation) ghost() []byte {
	return tenant.Envelope(nil, fmt.Appendf(nil, `{"TimeGenerated":%q,"Id":"ghost","UserPrincipalName":"ghost@example.com",`+
		`"IPAddress":"203.0.113.66","AutonomousSystemNumber":"64500","ResultType":"0","ResourceDisplayName":"Microsoft Graph"}`,
		in.newest.Format(time.RFC3339Nano)))
}

// stalls lets the instance split until nothing was split for as long as a stall takes.
func (i *instance) stalls(d time.Duration) {
	i.t.Helper()
	at, since := i.metric("prtwatch_split_messages_total"), time.Now()
	waitFor(i.t, fmt.Sprintf("nothing to be split for %s", d), func() bool {
		if n := i.metric("prtwatch_split_messages_total"); n != at {
			at, since = n, time.Now()
		}
		return time.Since(since) >= d
	})
}

// One partition is a hundred times smaller than another, one stalls in the middle of the
// catch-up, and two end in what nobody can read: aborted records, and records that compaction
// has taken away.
func TestACatchUpThroughAStallAndTailsOfNothingGivesTheQuerysRows(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		const stalled, aborted, compacted = 1, 5, 6
		in := newInstallation(t, b)
		in.keyed = true
		in.fillWith(busy())
		in.forget(compacted)
		in.ghosts(aborted)
		p := in.through()
		stall, took := p.holdFetches(in.input, stalled, in.end(stalled)/2), scaled(time.Second, time.Minute)
		const mergeWait = 2 * time.Minute

		began := time.Now()
		i := in.start(t.TempDir(), "--set", "split.merge_wait="+mergeWait.String())
		stall.wait(t)
		i.stalls(took)
		if n := int(i.metric("prtwatch_split_sign_ins_total")); n < in.made/10 || n > in.made*9/10 {
			t.Errorf("%d of %d sign-ins were split before the stall: it is not in the middle", n, in.made)
		}
		stall.end()
		in.done()
		t.Logf("%.0f sign-ins a second, the stall left out", float64(in.made)/(time.Since(began)-took).Seconds())
		if n := i.metric("prtwatch_split_merge_waits_total"); n != 0 {
			t.Errorf("a partition was waited for in vain %v times", n)
		}
		// No speed of its own: for how long it waited beside the stall, of which most is its start.
		if waited := i.metric("prtwatch_split_merge_wait_seconds_total"); waited < took.Seconds()/2 || waited > took.Seconds()+30 {
			t.Errorf("nothing was split for %.1f s, want the %s of the stall and little else", waited, took)
		}
		i.wantBoundedMemory(mostOfFew)
		i.stop()
		in.wantTheQuerysRows()
	})
}

// forget ends a partition in records that compaction takes away, tombstones among them, and
// what is appended to have them taken away: records of transactions that are aborted.
func (in *installation) forget(partition int32) {
	in.t.Helper()
	end := in.end(partition)
	for range 30 {
		in.inputBroker.Produce(&kgo.Record{Topic: in.input, Partition: partition, Key: []byte("ghost"), Value: in.ghost(), Timestamp: in.newest})
	}
	in.inputBroker.Produce(&kgo.Record{Topic: in.input, Partition: partition, Key: []byte("ghost"), Timestamp: in.newest})
	compact(in.t, in.inputBroker, in.input, func() { in.ghosts(partition) }, func() bool {
		for _, r := range in.inputBroker.ReadAll(in.input) {
			if r.Partition == partition && r.Offset >= end {
				return false
			}
		}
		return true
	})
}

// A partition that stalls for longer than merge_wait is not waited for, once for each time that it
// has nothing to show; what it holds comes late, and that is counted. Late sign-ins are judged on what
// is known by then: rows are never missing, and never doubled.
func TestAStallBeyondMergeWaitIsCountedAndLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		const stalled = 1
		in := newInstallation(t, b)
		in.fillWith(busy())
		p := in.through()
		stall, mergeWait := p.holdFetches(in.input, stalled, in.end(stalled)/2), scaled(200*time.Millisecond, 5*time.Second)
		i := in.start(t.TempDir(), "--set", "split.merge_wait="+mergeWait.String())
		stall.wait(t)
		waitFor(t, "the other partitions to be read to their ends", func() bool { return in.splitBut(stalled) })
		stall.end()
		in.done()
		waits, waited := i.metric("prtwatch_split_merge_waits_total"), i.metric("prtwatch_split_merge_wait_seconds_total")
		// Not all that is waited for is in vain: most of the rest is its start.
		if most := waits*mergeWait.Seconds() + 30; waits < 1 || waited < mergeWait.Seconds() || waited > most {
			t.Errorf("%v waits in vain are counted, and %.1f s of waiting, want up to %.1f s", waits, waited, most)
		}
		i.says("did not bring it within merge_wait")
		t.Logf("%v waits in vain, %.1f s; %v sign-ins were late", waits, waited, i.metric("prtwatch_signins_late_total"))
		i.wantBoundedMemory(mostOfFew)
		i.stop()
		if c := in.compare(); len(c.missing)+len(c.repeated) > 0 {
			t.Errorf("of %d rows %d are missing, %d came more than once", c.rows, len(c.missing), len(c.repeated))
		}
		in.wantNoDeadLetters()
		if got := in.splitIDs(); !maps.Equal(got, in.ids) {
			t.Errorf("%d sign-ins were split, not each of %d as often as it was written", len(got), len(in.ids))
		}
	})
}

// The active splitter is killed in the midst of its work, at moments of chance: of what it wrote since its
// last commit some has arrived and is split again, some is in the air and never arrives. Every other
// time it has committed all that has arrived, and must not have committed more. The standby takes over, and in
// the end nobody can tell.
func TestASplitterKilledAgainAndAgainInACatchUpGivesTheQuerysRows(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		in.fillWith(busy())
		p := in.through()
		in.config = append(in.config, "--set", "kafka.brokers="+p.addr())
		kills, turn := scaled(1, 6), in.random.IntN(2)
		// It reads nothing before the standby is there: else it would have done its work, and committed it.
		gate, dirs := p.holdTopic(in.input), [2]string{t.TempDir(), t.TempDir()}
		active := in.start(dirs[0])
		active.says("splitting")
		standby := in.start(dirs[1])
		for k := range kills {
			standby.says("partitions assigned")
			air := p.holdProduces(in.signs, in.made/20+in.random.IntN(in.made/(2*kills)))
			gate.end()
			air.wait(t)
			if (k+turn)%2 == 1 {
				active.stalls(1500 * time.Millisecond) // it commits each second
			}
			active.kill()
			gate = p.holdTopic(in.input)
			air.drop()
			standby.says("splitting")
			active, standby = standby, in.start(dirs[k%2])
		}
		gate.end()
		in.done()
		active.wantBoundedMemory(mostOfFew)
		active.stop()
		standby.stop()
		in.wantTheQuerysRows()
		split, again, missing := in.splitIDs(), 0, 0
		for id, n := range in.ids {
			again += max(0, split[id]-n)
			missing += max(0, n-split[id])
		}
		t.Logf("%d of %d sign-ins were split again", again, in.made)
		if missing > 0 {
			t.Errorf("%d sign-ins are missing from the sign-ins topic", missing)
		}
		if again == 0 && kills > 1 { // a single one may have met the moment after a commit
			t.Error("all that had arrived was committed each time: it was not killed in the midst of its work")
		}
	})
}

// splitBut reports whether the splitting group has committed all of the input but a partition.
func (in *installation) splitBut(but int32) bool {
	committed, err := in.inputBroker.Admin().FetchOffsets(context.Background(), in.b.Name("split"))
	if err != nil {
		return false
	}
	for p := range int32(inputPartitions) {
		if at, ok := committed.Lookup(in.input, p); p != but && (!ok || at.At < in.end(p)) {
			return false
		}
	}
	return true
}

// splitIDs counts the sign-ins in the sign-ins topic by their ids.
func (in *installation) splitIDs() map[string]int {
	in.t.Helper()
	ids := make(map[string]int)
	var s detector.SignIn
	for _, r := range in.b.ReadAll(in.signs) {
		if _, ok := signins.ControlOf(r.Headers); ok {
			continue
		}
		if err := signins.Decode(r.Value, &s); err != nil {
			in.t.Fatal(err)
		}
		ids[strings.Clone(s.ID)]++
	}
	return ids
}

// compact has a topic compacted until what is to be gone is gone. A broker leaves the newest
// segment as it is, and takes tombstones away when it comes by for the second time: roll
// appends something.
func compact(t *testing.T, b *brokertest.Broker, topic string, roll func(), gone func() bool) {
	t.Helper()
	settings := []kadm.AlterConfig{{Name: "cleanup.policy", Value: kadm.StringPtr("compact")}}
	for _, s := range []string{"min.cleanable.dirty.ratio", "delete.retention.ms"} {
		settings = append(settings, kadm.AlterConfig{Name: s, Value: kadm.StringPtr("0")})
	}
	settings = append(settings, kadm.AlterConfig{Name: "segment.ms", Value: kadm.StringPtr("1")})
	altered, err := b.Admin().AlterTopicConfigs(context.Background(), settings, topic)
	if err == nil {
		_, err = altered.On(topic, nil)
	}
	if err != nil {
		t.Fatalf("setting up topic %s: %v", topic, err)
	}
	var rolled time.Time
	waitFor(t, "topic "+topic+" to be compacted", func() bool {
		if time.Since(rolled) > time.Second {
			roll()
			rolled = time.Now()
			if !b.Real() {
				b.Embedded().Cluster.Compact()
			}
		}
		return gone()
	})
}
