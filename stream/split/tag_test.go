package split

import (
	"math"
	"math/big"
	"strings"
	"testing"
)

func TestATagSaysWhatWasCommittedAndNothingElseDoes(t *testing.T) {
	many := beginning{4000, new(big.Int).Lsh(big.NewInt(1), 4000)}.with(7)
	for _, want := range []tag{
		{"0a", beginning{3, big.NewInt(5)}, topics(nil).with("a", "b"), "upn/32", 9},
		{"", beginning{1, new(big.Int)}, nil, "/1", math.MaxUint32},
		{strings.Repeat("f", 32), many, topics(nil).with("raw"), "upn_or_id/1024", 1},
	} {
		text := want.text(7)
		if got, ours := parseTag(text, 7); !ours || got.text(7) != text || got.id != want.id || got.keying != want.keying || got.topics.String() != want.topics.String() || got.source != want.source || got.beginning.String() != want.beginning.String() {
			t.Errorf("%q says %+v, %v, want %+v", text, got, ours, want)
		}
		if len(text) > 4096 {
			t.Errorf("%d bytes are more than brokers take", len(text))
		}
		if _, ours := parseTag(text, 6); ours {
			t.Errorf("beside another offset %q is ours", text)
		}
	}
	for _, text := range []string{
		"", "an operator's", "prtwatch/1 ", "0a 3 5 - upn/4 9 7", "prtwatch/2 0a 3 5 - upn/4 9 7",
		"prtwatch/1 0a 3 5 upn/4 9 7", "prtwatch/1 0a 3 9 7", "prtwatch/1 0a 3 9", "prtwatch/1 0a", // what once was written
		"prtwatch/1 0a 3 5 - upn/4 9 7 7", "prtwatch/1 0a 3 5 9 7", "prtwatch/1 0a 3  5 - upn/4 9 7", "prtwatch/1 0a 0 5 - upn/4 9 7", "prtwatch/1 0a -3 5 - upn/4 9 7", "prtwatch/1 0a 3 -5 - upn/4 9 7", "prtwatch/1 0a 3 5g - upn/4 9 7",
		"prtwatch/1 0a 3 05 - upn/4 9 7", "prtwatch/1 0a 3 5 - upn/4 -9 7", "prtwatch/1 0a 3 5 - upn/4 9 +7", "prtwatch/1 0a 4294967299 5 - upn/4 9 7",
	} {
		if got, ours := parseTag(text, 7); ours {
			t.Errorf("%q is ours, and says %+v", text, got)
		}
	}
}
