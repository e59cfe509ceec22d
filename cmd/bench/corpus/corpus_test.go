package corpus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/oracle"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// kept is a Sink.
type kept struct {
	messages [][]byte
	times    []time.Time
	err      error
}

func (k *kept) Write(message []byte, newest time.Time) error {
	k.messages, k.times = append(k.messages, message), append(k.times, newest)
	return k.err
}

func (k *kept) Close(context.Context) error { return nil }

const samples = "../../../stream/entra/testdata/non_interactive_user_sign_in_logs.jsonl"

func TestACorpusIsTheHistoryOfItsTenant(t *testing.T) {
	var sink kept
	c, err := Make(context.Background(), Options{Users: 3, Seed: 7, Samples: samples}, &sink)
	if err != nil {
		t.Fatal(err)
	}
	// That the tenant goes on afterwards changes nothing before.
	made, err := tenant.New(tenant.Options{Users: 3, Days: Days, Seed: 7, Start: start})
	if err != nil {
		t.Fatal(err)
	}
	var packer tenant.Packer
	var want [][]byte
	signIns := 0
	for s, more := made.Next(); more; s, more = made.Next() {
		signIns++
		if message := packer.Add(s.Record); message != nil {
			want = append(want, message)
		}
	}
	want = append(want, packer.Flush())
	if !slices.EqualFunc(sink.messages, want, bytes.Equal) || c.SignIns != signIns || c.Messages != len(want) {
		t.Errorf("%d sign-ins in %d messages, not %d in %d", c.SignIns, c.Messages, signIns, len(want))
	}
	if !slices.IsSortedFunc(sink.times, time.Time.Compare) || len(c.Rows) == 0 {
		t.Errorf("%d rows, messages at %v", len(c.Rows), sink.times)
	}
}

func TestASinkThatFailsIsSaid(t *testing.T) {
	full := errors.New("it is full")
	if _, err := Make(context.Background(), Options{Users: 2, Samples: samples}, &kept{err: full}); !errors.Is(err, full) {
		t.Error(err)
	}
}

func TestACopyOfASignInDiffersByItsUserOnly(t *testing.T) {
	made, err := tenant.New(tenant.Options{Users: 1, Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := made.Next()
	renamed := rename(s.Record, Copy(12, made.UPN(0)))
	before, after := propertiesOf(t, s.Record), propertiesOf(t, renamed)
	if got := after["userPrincipalName"]; got != Copy(12, before["userPrincipalName"].(string)) {
		t.Errorf("%v, not a copy of %s", got, before["userPrincipalName"])
	}
	if got := string(bytes.Replace(renamed, []byte("c12."), nil, 1)); got != string(s.Record) {
		t.Error(got)
	}
}

func propertiesOf(t *testing.T, record []byte) map[string]any {
	t.Helper()
	var r struct{ Properties map[string]any }
	if err := json.Unmarshal(record, &r); err != nil {
		t.Fatal(err)
	}
	return r.Properties
}

func TestAUserComesFromAsManyNetworksAsHeIsGiven(t *testing.T) {
	made, err := tenant.New(tenant.Options{Users: 1, Rate: 1, Thefts: -1})
	if err != nil {
		t.Fatal(err)
	}
	const networks = 30
	c := &Corpus{networks: networks}
	asnOf := make(map[any]any)
	for range 50 * networks {
		s, _ := made.Next()
		settled := c.settle(s)
		before, after := propertiesOf(t, s.Record), propertiesOf(t, settled)
		if !bytes.Contains(settled, []byte(`"callerIpAddress":"`+after["ipAddress"].(string)+`"`)) {
			t.Fatalf("another address outside of the properties: %s", settled)
		}
		if asn, ok := after["autonomousSystemNumber"]; ok { // one in a hundred has none
			if known, ok := asnOf[after["ipAddress"]]; ok && known != asn {
				t.Fatalf("%v is in ASN %v, and in %v", after["ipAddress"], known, asn)
			}
			asnOf[after["ipAddress"]] = asn
		}
		for _, network := range []string{"ipAddress", "autonomousSystemNumber"} {
			delete(before, network)
			delete(after, network)
		}
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("more than the network changed: %v, not %v", after, before)
		}
		if again := c.settle(s); !bytes.Equal(again, settled) {
			t.Fatal("a sign-in that is delivered again comes from elsewhere")
		}
		s.Theft = 1
		if stolen := c.settle(s); !bytes.Equal(stolen, s.Record) {
			t.Fatal("a thief comes from a network of his victim")
		}
	}
	asns := make(map[any]bool)
	for _, asn := range asnOf {
		asns[asn] = true
	}
	if len(asnOf) != networks || len(asns) != 2 {
		t.Errorf("%d addresses in %d ASNs", len(asnOf), len(asns))
	}
}

func TestTheQueryJudgesTheFirstCopyAsItsUser(t *testing.T) {
	const count, hot = 3000, 2
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "present"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx := context.Background()
	address := cluster.ListenAddrs()[0]
	var past kept
	// Some hours long, so that what comes first is known to what comes later.
	c, err := Make(ctx, Options{Users: 3, Seed: 3, Days: 1, Rate: 0.25, Networks: 40, Judge: true}, &past)
	if err != nil {
		t.Fatal(err)
	}
	whose := make(map[string]string)
	judged, err := c.WritePresent(ctx, address, "present", count, func(n int, s tenant.SignIn) (copyNumber, user int) {
		copyNumber, user = int(Draw(s, "copy")%4), s.User
		if copyNumber == 3 {
			copyNumber, user = 0, hot
		}
		whose[s.ID] = Copy(copyNumber, c.made.UPN(user))
		return copyNumber, user
	})
	if err != nil {
		t.Fatal(err)
	}
	query, err := oracle.New(oracle.Options{OpenFarEdge: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range past.messages {
		if err := query.AddMessage(bytes.ReplaceAll(message, []byte(`"userPrincipalName":"`), []byte(`"userPrincipalName":"c0.`))); err != nil {
			t.Fatal(err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics("present"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	first, seen := 0, 0
	for seen < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			var message struct{ Records []json.RawMessage }
			if err := json.Unmarshal(r.Value, &message); err != nil {
				t.Fatal(err)
			}
			for _, record := range message.Records {
				seen++
				p := propertiesOf(t, record)
				upn := p["userPrincipalName"].(string)
				if want := whose[p["id"].(string)]; upn != want {
					t.Fatalf("a sign-in is %s's, not %s's", upn, want)
				}
				if _, ok := judged[p["id"].(string)]; ok != strings.HasPrefix(upn, "c0.") {
					t.Fatalf("%s: judged by the query: %t", upn, ok)
				} else if ok {
					first++
				}
				if err := query.Add(record); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	returned, all := 0, rows(query)
	for id, is := range judged {
		if is {
			returned++
		}
		if is != all[id] {
			t.Errorf("sign-in %s is a row: %t, not %t", id, is, all[id])
		}
	}
	if returned < 8 || returned > first/4 || first < count/3 {
		t.Errorf("%d of %d are rows", returned, first)
	}
}

func TestAHistoryIsAsLongAsAskedFor(t *testing.T) {
	var sink kept
	if _, err := Make(context.Background(), Options{Users: 3, Days: 2}, &sink); err != nil {
		t.Fatal(err)
	}
	last := sink.times[len(sink.times)-1]
	if end := start.AddDate(0, 0, 2); last.After(end) || last.Before(end.Add(-6*time.Hour)) {
		t.Errorf("the last sign-in is of %s", last)
	}
}

func TestLikenessComparesMessagesOfAsManyRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "samples")
	record := []byte(`{"a":"` + string(bytes.Repeat([]byte("x"), 992)) + `"}`) // 1,000 bytes
	if err := os.WriteFile(path, bytes.Repeat(append(bytes.Clone(record), '\n'), 4), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := newMeter(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 * sampled {
		m.add(record)
	}
	rows := m.result()
	if len(m.made) > sampled || len(m.made) < sampled/4 {
		t.Errorf("%d records were kept", len(m.made))
	}
	alike, made := rows[0], rows[1]
	if alike.Records != 4 || alike.Together != 4 || made.Together != 4 || alike.Size != 1000 || made.Size != 1000 ||
		alike.LZ4 < 10 || alike.LZ4 != made.LZ4 || alike.Zstd != made.Zstd {
		t.Errorf("%+v", rows)
	}
	if last := rows[2]; last.Together != tenant.MaxMessageBytes/1000 || last.LZ4 <= made.LZ4 {
		t.Errorf("%+v", last)
	}
}

func TestASampleFileThatHoldsNothingIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "samples")
	if _, err := newMeter(path); err == nil {
		t.Error("no error of a file that is not there")
	}
	if err := os.WriteFile(path, []byte("\n \n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := newMeter(path); err == nil {
		t.Error("no error of an empty file")
	}
}
