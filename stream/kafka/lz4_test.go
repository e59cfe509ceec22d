package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// frame compresses with pierrec's writer.
func frame(t testing.TB, data []byte, options ...lz4.Option) []byte {
	t.Helper()
	var out bytes.Buffer
	w := lz4.NewWriter(&out)
	if err := w.Apply(options...); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// text is n bytes as redundant as JSON, but for every seventh that is random.
func text(r *rand.Rand, n int) []byte {
	words := [][]byte{[]byte(`"userPrincipalName":"`), []byte(`@example.com","ipAddress":"`), []byte(`192.0.2.`), []byte(`{"time":"2026-`)}
	var out []byte
	for len(out) < n {
		out = append(out, words[r.IntN(len(words))]...)
		if r.IntN(7) == 0 {
			for range r.IntN(300) {
				out = append(out, byte(r.Uint32()))
			}
		}
	}
	return out[:n]
}

// linked is a frame whose second block refers to its first.
func linked(data string) []byte {
	first := []byte{byte(len(data)) << 4}
	first = append(first, data...)
	second := append([]byte{0, byte(len(data)), 0, 5 << 4}, "hello"...) // four bytes from the beginning, and five more
	out := []byte{0x04, 0x22, 0x4D, 0x18, 1 << 6, 4 << 4, 0}
	out[6] = headerSum(out[4:6])
	for _, block := range [][]byte{first, second} {
		out = append(out, byte(len(block)), 0, 0, 0)
		out = append(out, block...)
	}
	return append(out, 0, 0, 0, 0)
}

// headerSum finds the checksum of a frame's header by trying.
func headerSum(header []byte) byte {
	for sum := range 256 {
		empty := slices.Concat([]byte{0x04, 0x22, 0x4D, 0x18}, header, []byte{byte(sum), 0, 0, 0, 0})
		if _, err := kgo.DefaultDecompressor().Decompress(empty, kgo.CodecLz4); err == nil {
			return byte(sum)
		}
	}
	panic("no checksum fits")
}

// The plain twin is the client's own decompressor.
func TestLz4IsReadAsTheClientReadsIt(t *testing.T) {
	const seed = 5
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	ours, theirs := newDecompressor(), kgo.DefaultDecompressor()
	sizes := []lz4.BlockSize{lz4.Block64Kb, lz4.Block256Kb, lz4.Block1Mb, lz4.Block4Mb}
	var frames [][]byte
	for _, size := range []int{0, 1, 5, 13, 300, 64 << 10, 64<<10 + 1, 200_000, 3 << 20} {
		for range 4 {
			data := text(r, size)
			options := []lz4.Option{lz4.BlockSizeOption(sizes[r.IntN(len(sizes))]), lz4.ChecksumOption(r.IntN(2) == 0), lz4.BlockChecksumOption(r.IntN(2) == 0)}
			if r.IntN(2) == 0 {
				options = append(options, lz4.SizeOption(uint64(size)))
			}
			f := frame(t, data, options...)
			if got, ok := appendFrame(nil, f, maxBatch); !ok || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes in the usual form: %v, %d bytes", size, ok, len(got))
			}
			frames = append(frames, f)
		}
	}
	chain := linked("0123456789")
	if got, ok := appendFrame(nil, chain, maxBatch); !ok || string(got) != "01234567890123hello" {
		t.Fatalf("linked blocks: %v, %q", ok, got)
	}
	frames = append(frames, chain, frame(t, text(r, 9000), lz4.LegacyOption(true)), slices.Concat(frames[8], frames[12]))
	for i, f := range frames {
		want, err := theirs.Decompress(f, kgo.CodecLz4)
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if got, err := ours.Decompress(f, kgo.CodecLz4); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("frame %d: %d bytes and %v, the client's own has %d", i, len(got), err, len(want))
		}
		for range 40 {
			f := slices.Clone(f)
			switch at := r.IntN(len(f)); r.IntN(3) {
			case 0:
				f = f[:at]
			case 1:
				f[at%min(len(f), 40)] ^= 1 << r.IntN(8)
			default:
				f[at] ^= 1 << r.IntN(8)
			}
			wantAsTheClient(t, f)
		}
	}
	for _, codec := range []kgo.CompressionCodec{kgo.SnappyCompression(), kgo.ZstdCompression(), kgo.GzipCompression()} {
		compressor, err := kgo.DefaultCompressor(codec)
		if err != nil {
			t.Fatal(err)
		}
		var into bytes.Buffer
		compressed, is := compressor.Compress(&into, []byte("as the client's own"))
		if got, err := ours.Decompress(compressed, is); err != nil || string(got) != "as the client's own" {
			t.Errorf("codec %d: %q, %v", is, got, err)
		}
	}
}

// What a batch became is the records' own: the memory that is kept must not be in it.
func TestALaterBatchLeavesAnEarlierOneAlone(t *testing.T) {
	d := newDecompressor()
	first, err := d.Decompress(frame(t, bytes.Repeat([]byte("a"), 5000)), kgo.CodecLz4)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := d.Decompress(frame(t, bytes.Repeat([]byte("b"), 5000)), kgo.CodecLz4); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first, bytes.Repeat([]byte("a"), 5000)) {
		t.Error("it was written over")
	}
}

// As large as it may be it is read; of a larger one no more than a block is read beyond that.
func TestABatchThatWouldBecomeTooLargeIsRefused(t *testing.T) {
	d := newDecompressor()
	d.most = 100_000
	for _, size := range []int{100_000, 100_001, 10_000_000} {
		f := frame(t, make([]byte, size), lz4.BlockSizeOption(lz4.Block64Kb))
		got, err := d.Decompress(f, kgo.CodecLz4)
		if tooLarge := size > d.most; errors.Is(err, kgo.ErrMaxDecompress) != tooLarge || !tooLarge && len(got) != size {
			t.Errorf("of %d bytes %d are read, and it says: %v", size, len(got), err)
		}
		if part, ok := appendFrame(nil, f, d.most); !ok || len(part) > d.most+64<<10 {
			t.Errorf("of %d bytes %d were read (%t)", size, len(part), ok)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	f.Add(frame(f, text(r, 100)))
	f.Add(frame(f, text(r, 200), lz4.BlockSizeOption(lz4.Block64Kb), lz4.BlockChecksumOption(true), lz4.SizeOption(200)))
	f.Add(linked("0123456789"))
	f.Fuzz(wantAsTheClient)
}

// wantAsTheClient fails where what may be a broken frame is not declined, and read otherwise than the client reads it.
func wantAsTheClient(t *testing.T, src []byte) {
	got, ok := appendFrame(nil, src, maxBatch)
	if !ok {
		return
	}
	// A new one: where blocks are linked, a broken one can refer to the frame that a used one read before.
	want, err := kgo.DefaultDecompressor().Decompress(src, kgo.CodecLz4)
	if err == nil && !bytes.Equal(got, want) { // it errs where a checksum is wrong, too
		t.Fatalf("%x: %d bytes, the client's own has %d", src, len(got), len(want))
	}
}

func BenchmarkDecompress(b *testing.B) {
	data := text(rand.New(rand.NewPCG(1, 1)), 1<<20)
	for _, size := range []lz4.BlockSize{lz4.Block64Kb, lz4.Block4Mb} { // of Java's clients, and of kgo
		f := frame(b, data, lz4.BlockSizeOption(size))
		for _, d := range []struct {
			name string
			kgo.Decompressor
		}{{"ours", newDecompressor()}, {"kgo", kgo.DefaultDecompressor()}} {
			b.Run(fmt.Sprintf("blocks=%s/%s", size, d.name), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := d.Decompress(f, kgo.CodecLz4); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
