package corpus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

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
	var before, after struct {
		Properties map[string]any
	}
	if err := errors.Join(json.Unmarshal(s.Record, &before), json.Unmarshal(rename(s.Record, 12), &after)); err != nil {
		t.Fatal(err)
	}
	upn := before.Properties["userPrincipalName"].(string)
	if got := after.Properties["userPrincipalName"]; got != Copy(12, upn) {
		t.Errorf("%v, not a copy of %s", got, upn)
	}
	if got := string(bytes.Replace(rename(s.Record, 12), []byte("c12."), nil, 1)); got != string(s.Record) {
		t.Error(got)
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
