package tenant

// Envelope appends the message {"records":[...]} to dst, as Azure Monitor writes it to
// Event Hubs.
func Envelope(dst []byte, records ...[]byte) []byte {
	dst = append(dst, `{"records":[`...)
	for i, r := range records {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, r...)
	}
	return append(dst, `]}`...)
}

// The bounds of a message, well below the 1 MB that Event Hubs takes. What Azure Monitor's own are is
// nowhere documented.
const (
	MaxMessageBytes   = 240 << 10
	MaxMessageRecords = 500
)

// Packer collects records into messages.
type Packer struct {
	MaxBytes   int // of a message; 0 is MaxMessageBytes
	MaxRecords int // in a message; 0 is MaxMessageRecords
	records    [][]byte
	bytes      int
}

// Add takes a record. Where it does not fit any more, the message of those before it is
// returned, otherwise nil. The record must stay unchanged until its message was returned;
// the message's memory is the caller's.
func (p *Packer) Add(record []byte) (message []byte) {
	most, count := p.MaxBytes, p.MaxRecords
	if most == 0 {
		most = MaxMessageBytes
	}
	if count == 0 {
		count = MaxMessageRecords
	}
	if len(p.records) >= count || len(p.records) > 0 && p.bytes+len(record)+1 > most-len(`{"records":[]}`) {
		message = p.Flush()
	}
	p.records = append(p.records, record)
	p.bytes += len(record) + 1
	return message
}

// Flush returns the message of the records that are left, nil where there are none.
func (p *Packer) Flush() []byte {
	if len(p.records) == 0 {
		return nil
	}
	message := Envelope(make([]byte, 0, p.bytes+len(`{"records":[]}`)), p.records...)
	clear(p.records)
	p.records, p.bytes = p.records[:0], 0
	return message
}
