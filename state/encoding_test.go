package state

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

// golden is a profile with something in every field.
func golden() *Profile {
	p := newProfile(&limits{window: 335, lateness: 48, maxIPs: 4, maxASNs: 2})
	for i, ip := range []string{"192.0.2.1", "2001:db8::1", "", "198.51.100.7", strings.Repeat("long ", 20), "203.0.113.9"} {
		p.See(ip, []string{"64500", "", "64511"}[i%3], 490_000+int32(i*i*7))
		p.See(ip, "64500", 490_000+int32(i))
	}
	p.Remember(alertID(1), 490_170)
	p.Remember(alertID(2), 490_001)
	return p
}

func TestVersion2ReadsAndWritesAsItAlwaysDid(t *testing.T) {
	const file = "testdata/profile-v2.hex"
	p := golden()
	got := hex.EncodeToString(p.appendTo(nil)) + "\n"
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the encoding changed: raise profileVersion and keep reading this one\ngot  %swant %s", got, want)
	}
	sameAsGolden(t, file)
}

func TestVersion1IsRead(t *testing.T) { sameAsGolden(t, "testdata/profile-v1.hex") }

func sameAsGolden(t *testing.T, file string) {
	p := golden()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	q, err := decodeProfile(data, p.limits)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := q.appendTo(nil), p.appendTo(nil); !bytes.Equal(got, want) {
		t.Errorf("it is written again as %x, want %x", got, want)
	}
	for _, to := range []int32{490_000, 490_036, 490_175, 490_400} {
		if got, want := answers(q, to-200, to), answers(p, to-200, to); got != want {
			t.Errorf("hour %d: got %s, want %s", to, got, want)
		}
	}
	if !q.Alerted(alertID(1)) || !q.Alerted(alertID(2)) || q.Evicted(490_175) == 0 {
		t.Error("alerts or evictions are lost")
	}
}

func TestAProfileOfAnotherVersionIsNamed(t *testing.T) {
	_, err := decodeProfile([]byte{9, 0, 0}, kql())
	if err == nil || !strings.Contains(err.Error(), "version 9") || !strings.Contains(err.Error(), "versions 1 and 2") {
		t.Errorf("got %v", err)
	}
}

func TestNarrowerLimitsDropWhatTheyNoLongerKeep(t *testing.T) {
	wide, narrow := &limits{window: 100, lateness: 100, maxIPs: 9, maxASNs: 9}, &limits{window: 50, lateness: 0, maxIPs: 9, maxASNs: 9}
	rapid.Check(t, func(t *rapid.T) {
		p, m := newProfile(wide), newModel(wide)
		for range rapid.IntRange(1, 30).Draw(t, "n") {
			ip, hour := genText.Draw(t, "ip"), genHour.Draw(t, "hour")
			p.See(ip, "64500", hour)
			m.see(ip, "64500", hour)
		}
		q, err := decodeProfile(p.appendTo(nil), narrow)
		if err != nil {
			t.Fatal(err)
		}
		m.window, m.lateness = 50, 0
		newest, _ := m.newest()
		m.expire(newest)
		if got, want := answers(q, newest-300, newest), m.answers(newest-300, newest); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

func TestACheckpointReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cp := Checkpoint{ClusterID: rapid.String().Draw(t, "cluster"), Partitions: rapid.Int32().Draw(t, "partitions"), Offset: rapid.Int64().Draw(t, "offset")}
		copy(cp.TopicID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "topic"))
		if rapid.Bool().Draw(t, "stamped") {
			cp.Timestamp = time.Unix(rapid.Int64Range(-1<<33, 1<<33).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		}
		got, err := decodeCheckpoint(cp.append(nil))
		if err != nil || got != cp {
			t.Fatalf("%+v reads back as %+v, %v", cp, got, err)
		}
		if _, err := decodeCheckpoint(cp.append(nil)[:rapid.IntRange(0, 19).Draw(t, "cut")]); err == nil {
			t.Fatal("a checkpoint that was cut reads")
		}
	})
}

func FuzzDecodingAProfileNeverPanicsAndWhatItAcceptsIsStable(f *testing.F) {
	l := &limits{window: 335, lateness: 48, maxIPs: 4, maxASNs: 2}
	f.Add(golden().appendTo(nil))
	f.Add(newProfile(l).appendTo(nil))
	f.Add(typical(l).appendTo(nil))
	f.Add([]byte{2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{2, 0, 0x30, 0, 0, 0, 1, 0x0e, 0x30}) // evicted, and nothing seen
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodeProfile(data, l)
		if err != nil {
			return
		}
		if n := p.size(); n > 4096+64*len(data) {
			t.Fatalf("%d bytes take %d of memory", len(data), n)
		}
		once := p.appendTo(nil)
		q, err := decodeProfile(once, l)
		if err != nil {
			t.Fatalf("%x is written as %x, which does not read: %v", data, once, err)
		}
		if twice := q.appendTo(nil); string(once) != string(twice) {
			t.Fatalf("%x then %x", once, twice)
		}
		p.See("192.0.2.1", "64500", p.newest)
		p.Counts(-1<<31, 1<<31-1)
	})
}

func FuzzDecodingACheckpointNeverPanics(f *testing.F) {
	f.Add(Checkpoint{ClusterID: "c", Offset: 7, Timestamp: time.Unix(1, 2)}.append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		cp, err := decodeCheckpoint(data)
		if err != nil {
			return
		}
		if again, err := decodeCheckpoint(cp.append(nil)); err != nil || again != cp {
			t.Fatalf("%+v reads back as %+v, %v", cp, again, err)
		}
	})
}
