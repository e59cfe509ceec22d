package detect

import (
	"container/list"
	"encoding/base64"
	"encoding/binary"
	"slices"

	"github.com/prtwatch/prtwatch/stream/signins"
)

// heard is how far a partition has come in each source of its sign-ins. What comes from a place that has been
// passed is a copy: it was split again after a crash, or by an owner who owns nothing any more. A copy may be
// judged so late that its user's hours are forgotten, and a user has more alerts in an hour than
// his profile remembers, so it is left out here.
//
// It is what a mark holds, and nothing else: of sources that a mark has no room for it forgets the one that was not
// heard of for longest, with the sign-in that takes the room. So what is left out is the log's, whoever was
// restarted, and however many sign-ins a transaction has.
type heard struct {
	limit  int                              // of size
	size   int                              // of all in a mark, in bytes
	newest *list.List                       // of *hearing, by when the source was heard of
	of     map[signins.Source]*list.Element // of newest
	mark   string                           // its text; "" where it has to be written anew
	kept   string                           // the text of what is committed
}

// hears is what the text of a mark says, or nothing where that is none.
func hears(text string, limit int) *heard {
	h := &heard{limit: limit, newest: list.New(), of: make(map[signins.Source]*list.Element)}
	for _, one := range slices.Backward(parseHeard(text)) {
		h.note(one)
	}
	h.keep()
	return h
}

// takes reports whether a sign-in has not been there before, as far as is known, and notes it.
func (h *heard) takes(o signins.Origin) bool {
	if o == (signins.Origin{}) {
		return true // nobody says where it is from
	}
	takes, now := true, begin(o)
	if known := h.of[o.Source]; known != nil {
		now = *known.Value.(*hearing)
		takes = now.takes(o)
	}
	h.note(now)
	return takes
}

// note puts a source first, and forgets the last ones where there is no room for it.
func (h *heard) note(one hearing) {
	h.mark = ""
	var entry [64]byte
	one.size = len(one.append(entry[:0]))
	h.size += one.size
	if known := h.of[one.source]; known != nil {
		was := known.Value.(*hearing)
		h.size -= was.size
		*was = one
		h.newest.MoveToFront(known)
	} else {
		added := one
		h.of[one.source] = h.newest.PushFront(&added)
	}
	for h.size > h.limit {
		last := h.newest.Remove(h.newest.Back()).(*hearing)
		h.size -= last.size
		delete(h.of, last.source)
	}
}

// keep makes what the work in hand has added that of what is committed.
func (h *heard) keep() { h.kept = h.text() }

// rollback forgets what the work in hand has added.
func (h *heard) rollback() { *h = *hears(h.kept, h.limit) }

// hearing is that all of a source between two places has come, with what stands there.
//
// It moves on only with a sign-in that follows what it has: an owner sends a source's sign-ins in their order, but
// where brokers refuse or lose some, what comes behind them is no sign that they came. Then it stays where it
// is, and what is split again from there on is judged.
type hearing struct {
	source signins.Source
	// from is the zero Place for all from the beginning. It is another where the source was forgotten amid what an
	// owner sent: what of it came before nobody knows any more.
	from, place signins.Place
	size        int // in a mark, in bytes
}

// begin is what the first sign-in tells of a source, or the first since it was forgotten.
func begin(o signins.Origin) hearing {
	if !o.Follows {
		return hearing{source: o.Source, place: o.Place}
	}
	return hearing{source: o.Source, from: o.Place, place: o.Place}
}

// takes reports whether a sign-in of the source has not come before, as far as is known, and moves on with it.
func (h *hearing) takes(o signins.Origin) bool {
	if !o.Follows && o.Place.Compare(h.from) >= 0 {
		h.from = signins.Place{} // all before it is there
	}
	switch {
	case o.Place.Compare(h.from) < 0:
		return true
	case o.Place.Compare(h.place) <= 0:
		return false
	case o.Follows && o.After.Compare(h.place) > 0:
		return true // something is missing between them
	}
	h.place = o.Place
	return true
}

// maxHeardBytes is how long what is heard may be in a mark: 3,840 bytes as text, and kafka.MaxOffsetMetadata with the rest. An
// entry has 7 to 37 bytes, most often 11 or 12.
const maxHeardBytes = 2880

// nothingHeard stands in a mark for no source.
const nothingHeard = "-"

// append appends the entry of a mark: four bytes of the number, then varints: partition, offset, twice the index; and
// where from is none of the beginning, which is one more, by how much the offset has grown since and the index there.
func (h *hearing) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, h.source.Number)
	dst = binary.AppendUvarint(dst, uint64(h.source.Partition))
	dst = binary.AppendUvarint(dst, uint64(h.place.Offset))
	index := uint64(h.place.Index) << 1
	if h.from == (signins.Place{}) {
		return binary.AppendUvarint(dst, index)
	}
	dst = binary.AppendUvarint(dst, index|1)
	dst = binary.AppendUvarint(dst, uint64(h.place.Offset-h.from.Offset))
	return binary.AppendUvarint(dst, uint64(h.from.Index))
}

// text is what a mark has of it: the source that was heard of last comes first.
func (h *heard) text() string {
	if h.mark != "" {
		return h.mark
	}
	raw := make([]byte, 0, h.size)
	for e := h.newest.Front(); e != nil; e = e.Next() {
		raw = e.Value.(*hearing).append(raw)
	}
	h.mark = nothingHeard
	if len(raw) > 0 {
		h.mark = base64.RawStdEncoding.EncodeToString(raw)
	}
	return h.mark
}

// parseHeard reads such a text. What is none says nothing.
func parseHeard(text string) (newestFirst []hearing) {
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	short := false
	field := func() uint64 {
		v, n := binary.Uvarint(raw)
		if short = short || n <= 0; short {
			return 0
		}
		raw = raw[n:]
		return v
	}
	for len(raw) > 4 {
		one := hearing{source: signins.Source{Number: binary.LittleEndian.Uint32(raw)}}
		raw = raw[4:]
		one.source.Partition, one.place.Offset = int32(field()), int64(field())
		index := field()
		one.place.Index = int32(index >> 1)
		if index&1 > 0 {
			one.from = signins.Place{Offset: one.place.Offset - int64(field()), Index: int32(field())}
		}
		if short {
			break
		}
		newestFirst = append(newestFirst, one)
	}
	return newestFirst
}
