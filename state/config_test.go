package state

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTheDefaultsAreValid(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

func TestEveryProblemIsNamedAtOnceWithKeyValueAndRemedy(t *testing.T) {
	err := Config{Dir: " ", Cache: 1 << 20, Lateness: 90 * time.Minute, MaxIPs: 0, MaxASNs: 100_000}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		`state.dir is " ": it must name a folder; the default is ./prtwatch-state`,
		`state.cache is 1.0MiB: it must be at least 16MiB; the default is 256MiB`,
		`state.lateness is 1h30m0s: it must be whole hours from 0h to 336h; the default is 48h`,
		`state.max_ips is 0: it must be from 1 to 4000; the default is 500`,
		`state.max_asns is 100000: it must be from 1 to 1000; the default is 50`,
	}
	if got := strings.Split(err.Error(), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", err)
	}
}

func TestTheEdgesOfTheSectionAreValid(t *testing.T) {
	for _, edit := range []func(*Config){
		func(c *Config) { c.Lateness = 0 },
		func(c *Config) { c.Cache = minCache },
		func(c *Config) { c.MaxIPs, c.MaxASNs = 1, 1 },
	} {
		c := DefaultConfig()
		edit(&c)
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, edit := range []func(*Config){
		func(c *Config) { c.Lateness = -time.Hour },
		func(c *Config) { c.Cache = 1 << 63 },
	} {
		c := DefaultConfig()
		edit(&c)
		if c.Validate() == nil {
			t.Errorf("%+v is valid", c)
		}
	}
}

func TestASizeReadsBackFromItsText(t *testing.T) {
	for text, want := range map[string]ByteSize{"256MiB": 256 << 20, "1 GiB": 1 << 30, "512kib": 512 << 10, "1GB": 1_000_000_000, " 17 ": 17} {
		var got ByteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "much", "-1MiB", "1 parsec"} {
		var b ByteSize
		if err := b.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "256MiB") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if s := DefaultConfig().Cache.String(); s != "256MiB" {
		t.Errorf("the default is written %s", s)
	}
	rapid.Check(t, func(t *rapid.T) {
		want := ByteSize(rapid.Uint64().Draw(t, "size"))
		var got ByteSize
		if err := got.UnmarshalText([]byte(want.String())); err != nil || got != want {
			t.Fatalf("%s reads back as %d, %v", want, got, err)
		}
	})
}
