package detect

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// Owners of a source take turns, each of them from what is committed on. What the earlier ones still have in
// the air arrives at any time; some of what an owner sends is refused, and then it commits no more. A transaction
// of the partition is kept or rolled back, and its owner replaced by one who knows the mark. Others are heard of
// amid it, of which one or more is too many for the mark. What is left out is so for an owner too who is never
// replaced, and keeps all in one transaction.
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
			crowded   = rapid.Bool().Draw(t, "crowded")
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
			case what == 5 && crowded:
				other := signins.Source{Number: 8, Partition: rapid.Int32Range(0, 4).Draw(t, "other")}
				log = append(log, signins.Origin{Source: other, Place: signins.Place{Offset: int64(len(log))}})
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

		judged, pending := make(map[int64]int), []signins.Origin(nil)
		const room = 4 * 9 // of entries
		h, always := hears("", room), hears("", room)
		for at, kept := 0, 0; at < len(log) || kept < len(log); {
			for range rapid.IntRange(1, 5).Draw(t, "records") {
				if at < len(log) {
					if h.takes(log[at]) {
						pending = append(pending, log[at])
					}
					at++
				}
			}
			switch rapid.IntRange(0, 3).Draw(t, "end") {
			case 0:
				h.rollback()
				pending, at = nil, kept
			case 1: // by the text that is committed with it
				h = hears(h.text(), room)
			default:
				h.keep()
			}
			for _, o := range pending {
				if o.Source == source {
					judged[o.Place.Offset]++
				}
			}
			took := slices.DeleteFunc(slices.Clone(log[kept:at]), func(o signins.Origin) bool { return !always.takes(o) })
			if !slices.Equal(pending, took) {
				t.Fatalf("%v were judged, and %v by who is never replaced", offsetsOf(pending), offsetsOf(took))
			}
			pending, kept = nil, at
		}
		for offset := range committed + 40 {
			if n := judged[offset]; n == 0 || n > 1 && !lossy && !crowded {
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
	places := rapid.Custom(func(t *rapid.T) signins.Place {
		return signins.Place{Offset: rapid.Int64Min(0).Draw(t, "offset"), Index: rapid.Int32Min(0).Draw(t, "index")}
	})
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 400).Draw(t, "limit")
		h := hears("", limit)
		for range rapid.IntRange(0, 60).Draw(t, "sign-ins") {
			h.takes(signins.Origin{
				Source: signins.Source{Number: rapid.Uint32Max(2).Draw(t, "number"), Partition: rapid.Int32Min(0).Draw(t, "partition")},
				Place:  places.Draw(t, "place"), After: places.Draw(t, "after"), Follows: rapid.Bool().Draw(t, "follows"),
			})
		}
		if raw, _ := base64.RawStdEncoding.DecodeString(h.text()); len(raw) > limit {
			t.Fatalf("%d bytes are in a mark that has room for %d", len(raw), limit)
		}
		if got, want := hears(h.text(), limit).all(), h.all(); !slices.Equal(got, want) {
			t.Fatalf("%v came as %v", want, got)
		}
	})
	for _, text := range []string{"", nothingHeard, "7:2", "A", "AAAAAAA", "AAAAAAAA", "////////////"} {
		if got := parseHeard(text); len(got) > 0 {
			t.Errorf("%q has %v", text, got)
		}
	}
}

// all is all that is known, what was heard of last first.
func (h *heard) all() (all []hearing) {
	for e := h.newest.Front(); e != nil; e = e.Next() {
		all = append(all, *e.Value.(*hearing))
	}
	return all
}

// A broker takes marks of 4,096 bytes where nobody has told it otherwise, and of other sources than those that
// were heard of last there is no trace.
func TestOfManySourcesTheLastAreKnown(t *testing.T) {
	const many = 5000
	h := hears("", maxHeardBytes)
	of := func(n int) signins.Source { return signins.Source{Number: uint32(n), Partition: math.MaxInt32} }
	for n := range many {
		h.takes(signins.Origin{Source: of(n), Place: signins.Place{Offset: math.MaxInt64, Index: math.MaxInt32}, After: signins.Place{Offset: 1}, Follows: n%2 == 0})
	}
	b := baselineTopic{partitions: math.MaxInt32}
	if text := b.mark(math.MaxInt64, math.MaxInt64, math.MinInt32, h.text()); len(text) > kafka.MaxOffsetMetadata {
		t.Errorf("a mark has %d bytes", len(text))
	}
	known := h.all()
	if len(known) < 80 || len(h.of) != len(known) {
		t.Errorf("%d sources are known", len(known))
	}
	for i, one := range known {
		if one.source != of(many-1-i) {
			t.Fatalf("the one that was heard of at %d from the last is %v", i, one.source)
		}
	}
}

// crowd has somebody hear of so many sources, one after the other.
func (h *heard) crowd(number uint32, many int32) {
	for p := range many {
		h.takes(signins.Origin{Source: signins.Source{Number: number, Partition: p}, Place: signins.Place{Offset: 1_000_000_000}})
	}
}

// One that lives and says little is forgotten after those that are over, through a restart as well.
func TestWhoWasHeardOfLastOutlivesARestart(t *testing.T) {
	h := hears("", maxHeardBytes)
	for number := range uint32(8) { // so often was the input set anew
		h.crowd(number, 32)
	}
	live := signins.Source{Number: 0, Partition: 0}
	h.takes(signins.Origin{Source: live, Place: signins.Place{Offset: 1_000_000_001}})
	h = hears(h.text(), maxHeardBytes)
	h.crowd(8, 31)
	h = hears(h.text(), maxHeardBytes)
	if h.of[live] == nil || h.of[signins.Source{Number: 0, Partition: 1}] != nil {
		t.Errorf("%v is forgotten, or one that was heard of before is not", live)
	}
}

// One that was forgotten while its owner lives is known again from there on: what came before is judged, should it
// come once more, and what came since is left out.
func TestASourceThatWasForgottenIsKnownAgain(t *testing.T) {
	source := signins.Source{Number: 7, Partition: 3}
	sent := func(offset int64) signins.Origin {
		o := signins.Origin{Source: source, Place: signins.Place{Offset: offset}}
		if offset > 100 {
			o.After, o.Follows = signins.Place{Offset: offset - 1}, true
		}
		return o
	}
	h := hears("", maxHeardBytes)
	for offset := range int64(300) {
		if offset == 150 {
			h.crowd(8, 400)
		}
		if !h.takes(sent(100 + offset)) {
			t.Fatalf("what stands at %d was left out", 100+offset)
		}
	}
	for offset := range int64(299) {
		o := sent(101 + offset)
		if was := offset+1 >= 150; h.takes(o) == was {
			t.Errorf("what stands at %d and came when it was known (%v) was taken for another", o.Place.Offset, was)
		}
	}
	h.takes(signins.Origin{Source: source, Place: signins.Place{Offset: 300}})
	if h.takes(sent(101)) {
		t.Error("an owner began behind what stands at 101, and it is not known to have come")
	}
}

func BenchmarkHearing(b *testing.B) {
	for _, inputs := range []int32{32, 200, 400} {
		b.Run(fmt.Sprint(inputs), func(b *testing.B) {
			h := hears("", maxHeardBytes)
			h.crowd(1<<30, inputs)
			b.Run("sign-in", func(b *testing.B) {
				for i := range b.N {
					at := int64(1_000_000_001 + i)
					h.takes(signins.Origin{
						Source: signins.Source{Number: 1 << 30, Partition: int32(i) % inputs},
						Place:  signins.Place{Offset: at}, After: signins.Place{Offset: at - 1}, Follows: true,
					})
				}
			})
			b.Run("mark", func(b *testing.B) {
				for range b.N {
					h.mark = ""
					h.keep()
				}
				b.ReportMetric(float64(len(h.kept)), "bytes")
			})
		})
	}
}
