package kafka

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxBatch is how large a batch may become, as large as the client's own bound (kgo.MaxDecompressBatchBytes, which
// does not bind a decompressor of ours).
const maxBatch = 1 << 30

// maxScratch is the largest memory that is kept for the next batch.
const maxScratch = 16 << 20

// The parts of an lz4 frame (lz4_Frame_format.md of github.com/lz4/lz4).
const (
	frameMagic    = 0x184D2204
	frameVersion  = 1 // the highest two bits of the flags; the others are
	frameReserved = 1 << 1
	frameDictID   = 1 << 0
	frameAlone    = 1 << 5 // no block refers to those before it
	frameBlockSum = 1 << 4
	frameSize     = 1 << 3
	frameSum      = 1 << 2
	blockPlain    = 1 << 31 // of a block's size: it is not compressed
	lz4Window     = 64 << 10
)

// decompressor is the client's own, but for frames of lz4 in their usual form, which it reads block after block into
// memory that it keeps, and copies once. The client's reads them through a stream, copies them twice, and computes
// checksums of what the batch's CRC-32C has told already: half as long again (BenchmarkDecompress). What is not in
// that form, or broken, is left to the client's, with its errors.
type decompressor struct {
	kgo.Decompressor
	most    int       // bytes that a batch may become
	scratch sync.Pool // of *[]byte
}

func newDecompressor() *decompressor {
	return &decompressor{Decompressor: kgo.DefaultDecompressor(), most: maxBatch, scratch: sync.Pool{New: func() any { return new([]byte) }}}
}

// Decompress implements kgo.Decompressor.
func (d *decompressor) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec != kgo.CodecLz4 {
		return d.Decompressor.Decompress(src, codec)
	}
	scratch := d.scratch.Get().(*[]byte)
	defer d.scratch.Put(scratch)
	out, ok := appendFrame((*scratch)[:0], src, d.most)
	switch {
	case !ok:
		return d.Decompressor.Decompress(src, codec)
	case len(out) > d.most:
		return nil, kgo.ErrMaxDecompress
	}
	if cap(out) <= maxScratch {
		*scratch = out
	}
	return slices.Clone(out), nil
}

// appendFrame appends to dst, which is empty, what a frame holds, and stops where that is more than most bytes. It
// declines what is no single frame in the usual form.
func appendFrame(dst, src []byte, most int) (_ []byte, ok bool) {
	if len(src) < 7 || binary.LittleEndian.Uint32(src) != frameMagic {
		return dst, false
	}
	flags, largest := src[4], 0
	if flags>>6 != frameVersion || flags&(frameReserved|frameDictID) != 0 {
		return dst, false
	}
	switch src[5] { // the other bits are reserved
	case 4 << 4:
		largest = 64 << 10
	case 5 << 4:
		largest = 256 << 10
	case 6 << 4:
		largest = 1 << 20
	case 7 << 4:
		largest = 4 << 20
	default:
		return dst, false
	}
	src = src[6:]
	var declared uint64
	if flags&frameSize != 0 {
		if len(src) < 8 {
			return dst, false
		}
		declared = binary.LittleEndian.Uint64(src)
		src = src[8:]
	}
	if len(src) < 1 {
		return dst, false
	}
	src = src[1:] // the header's checksum
	for len(src) >= 4 {
		size := int(binary.LittleEndian.Uint32(src) &^ blockPlain)
		plain := src[3]&(blockPlain>>24) != 0
		src = src[4:]
		if size == 0 {
			sum := 0
			if flags&frameSum != 0 {
				sum = 4
			}
			return dst, !plain && len(src) == sum && (flags&frameSize == 0 || declared == uint64(len(dst)))
		}
		if size > len(src) || size > largest {
			return dst, false
		}
		if plain {
			dst = append(dst, src[:size]...)
		} else {
			before, window := len(dst), 0
			if flags&frameAlone == 0 {
				window = min(before, lz4Window)
			}
			dst = slices.Grow(dst, largest)
			n, err := lz4.UncompressBlockWithDict(src[:size], dst[before:before+largest], dst[before-window:before])
			if err != nil {
				return dst, false
			}
			dst = dst[:before+n]
		}
		if len(dst) > most {
			return dst, true
		}
		src = src[size:]
		if flags&frameBlockSum != 0 {
			if len(src) < 4 {
				return dst, false
			}
			src = src[4:]
		}
	}
	return dst, false
}
