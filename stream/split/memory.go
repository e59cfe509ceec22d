package split

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// memory is what messages are decompressed into, and used again when all messages of a batch are
// split. It is a kgo.PoolDecompressBytes: without one kgo copies each batch into memory of its own, a
// tenth of what splitting costs.
type memory struct{ batches sync.Pool }

// GetDecompressBytes returns memory that may be too short: then it is grown, and comes back as that.
func (m *memory) GetDecompressBytes([]byte, kgo.CompressionCodecType) []byte {
	if b, ok := m.batches.Get().(*[]byte); ok {
		return *b
	}
	return nil
}

// PutDecompressBytes takes it back.
func (m *memory) PutDecompressBytes(b []byte) { m.batches.Put(&b) }
