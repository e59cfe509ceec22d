package corpus

import (
	"bytes"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/tenant"
)

// Likeness is how large and how redundant records are, alone and in messages of several: what
// decoding, compression and copying cost depends on both.
type Likeness struct {
	Of        string
	Records   int     // that were looked at
	Size      float64 // bytes a record, on average
	Together  int     // records that were compressed together, as one message
	LZ4, Zstd float64 // bytes of such messages for each byte of their compressed form
}

// sampled is how many of the made records are looked at: some from each hundred of the history.
const sampled = 14_000

// meter measures the likeness of made records to real ones.
type meter struct {
	lz4, zstd kgo.Compressor
	real      [][]byte
	made      [][]byte
	seen      int
	every     int
}

// newMeter takes the real records from a file, a line each.
func newMeter(samples string) (*meter, error) {
	m := &meter{every: 1}
	text, err := os.ReadFile(samples)
	if err != nil {
		return nil, fmt.Errorf("reading the real records to compare with: %w", err)
	}
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			m.real = append(m.real, line)
		}
	}
	if len(m.real) == 0 {
		return nil, fmt.Errorf("reading the real records to compare with: %s holds none", samples)
	}
	if m.lz4, err = kgo.DefaultCompressor(kgo.Lz4Compression()); err != nil {
		return nil, err
	}
	m.zstd, err = kgo.DefaultCompressor(kgo.ZstdCompression())
	return m, err
}

// add looks at a made record. Runs of as many as the real ones are kept whole: neighbours are
// what is compressed together. When there are too many, half of the runs go and from then on
// every second one is kept.
func (m *meter) add(record []byte) {
	run := len(m.real)
	if (m.seen/run)%m.every == 0 {
		m.made = append(m.made, record)
	}
	m.seen++
	if len(m.made) < sampled || len(m.made)%(2*run) != 0 {
		return
	}
	kept := m.made[:0]
	for at := 0; at+2*run <= len(m.made); at += 2 * run {
		kept = append(kept, m.made[at:at+run]...)
	}
	m.made = kept
	m.every *= 2
}

// result compares. The last row has messages as large as those that are written.
func (m *meter) result() []Likeness {
	together := len(m.real)
	rows := []Likeness{m.measure("real records", m.real, together), m.measure("made records", m.made, together)}
	var size float64
	for _, r := range m.made {
		size += float64(len(r)) / float64(len(m.made))
	}
	if written := int(tenant.MaxMessageBytes / max(1, size)); written <= len(m.made) {
		rows = append(rows, m.measure("made records, messages as written", m.made, written))
	}
	return rows
}

func (m *meter) measure(of string, records [][]byte, together int) Likeness {
	l := Likeness{Of: of, Together: together}
	var plain, lz4, zstd int
	for at := 0; at+together <= len(records); at += together {
		message := tenant.Envelope(nil, records[at:at+together]...)
		plain += len(message)
		lz4 += compressed(m.lz4, message)
		zstd += compressed(m.zstd, message)
		for _, r := range records[at : at+together] {
			l.Records++
			l.Size += float64(len(r))
		}
	}
	if l.Records > 0 {
		l.Size /= float64(l.Records)
		l.LZ4, l.Zstd = float64(plain)/float64(lz4), float64(plain)/float64(zstd)
	}
	return l
}

func compressed(by kgo.Compressor, message []byte) int {
	out, _ := by.Compress(new(bytes.Buffer), message)
	return len(out)
}
