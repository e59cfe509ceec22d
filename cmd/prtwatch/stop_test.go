package main

import (
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// What a stop says of what it leaves to others.
const (
	saysUnconfirmed = "stopping before the brokers have confirmed what was in hand"
	saysUnlanded    = "handing partitions over before all is acknowledged"
	saysStaying     = "leaving the group"
)

// fate is what becomes of the brokers when a request of theirs is held.
type fate int

const (
	well fate = iota // but for that kind of requests, and what is behind them on their connections
	mute             // nothing is answered
	gone             // nothing listens
)

// brokenStop is a stop at which the brokers leave requests of a kind unanswered.
type brokenStop struct {
	name  string
	held  kmsg.Key
	then  fate
	loose bool // delivery is at least once
	says  []string
}

// The brokers answer no request of a kind any more; or nothing at all. Whatever the instance has in
// hand then, it ends in time with exit code 0 and says what it leaves to the next one, who makes up
// for it.
func TestAStopEndsInTimeWhateverTheBrokersLeaveUnanswered(t *testing.T) {
	t.Parallel()
	some := []brokenStop{
		{"a goodbye", kmsg.LeaveGroup, well, false, []string{saysStaying}},
		{"the end of a transaction, and then anything", kmsg.EndTxn, mute, false, []string{saysUnconfirmed, saysStaying}},
		{"offsets without transactions", kmsg.OffsetCommit, well, true, nil},
	}
	more := []brokenStop{
		{"the end of a transaction", kmsg.EndTxn, well, false, []string{saysUnconfirmed}},
		{"the end of a transaction, and the brokers go", kmsg.EndTxn, gone, false, []string{saysUnconfirmed, saysStaying}},
		{"the offsets of a transaction", kmsg.TxnOffsetCommit, well, false, []string{saysUnconfirmed}},
		{"what is produced", kmsg.Produce, well, false, []string{saysUnlanded}},
		{"what is produced, and then anything", kmsg.Produce, mute, false, []string{saysUnlanded, saysStaying}},
		{"the offsets of the input", kmsg.OffsetCommit, well, false, nil},
		{"offsets without transactions, and then anything", kmsg.OffsetCommit, mute, true, []string{saysStaying}},
	}
	for _, test := range scaled(some, append(some, more...)) {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			brokertest.Each(t, test.run)
		})
	}
}

func (s *brokenStop) run(t *testing.T, b *brokertest.Broker) {
	in := newInstallation(t, b)
	if s.loose {
		in.config = append(in.config, "--set", "delivery=at-least-once")
	}
	in.fillWith(busy())
	p := newProxy(t, b)
	held := p.holdAfter(in.random.IntN(2), s.held)
	i := in.start(t.TempDir(), "--set", "kafka.brokers="+p.addr())
	if s.held == kmsg.LeaveGroup {
		in.done()
	} else {
		held.wait(t)
	}
	rest := held
	switch s.then {
	case mute:
		rest = p.holdAll()
	case gone:
		p.close()
	}
	i.stop()
	for _, line := range s.says {
		if !strings.Contains(i.log.String(), line) {
			t.Errorf("it does not say %q", line)
		}
	}
	held.drop()
	rest.drop()
	in.wantTheRest(s.loose)
}

// wantTheRest starts another instance, and checks that all is right once it has judged the rest.
func (in *installation) wantTheRest(loose bool) {
	in.t.Helper()
	next := in.start(in.t.TempDir())
	next.says("running")
	in.done()
	next.stop()
	if loose {
		in.wantEveryRow()
	} else {
		in.wantTheQuerysRows()
	}
}

// Somebody has a transaction open on the baseline topic, so that the restore waits in its middle.
func TestAStopEndsInTimeInTheMiddleOfARestore(t *testing.T) {
	longOnly(t)
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		in.fillWith(busy())
		before := in.start(t.TempDir())
		in.done()
		before.stop()
		baseline := b.Name("baseline")
		partition := b.ReadAll(baseline)[0].Partition
		ends, err := b.Admin().ListEndOffsets(t.Context(), baseline)
		if err != nil {
			t.Fatal(err)
		}
		end, _ := ends.Lookup(baseline, partition)
		writer := b.Client(kgo.TransactionalID(b.Name("stranger")), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err := writer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := writer.ProduceSync(t.Context(), &kgo.Record{Topic: baseline, Partition: partition, Key: []byte("stranger")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		p := newProxy(t, b)
		held := p.holdFetches(baseline, partition, end.Offset)
		i := in.start(t.TempDir(), "--set", "kafka.brokers="+p.addr())
		held.wait(t)
		rest := p.holdAll()
		i.stop()
		held.drop()
		rest.drop()
		if err := writer.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
		in.wantTheRest(false)
	})
}

// The client asks for a producer's id when it begins a transaction, for as long as it lives.
func TestAStopEndsInTimeThoughNoTransactionCanBegin(t *testing.T) {
	longOnly(t)
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		in.fillWith(busy())
		splitting := in.start(t.TempDir(), "--only", "split")
		in.split(in.made)
		splitting.stop()
		p := newProxy(t, b)
		held := p.holdAfter(0, kmsg.InitProducerID)
		i := in.start(t.TempDir(), "--only", "detect", "--set", "kafka.brokers="+p.addr())
		waitFor(t, "it to judge something", func() bool { return i.metric("prtwatch_detect_lag_timestamp_seconds") > 0 })
		i.stop()
		if !strings.Contains(i.log.String(), saysUnconfirmed) {
			t.Errorf("it does not say %q", saysUnconfirmed)
		}
		held.drop()
		in.wantTheRest(false)
	})
}

// While a client waits for the group to join it commits nothing, and the group may wait for a member
// that is dead until its session is over.
func TestAStopEndsInTimeWhileATransactionWaitsForARebalance(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		in.fillWith(busy())
		splitter := newProxy(t, b)
		half := splitter.holdProduces(in.signs, in.made/2)
		splitting := in.startAt(in.b.Door(), t.TempDir(), "--only", "split", "--set", "kafka.brokers="+splitter.addr())
		half.wait(t)
		p := newProxy(t, b)
		i := in.start(t.TempDir(), "--only", "detect", "--set", "kafka.brokers="+p.addr())
		i.says("partitions assigned")
		waitFor(t, "it to judge what is there", func() bool { return atEnd(b, in.signs, b.Name("detect")) })

		wrote := make(chan struct{})
		write := sync.OnceFunc(func() { close(wrote) })
		joining := p.hold(func(r kmsg.Request) bool {
			if kmsg.Key(r.Key()) == kmsg.Produce {
				write()
			}
			return kmsg.Key(r.Key()) == kmsg.JoinGroup
		})
		other := in.start(t.TempDir(), "--only", "detect")
		joining.wait(t)
		half.end()
		<-wrote
		i.stop()
		if !strings.Contains(i.log.String(), saysUnconfirmed) {
			t.Errorf("it does not say %q", saysUnconfirmed)
		}
		joining.drop()
		in.done()
		splitting.stop()
		other.stop()
		in.wantTheQuerysRows()
	})
}
