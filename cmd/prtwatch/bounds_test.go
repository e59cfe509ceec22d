package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/tenant"
	"github.com/prtwatch/prtwatch/state"
)

// The sizes of messages that a broker takes by default.
const (
	largestMessage  = 1_000_000
	recordsInBatch  = 5000
	floodsAddresses = "flood@example.com"
	hot             = "hot@example.com"
)

// flood is two hours of a tenant under attack: a user whose addresses never come back, users who
// come once, and one who makes half of all the sign-ins. One in fifty can alert.
func flood(addresses, strangers int, start time.Time) (list []made) {
	n := addresses + strangers
	apart := 2 * time.Hour / time.Duration(2*n)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * apart) }
	for i := range n {
		s := made{id: fmt.Sprint("stranger", i), user: fmt.Sprintf("s%d@example.com", i), ip: "192.0.2.1", asn: "64496"}
		if i*addresses/n != (i+1)*addresses/n {
			s = made{id: fmt.Sprint("flood", i), user: floodsAddresses, ip: fmt.Sprintf("2001:db8::%x:%x", i>>16, i&0xffff), asn: "64500"}
		}
		s.at, s.fails = at(2*i), i%49 != 0
		switch {
		case s.fails:
		case i < n/2:
			s.ip, s.asn = fmt.Sprintf("203.0.113.%d", i%256), "64501"
		default: // in the second hour none of the first
			s.ip, s.asn = fmt.Sprintf("198.51.100.%d", i%256), "64502"
		}
		list = append(list, s, made{id: fmt.Sprint("hot", i), user: hot, ip: "192.0.2.7", asn: "64497", at: at(2*i + 1), fails: i%50 != 0})
	}
	return list
}

// A user with very many addresses, very many who come once, a user with half of all the traffic, a
// record as large as a message may be, and a message with as many records as there is room for: all are
// judged, no partition is stuck, and memory is bounded. What a user loses to his bounds is said
// by his alerts, and nobody else loses anything.
func TestAFloodIsJudgedInBoundedMemory(t *testing.T) {
	t.Parallel()
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		in := newInstallation(t, b)
		start := time.Now().Add(-5 * time.Hour).Truncate(time.Hour)
		list := flood(scaled(3000, 1_000_000), scaled(3000, 1_000_000), start)
		for len(list) > 0 {
			n := min(len(list), 200_000)
			in.write(list[:n], 500)
			list = list[n:]
		}
		in.writeLargest(start.Add(2*time.Hour + time.Minute))

		// At its full length there are many times the users that the cache has room for.
		i := in.start(t.TempDir(), "--set", "state.cache="+scaled("256MiB", "32MiB"))
		in.done()
		i.wantBoundedMemory(mostOfFew)
		i.stop()
		if got := in.splitIDs(); len(got) != len(in.ids) {
			t.Errorf("%d sign-ins were split, want %d", len(got), len(in.ids))
		}
		in.wantNoDeadLetters()
		c := in.compare()
		evicted := make(map[string]bool) // ids whose alert says that networks were given up
		for id, records := range c.alerts {
			var alert detector.Alert
			if err := json.Unmarshal(records[0].Value, &alert); err != nil {
				t.Fatal(err)
			}
			switch {
			case alert.User.UPN != floodsAddresses && alert.Baseline.Evicted > 0:
				t.Errorf("the alert for %s says that %s lost networks", id, alert.User.UPN)
			case alert.Baseline.Evicted > 0:
				evicted[id] = true
			}
		}
		if len(evicted) == 0 {
			t.Error("no alert says that networks were given up")
		}
		for _, id := range c.madeUp {
			if !evicted[id] {
				t.Errorf("the alert for %s is made up, and does not say that networks were given up", id)
			}
		}
		if len(c.missing)+len(c.repeated) > 0 || c.rows < 100 {
			t.Errorf("of %d rows %d are missing, %d came more than once", c.rows, len(c.missing), len(c.repeated))
		}
		t.Logf("%d sign-ins, %d rows, %d alerts say what was given up", in.made, c.rows, len(evicted))
	})
}

// writeLargest writes a record that fills a message, and a message of very many records.
func (in *installation) writeLargest(at time.Time) {
	in.t.Helper()
	large := made{id: "large", user: "large@example.com", ip: "203.0.113.5", asn: "64500", at: at}.record()
	pad := largestMessage - len(large) - 200
	large = append(bytes.TrimSuffix(large, []byte("}")), fmt.Appendf(nil, `,"ConditionalAccessPolicies":%q}`, strings.Repeat("policy ", pad/7))...)
	var many [][]byte
	for i := range recordsInBatch {
		// A record of each user's: as small as they get.
		many = append(many, fmt.Appendf(nil, `{"TimeGenerated":%q,"Id":"many%d","UserPrincipalName":"m%d@example.com","IPAddress":"203.0.113.%d","ResultType":%d,"ResourceDisplayName":"Windows 365"}`,
			at.UTC().Format(time.RFC3339), i, i%100, i%200, i%2))
		in.ids[fmt.Sprint("many", i)]++
	}
	in.ids["large"]++
	in.made += 1 + recordsInBatch
	for p, records := range [][][]byte{{large}, many} {
		message := tenant.Envelope(nil, records...)
		if len(message) > largestMessage {
			in.t.Fatalf("a message of %d bytes", len(message))
		}
		for _, record := range records {
			if err := in.query.Add(record); err != nil {
				in.t.Fatal(err)
			}
		}
		in.inputBroker.Produce(&kgo.Record{Topic: in.input, Partition: int32(p), Value: message, Timestamp: at})
	}
}

// An instance that comes with an empty folder restores what all the others have learned. What it takes for that
// does not grow with it.
func TestARestoreOfManyPartitionsTakesBoundedMemory(t *testing.T) {
	if raceDetected() {
		t.Skip("-race")
	}
	const partitions = 32
	perPartition := scaled(8<<20, 16<<20)
	b := brokertest.Fake(t)
	in := newInstallation(t, b)
	baseline := b.Name("many-profiles")
	in.config = append(in.config, "--set", "topics.partitions="+fmt.Sprint(partitions), "--set", "topics.signins="+b.Name("many-signins"),
		"--set", "topics.alerts="+b.Name("many-alerts"), "--set", "topics.baseline="+baseline)
	if got := prtwatch("", append([]string{"topics", "--create"}, in.config...)...); got.code != 0 {
		t.Fatalf("topics --create: %d %s", got.code, got.stderr)
	}
	profile := largeProfile(t)
	client := b.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedBytes(64<<20))
	for n := range partitions * perPartition / len(profile) {
		record := &kgo.Record{Topic: baseline, Partition: int32(n % partitions), Key: fmt.Appendf(nil, "user%d@example.com", n), Value: profile}
		client.Produce(t.Context(), record, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("producing: %v", err)
			}
		})
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	i := in.start(t.TempDir(), "--only", "detect", "--accept-loss")
	waitFor(t, "all partitions to be judged", func() bool {
		code, _ := get(t, "http://"+i.address()+"/readyz")
		return code == http.StatusOK
	})
	if got := i.metric("prtwatch_restore_records_total"); got < float64(partitions*(perPartition/len(profile))) {
		t.Errorf("%v records were restored", got)
	}
	i.wantBoundedMemory(mostOfFew)
	i.stop()
}

// largeProfile is the profile of a user with as many networks as one may have.
func largeProfile(t *testing.T) []byte {
	t.Helper()
	cfg := state.DefaultConfig()
	store, err := state.OpenTemporary(cfg, detector.Window, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	lease, err := store.Lease(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	now := detector.HourOf(time.Now())
	profile, err := lease.ProfileAt("", now)
	if err != nil {
		t.Fatal(err)
	}
	for ip := range cfg.MaxIPs {
		profile.See(fmt.Sprintf("2001:db8::%x", ip), fmt.Sprint(64496+ip%cfg.MaxASNs), now-int32(ip%300))
	}
	encoded, err := lease.Encoded("")
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}
