package detector

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestTheDefaultConfigurationIsTheQuerys(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := Config{
		Preset: "kql", Allowlist: []string{}, EventTime: "generated", Identity: "upn", MaxFuture: 15 * time.Minute, Grouping: "event",
		Resources: []string{"Microsoft Intune", "Microsoft Intune API", "Device Management", "Windows 365", "Microsoft Graph"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v", c)
	}
}

func TestEachWrongValueIsReportedWithItsKeyAndARemedy(t *testing.T) {
	for want, change := range map[string]func(*Config){
		`detection.preset: "hardened": this version does not have it yet; use kql`:    func(c *Config) { c.Preset = "hardened" },
		`detection.preset: "KQL": use kql`:                                            func(c *Config) { c.Preset = "KQL" },
		`detection.preset: "": use kql`:                                               func(c *Config) { c.Preset = "" },
		`detection.grouping: "episode": this version does not have it yet; use event`: func(c *Config) { c.Grouping = "episode" },
		`detection.grouping: "user": use event`:                                       func(c *Config) { c.Grouping = "user" },
		`detection.event_time: "arrived": use generated or created`:                   func(c *Config) { c.EventTime = "arrived" },
		`detection.identity: "id": use upn or upn_or_id`:                              func(c *Config) { c.Identity = "id" },
		`detection.max_future: -1s: use 0s or more, such as 15m`:                      func(c *Config) { c.MaxFuture = -time.Second },
		`detection.resources: []: nothing could ever alert; `:                         func(c *Config) { c.Resources = nil },
		`detection.resources[1]: "--": has no letter or digit; `:                      func(c *Config) { c.Resources[1] = "--" },
		`detection.resources[2]: "": has no letter or digit; `:                        func(c *Config) { c.Resources[2] = "" },
		`detection.resources[0]: " Intune": take the blanks around it away`:           func(c *Config) { c.Resources[0] = " Intune" },
		`detection.resources[0]: "Intune\xff": is not UTF-8`:                          func(c *Config) { c.Resources[0] = "Intune\xff" },
		`detection.allowlist[1]: " ": name a file, or leave the entry out`:            func(c *Config) { c.Allowlist = []string{"a.txt", " "} },
	} {
		c := DefaultConfig()
		change(&c)
		err := c.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if d, newErr := New(c); d != nil || newErr == nil || newErr.Error() != err.Error() {
			t.Errorf("New says %v, Validate %v", newErr, err)
		}
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	err := Config{MaxFuture: -1}.Validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%T holds no list", err)
	}
	var keys []string
	for _, err := range joined.Unwrap() {
		var p *Problem
		if !errors.As(err, &p) {
			t.Fatalf("%T is no Problem", err)
		}
		keys = append(keys, p.Key)
	}
	want := "detection.preset detection.event_time detection.identity detection.grouping detection.resources detection.max_future"
	if got := strings.Join(keys, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
