package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// encode writes what decode reads.
func encode(p *profile) []byte {
	b := []byte{2, 0}
	if p.carried >= 0 {
		b[1] = 1
		b = binary.AppendUvarint(b, uint64(p.carried))
	}
	b = binary.AppendVarint(b, p.newest)
	b = encodeNetworks(b, p.newest, p.ips)
	b = encodeNetworks(b, p.newest, p.asns)
	b = binary.AppendUvarint(b, uint64(len(p.alerts)))
	for _, a := range p.alerts {
		b = binary.AppendVarint(b, p.newest-a.hour)
	}
	for _, a := range p.alerts {
		id, err := hex.DecodeString(strings.ReplaceAll(a.id, "-", ""))
		if err != nil {
			panic(err)
		}
		b = append(b, id...)
	}
	if p.evicted == 0 {
		return append(b, 0)
	}
	return binary.AppendUvarint(append(b, 1, 0), uint64(p.evicted)) // all in the newest hour
}

func encodeNetworks(b []byte, newest int64, list []network) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	var own []byte // of all keys
	before := ""
	for _, n := range list {
		key := n.key
		if addr, err := netip.ParseAddr(key); err == nil {
			key = map[bool]string{true: "\xfc", false: "\xfd"}[addr.Is4()] + string(addr.AsSlice())
		}
		common := 0
		for common < min(len(key), len(before)) && key[common] == before[common] {
			common++
		}
		b = append(b, byte(common), byte(len(key)-common))
		own = append(own, key[common:]...)
		before = key
	}
	b = append(b, own...)
	for _, n := range list {
		b = binary.AppendUvarint(b, uint64(newest-n.hours[0]))
	}
	for _, n := range list {
		var bitmap []byte
		for _, hour := range n.hours[1:] {
			k := int(n.hours[0] - 1 - hour)
			for len(bitmap) <= k/8 {
				bitmap = append(bitmap, 0)
			}
			bitmap[k/8] |= 1 << (k % 8)
		}
		b = append(binary.AppendUvarint(b, uint64(len(bitmap))), bitmap...)
	}
	return b
}

func TestProfilesAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	profiles := 0
	for _, r := range in.b.ReadAll(in.flags["baseline"]) {
		if r.Value == nil {
			continue
		}
		profiles++
		p, err := decode(r.Value)
		if err != nil {
			t.Fatalf("%s: %v", r.Key, err)
		}
		if again := encode(p); !bytes.Equal(again, r.Value) {
			t.Errorf("%s: %x, read and written again %x", r.Key, r.Value, again)
		}
		for i := range r.Value {
			if _, err := decode(r.Value[:i]); err == nil {
				t.Errorf("%s: the first %d of %d bytes were read", r.Key, i, len(r.Value))
			}
		}
		for what, damaged := range map[string][]byte{
			"a byte too many": append(bytes.Clone(r.Value), 0), "another version": append([]byte{1}, r.Value[1:]...), "unknown flags": append([]byte{2, 2}, r.Value[2:]...),
		} {
			if _, err := decode(damaged); err == nil {
				t.Errorf("%s: a profile with %s was read", r.Key, what)
			}
		}
	}
	if profiles == 0 {
		t.Error("there was no profile to read")
	}
}

// A state that lags has a profile that compaction has taken from the topic since.
func TestAProfileMayHaveBeenWhereAllThatIsInItWasSo(t *testing.T) {
	const ip, asn = "192.0.2.1", "64500"
	j := &judge{options: options{lateness: 48 * time.Hour}}
	j.taught = map[string]*taught{"ada": {
		ips:  map[string]map[int64]bool{ip: {1000: true, 1001: true, 1500: true}},
		asns: map[string]map[int64]bool{asn: {1000: true, 1001: true, 1500: true}},
	}}
	of := func(newest int64, hours ...int64) []byte {
		slices.Reverse(hours)
		return encode(&profile{newest: newest, ips: []network{{key: ip, hours: hours}}, asns: []network{{key: asn, hours: hours}}})
	}
	for _, c := range []struct {
		name  string
		user  string
		value []byte
		may   bool
	}{
		{"as it is now", "ada", of(1500, 1500), true},
		{"as it was before the newest sign-in", "ada", of(1001, 1000, 1001), true},
		{"as it was at the first one", "ada", of(1000, 1000), true},
		{"with an hour that he never had", "ada", of(1002, 1001, 1002), false},
		{"with an hour that is too old to be kept", "ada", of(1500, 1000, 1500), false},
		{"of nobody", "bob", of(1000, 1000), false},
		{"no profile", "ada", []byte{9}, false},
	} {
		if got := j.mayHaveBeen(c.user, c.value); got != c.may {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
