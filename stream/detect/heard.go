package detect

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/prtwatch/prtwatch/stream/signins"
)

// heard is how far a partition has come in each source of its sign-ins. What comes from a place that has been
// passed is a copy: it was split again after a crash, or by an owner who owns nothing any more. A copy may be
// judged so late that its user's hours are forgotten, and a user has more alerts in an hour than
// his profile remembers, so it is left out here.
//
// It moves on only with a sign-in that follows what it has: an owner sends a source's sign-ins in their order, but
// where brokers refuse or lose some, what comes behind them is no sign that they came. Then it stays where it
// is, and what is split again from there on is judged.
type heard struct {
	kept map[signins.Source]hearing // as of what is committed
	open map[signins.Source]hearing // what the work in hand adds
}

// hearing is the place of the last sign-in of a source, and its offset in the partition; 0 where that is not known.
type hearing struct {
	place signins.Place
	at    int64
}

// takes reports whether a sign-in, found at an offset, has not been there before, and notes it.
func (h *heard) takes(o signins.Origin, offset int64) bool {
	if o == (signins.Origin{}) {
		return true // nobody says where it is from
	}
	last, known := h.open[o.Source]
	if !known {
		last, known = h.kept[o.Source]
	}
	switch {
	case known && o.Place.Compare(last.place) <= 0:
		return false
	case o.Follows && (!known || o.After.Compare(last.place) > 0):
		return true // something is missing between them
	}
	if h.open == nil {
		h.open = make(map[signins.Source]hearing)
	}
	h.open[o.Source] = hearing{o.Place, offset}
	return true
}

// keep makes what the work in hand has added that of what is committed. Of sources beyond those that a mark
// has room for it keeps those that were heard of last.
func (h *heard) keep() {
	if len(h.open) == 0 {
		return
	}
	if h.kept == nil {
		h.kept = make(map[signins.Source]hearing)
	}
	maps.Copy(h.kept, h.open)
	clear(h.open)
	if len(h.kept) > maxHeard {
		for _, s := range newestFirst(h.kept)[maxHeard:] {
			delete(h.kept, s)
		}
	}
}

// rollback forgets what the work in hand has added.
func (h *heard) rollback() { clear(h.open) }

// all is what is kept and what the work in hand adds.
func (h *heard) all() map[signins.Source]hearing {
	all := make(map[signins.Source]hearing, len(h.kept)+len(h.open))
	maps.Copy(all, h.kept)
	maps.Copy(all, h.open)
	return all
}

// maxHeardBytes is how long what is heard may be in a mark, which the broker's offset.metadata.max.bytes bounds: 4,096
// where nobody has set it. An entry has 7 to 23 bytes, most often 11, and four thirds of that as text.
const (
	maxHeardBytes = 3840
	maxHeard      = maxHeardBytes / 14
)

// nothingHeard stands in a mark for no source.
const nothingHeard = "-"

// heardText is the text that a mark has of what is heard: the sources that were heard of last, as many as there is
// room for.
func heardText(all map[signins.Source]hearing) string {
	var text []byte
	var entry [32]byte
	for _, source := range newestFirst(all) {
		place := all[source].place
		e := binary.LittleEndian.AppendUint32(entry[:0], source.Number)
		e = binary.AppendUvarint(e, uint64(source.Partition))
		e = binary.AppendUvarint(e, uint64(place.Offset))
		e = binary.AppendUvarint(e, uint64(place.Index))
		if base64.RawStdEncoding.EncodedLen(len(text)+len(e)) > maxHeardBytes {
			break
		}
		text = append(text, e...)
	}
	return cmp.Or(base64.RawStdEncoding.EncodeToString(text), nothingHeard)
}

// parseHeard reads such a text. What is none says nothing.
func parseHeard(text string) map[signins.Source]hearing {
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	all := make(map[signins.Source]hearing)
	for len(raw) > 4 {
		source := signins.Source{Number: binary.LittleEndian.Uint32(raw)}
		raw = raw[4:]
		var fields [3]uint64
		for i := range fields {
			v, n := binary.Uvarint(raw)
			if n <= 0 {
				return all
			}
			fields[i], raw = v, raw[n:]
		}
		source.Partition = int32(fields[0])
		all[source] = hearing{place: signins.Place{Offset: int64(fields[1]), Index: int32(fields[2])}}
	}
	return all
}

// newestFirst returns the sources, the one that was heard of last first.
func newestFirst(all map[signins.Source]hearing) []signins.Source {
	return slices.SortedFunc(maps.Keys(all), func(a, b signins.Source) int {
		return cmp.Or(cmp.Compare(all[b].at, all[a].at), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Number, b.Number))
	})
}
