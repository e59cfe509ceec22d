package detector

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAnHourIsNamedByItsUpperEdge(t *testing.T) {
	for at, want := range map[string]string{
		"2026-11-23T10:00:00Z":                "2026-11-23T10:00:00Z",
		"2026-11-23T10:00:00.0000001Z":        "2026-11-23T11:00:00Z",
		"2026-11-23T10:14:03.1234567Z":        "2026-11-23T11:00:00Z",
		"2026-11-23T10:59:59.9999999Z":        "2026-11-23T11:00:00Z",
		"2026-11-23T10:14:03+05:30":           "2026-11-23T05:00:00Z",
		"1970-01-01T00:00:00Z":                "1970-01-01T00:00:00Z",
		"1969-12-31T23:59:59.9999999Z":        "1970-01-01T00:00:00Z",
		"1969-12-31T22:00:00Z":                "1969-12-31T22:00:00Z",
		"1969-12-31T22:00:00.0000001Z":        "1969-12-31T23:00:00Z",
		"0001-01-01T00:00:00Z":                "0001-01-01T00:00:00Z",
		"9999-12-31T22:59:59.999999999+00:00": "9999-12-31T23:00:00Z",
	} {
		parsed, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := formatHour(HourOf(parsed)); got != want {
			t.Errorf("%s lies in %s, want %s", at, got, want)
		}
	}
}

func TestEveryTimeLiesWithinItsHour(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-62135596800, 253402300799).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds"))
		upper := HourTime(HourOf(at))
		if at.After(upper) || !at.After(upper.Add(-time.Hour)) {
			t.Fatalf("%s is not in the hour up to %s", at, upper)
		}
	})
}
