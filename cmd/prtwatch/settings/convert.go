package settings

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// value is what a source gives for a key, before its type is known: a text or a list of
// texts.
type value struct {
	text   string
	list   []string
	isList bool
}

// shown is the value for an error: empty where the key may hold a secret.
func (v value) shown(key string) string {
	switch {
	case !shownKeys[key]:
		return "..."
	case v.isList:
		return strings.Join(v.list, ",")
	}
	return v.text
}

// listOf reads the comma-separated list of the environment and --set. Empty is the empty
// list.
func listOf(text string) value {
	list := []string{}
	if strings.TrimSpace(text) != "" {
		for part := range strings.SplitSeq(text, ",") {
			list = append(list, strings.TrimSpace(part))
		}
	}
	return value{list: list, isList: true}
}

// convertText assigns the text to out by out's type. shown stands for the text in errors.
func convertText(out reflect.Value, text, shown string) error {
	if u, ok := out.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	if out.Type() == reflect.TypeFor[time.Duration]() {
		d, err := parseDuration(text)
		out.SetInt(int64(d))
		return err
	}
	switch out.Kind() {
	case reflect.String:
		out.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", shown)
		}
		out.SetBool(text == "true")
	case reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, out.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number, such as 32", shown)
		}
		out.SetInt(n)
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number, such as 0.5", shown)
		}
		out.SetFloat(x)
	default:
		panic(fmt.Sprintf("BUG: a key of type %s cannot be read", out.Type()))
	}
	return nil
}

// parseDuration reads a duration, which needs a unit: 5 could be anything.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, nil
	}
	if _, notNumber := strconv.ParseFloat(text, 64); notNumber == nil {
		return 0, fmt.Errorf("%q has no unit: write %ss if seconds are meant (units: ms, s, m, h)", text, text)
	}
	return 0, fmt.Errorf("%q is not a duration, such as 5s (units: ms, s, m, h)", text)
}

// formatDuration writes 48h rather than 48h0m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
