package split

import (
	"strings"
	"testing"
	"time"
)

func TestEveryProblemOfTheSectionIsNamed(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults are wrong: %v", err)
	}
	err := Config{MergeWait: time.Hour}.Validate()
	for _, key := range []string{"split.group", "split.merge_wait"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
	longest := DefaultConfig()
	longest.MergeWait = 10 * time.Minute // a broker's restart
	if err := longest.Validate(); err != nil {
		t.Error(err)
	}
	longest.MergeWait++
	if longest.Validate() == nil {
		t.Errorf("a merge_wait of %v is accepted", longest.MergeWait)
	}
	if _, err := ParseStart("yesterday"); err == nil || !strings.Contains(err.Error(), `input.start: "yesterday"`) {
		t.Errorf("input.start yesterday: %v", err)
	}
}
