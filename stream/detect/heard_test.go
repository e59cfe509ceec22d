package detect

import (
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/prtwatch/prtwatch/stream/signins"
)

// Owners of a source take turns, each of them from what is committed on. What the earlier ones still have in
// the air arrives at any time; some of what an owner sends is refused, and then it commits no more. A transaction
// of the partition is kept or rolled back, and its owner replaced by one who knows the mark.
func TestNothingThatIsSplitIsLostNorJudgedTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		source := signins.Source{Number: 7, Partition: 3}
		type owner struct {
			air     []signins.Origin
			next    int64 // to be sent
			last    int64 // that was sent, -1 before one was
			landed  int64 // everything below has arrived
			refused bool
		}
		var (
			log       []signins.Origin
			committed int64
			owners    []*owner
			lossy     = rapid.Bool().Draw(t, "lossy")
		)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch what := rapid.IntRange(0, 9).Draw(t, "step"); {
			case len(owners) == 0 || what == 0:
				owners = append(owners, &owner{next: committed, last: -1, landed: committed})
			case what <= 4: // the active one sends one
				o := owners[len(owners)-1]
				origin := signins.Origin{Source: source, Place: signins.Place{Offset: o.next}}
				if o.last >= 0 {
					origin.After, origin.Follows = signins.Place{Offset: o.last}, true
				}
				o.last, o.next = o.next, o.next+1
				if lossy && rapid.IntRange(0, 4).Draw(t, "refused") == 0 {
					o.refused = true
				} else {
					o.air = append(o.air, origin)
				}
			case what <= 8: // some of what any has in the air arrives
				o := owners[rapid.IntRange(0, len(owners)-1).Draw(t, "whose")]
				if len(o.air) > 0 {
					log = append(log, o.air[0])
					o.landed = o.air[0].Place.Offset + 1
					o.air = o.air[1:]
				}
			default:
				if o := owners[len(owners)-1]; !o.refused {
					committed = max(committed, o.landed)
				}
			}
		}
		// The last owner splits all that is not committed, and is well.
		for at, last := committed, int64(-1); at < committed+40; at++ {
			origin := signins.Origin{Source: source, Place: signins.Place{Offset: at}}
			if last >= 0 {
				origin.After, origin.Follows = signins.Place{Offset: last}, true
			}
			log, last = append(log, origin), at
		}
		for _, o := range owners {
			log = append(log, o.air...)
		}

		judged, pending := make(map[int64]int), []int64(nil)
		var h heard
		for at, kept := 0, 0; at < len(log) || kept < len(log); {
			for range rapid.IntRange(1, 5).Draw(t, "records") {
				if at < len(log) {
					if h.takes(log[at], int64(at)) {
						pending = append(pending, log[at].Place.Offset)
					}
					at++
				}
			}
			switch rapid.IntRange(0, 3).Draw(t, "end") {
			case 0:
				h.rollback()
				pending, at = nil, kept
			case 1: // by the text that is committed with it
				h = heard{kept: parseHeard(heardText(h.all()))}
			default:
				h.keep()
			}
			for _, offset := range pending {
				judged[offset]++
			}
			pending, kept = nil, at
		}
		for offset := range committed + 40 {
			if n := judged[offset]; n == 0 || n > 1 && !lossy {
				t.Fatalf("what stands at %d was judged %d times: %v", offset, n, offsetsOf(log))
			}
		}
	})
}

func offsetsOf(log []signins.Origin) (offsets []int64) {
	for _, o := range log {
		offsets = append(offsets, o.Place.Offset)
	}
	return offsets
}

func TestAMarkHasWhatIsHeard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.MapOf(
			rapid.Custom(func(t *rapid.T) signins.Source {
				return signins.Source{Number: rapid.Uint32().Draw(t, "number"), Partition: rapid.Int32Min(0).Draw(t, "partition")}
			}),
			rapid.Custom(func(t *rapid.T) hearing {
				return hearing{place: signins.Place{Offset: rapid.Int64Min(0).Draw(t, "offset"), Index: rapid.Int32Min(0).Draw(t, "index")}}
			}),
		).Draw(t, "all")
		text := heardText(all)
		if len(text) > maxHeardBytes {
			t.Fatalf("%d sources are %d bytes", len(all), len(text))
		}
		if got := parseHeard(text); len(all) < 100 && !maps.Equal(got, all) {
			t.Fatalf("%v came as %v", all, got)
		}
	})
	for _, text := range []string{"", nothingHeard, "7:2", "A", "AAAAAAA", "////////////"} {
		if got := parseHeard(text); len(got) > 0 {
			t.Errorf("%q has %v", text, got)
		}
	}
}

// A partition hears of more sources than a mark has room for, as those of topics that were made again.
func TestOfManySourcesTheLastAreKnown(t *testing.T) {
	var h heard
	const many = 5000
	for n := range uint32(many) {
		source := signins.Source{Number: n, Partition: math.MaxInt32}
		h.takes(signins.Origin{Source: source, Place: signins.Place{Offset: math.MaxInt64, Index: math.MaxInt32}}, int64(n))
		h.keep()
	}
	if len(h.kept) > maxHeard {
		t.Errorf("%d are kept, want at most %d", len(h.kept), maxHeard)
	}
	text := heardText(h.all())
	known := parseHeard(text)
	if len(text) > maxHeardBytes || len(known) < 100 {
		t.Errorf("a mark has %d sources in %d bytes", len(known), len(text))
	}
	for s := range known {
		if int(s.Number) < many-len(known) {
			t.Errorf("source %d is known, of which others were heard since", s.Number)
		}
	}
	newest := slices.MaxFunc(slices.Collect(maps.Keys(known)), func(a, b signins.Source) int { return int(a.Number) - int(b.Number) })
	if newest.Number != many-1 {
		t.Errorf("the last that is known is %d", newest.Number)
	}
}
