package detect

import (
	"testing"
	"time"
)

func TestOfManyRestoresThatCannotBeginOneIsNamed(t *testing.T) {
	two, three := progress{waits: "partition 2 waits"}, progress{waits: "partition 3 waits"}
	for _, test := range []struct {
		under restores
		want  string
	}{
		{restores{{end: 7}}, "restoring 1 partitions, 0 of 7 records read"},
		{restores{three, {end: 7}}, "restoring 2 partitions, 0 of 7 records read; partition 3 waits"},
		{restores{three, {end: 7}, two}, "restoring 3 partitions, 0 of 7 records read; partition 2 waits; so do 1 others"},
	} {
		if got := test.under.say(time.Now(), nil); got != test.want {
			t.Errorf("it says %q, want %q", got, test.want)
		}
	}
}
