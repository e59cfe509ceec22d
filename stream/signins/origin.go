package signins

import (
	"cmp"
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// Source is a partition of the input, from where a splitting group began to read it on.
type Source struct {
	// Number is drawn by chance when the group begins: so offsets of a topic that was made again, or that an
	// operator has set back, are told from those of before.
	Number    uint32
	Partition int32
}

// Place is where in a Source a sign-in stands: the offset of its message, and how many records come before it in
// there. All count, those too that are no sign-ins or cannot be read: so a sign-in stands where it stood, though a decoder
// that is newer than the last takes other records.
type Place struct {
	Offset int64
	Index  int32
}

// Compare is below 0 where p comes before other, 0 where it is the same.
func (p Place) Compare(other Place) int {
	return cmp.Or(cmp.Compare(p.Offset, other.Offset), cmp.Compare(p.Index, other.Index))
}

// Origin is where a sign-in was split from. Whoever splits a source sends its sign-ins on in its order. So
// who reads a partition of sign-ins knows which of them are there already: what is split again, after a crash
// or by an owner of before, comes from a place that has been passed.
//
// The zero Origin is that of a record which carries none.
type Origin struct {
	Source Source
	Place  Place
	// After is the place of the sign-in that the same owner sent to the same partition before this one, if
	// Follows. It does not for the first since the owner began to read: then all from earlier places is there.
	After   Place
	Follows bool
}

// fieldOrigin is written first, so that it is found without the others: four bytes of the number, then
// varints: partition, offset, index, and of what follows by how much the offset has grown and the
// index of before.
const fieldOrigin protowire.Number = 32

func appendOrigin(dst []byte, o Origin) []byte {
	if o == (Origin{}) {
		return dst
	}
	dst = protowire.AppendTag(dst, fieldOrigin, protowire.BytesType)
	size := len(dst)
	dst = binary.LittleEndian.AppendUint32(append(dst, 0), o.Source.Number)
	dst = binary.AppendUvarint(dst, uint64(o.Source.Partition))
	dst = binary.AppendUvarint(dst, uint64(o.Place.Offset))
	dst = binary.AppendUvarint(dst, uint64(o.Place.Index))
	if o.Follows {
		dst = binary.AppendUvarint(dst, uint64(o.Place.Offset-o.After.Offset))
		dst = binary.AppendUvarint(dst, uint64(o.After.Index))
	}
	dst[size] = byte(len(dst) - size - 1) // at most 44
	return dst
}

// OriginOf returns the origin in a value that Append wrote, the zero Origin where there is none.
func OriginOf(value []byte) Origin {
	body, err := bodyOf(value)
	if err != nil {
		return Origin{}
	}
	number, kind, n := protowire.ConsumeTag(body)
	if n < 0 || number != fieldOrigin || kind != protowire.BytesType {
		return Origin{}
	}
	body, n = protowire.ConsumeBytes(body[n:])
	if n < 0 || len(body) < 4 {
		return Origin{}
	}
	o := Origin{Source: Source{Number: binary.LittleEndian.Uint32(body)}}
	body = body[4:]
	var fields [5]uint64
	read := 0
	for ; read < len(fields) && len(body) > 0; read++ {
		if fields[read], n = binary.Uvarint(body); n <= 0 {
			return Origin{}
		}
		body = body[n:]
	}
	o.Source.Partition, o.Place = int32(fields[0]), Place{int64(fields[1]), int32(fields[2])}
	switch read {
	case 3:
	case 5:
		o.Follows, o.After = true, Place{o.Place.Offset - int64(fields[3]), int32(fields[4])}
	default:
		return Origin{}
	}
	return o
}
