package round

import "testing"

func TestAVerdictThatWouldBeWellOfAnythingIsTold(t *testing.T) {
	whole := func(change func(map[string]any)) map[string]any {
		raw := map[string]any{"ok": true, "sign_ins": 1000.0, "rows": 7.0, "profiles": 60.0}
		change(raw)
		return raw
	}
	for name, test := range map[string]struct {
		verdict Verdict
		empty   bool
	}{
		"a whole one":          {Verdict{Raw: whole(func(map[string]any) {})}, false},
		"a whole one, wrong":   {Verdict{Wrong: true, Raw: whole(func(raw map[string]any) { raw["ok"] = false })}, false},
		"an empty object":      {Verdict{Raw: map[string]any{}}, true},
		"well with exit 1":     {Verdict{Wrong: true, Raw: whole(func(map[string]any) {})}, true},
		"fewer than written":   {Verdict{Raw: whole(func(raw map[string]any) { raw["sign_ins"] = 999.0 })}, true},
		"a query without rows": {Verdict{Raw: whole(func(raw map[string]any) { raw["rows"] = 0.0 })}, true},
		"no profiles":          {Verdict{Raw: whole(func(raw map[string]any) { delete(raw, "profiles") })}, true},
	} {
		if why := test.verdict.empty(1000); (why != "") != test.empty {
			t.Errorf("%s: %q", name, why)
		}
	}
}
