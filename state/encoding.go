package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// profileVersion leads every encoded profile. The encoding is
//
//	version, flags (bit 0: the offset follows at which the profile was made, an
//	    unsigned varint above 0; for brokers without transactions, see Profile.Carry)
//	the newest hour as a varint; every other hour is a distance back from it
//	addresses, then ASNs: count, for each key how many bytes it begins with like the one
//	    before it and how many more it has, those of all, hours, then for each the length
//	    of its bitmap without the zero bytes at its end, and the bitmap (see hours.go)
//	alerts: count, hours, ids
//	evicted: count, and hour and number of each
//
// with unsigned varints where nothing else is said. What is too old to be kept is left
// out, keys are sorted, so equal profiles are equal bytes.
//
// Version 1, which is read too, had addresses as their text, and keys whole behind their lengths.
const (
	profileVersion = 2
	textVersion    = 1
)

// readable reports whether a version is one that is read.
func readable(version byte) bool { return version == profileVersion || version == textVersion }

// carries is the flag of a profile that carries an offset.
const carries = 1

// MaxProfileBytes bounds an encoded profile: a record of the baseline topic must stay
// below the smallest of the usual limits (Event Hubs, brokers: 1 MiB).
const MaxProfileBytes = 900 << 10

// largestProfile returns how long the encoding of one profile can get under the limits.
func (l *limits) largestProfile() int {
	const hour = 3 // a distance of up to two million hours
	network := 2 + maxKey + hour + 2 + (l.span()+7)/8
	return 2 + binary.MaxVarintLen64 + 3*binary.MaxVarintLen32 + (l.maxIPs+l.maxASNs)*network +
		2 + maxAlerts*(hour+binary.MaxVarintLen32+16) + 2 + (l.span()+1)*(hour+binary.MaxVarintLen32)
}

// appendTo appends the encoding of p to dst.
func (p *Profile) appendTo(dst []byte) []byte {
	if p.offset > 0 {
		dst = append(dst, profileVersion, carries)
		dst = binary.AppendUvarint(dst, uint64(p.offset))
	} else {
		dst = append(dst, profileVersion, 0)
	}
	base := int64(0)
	if p.seen() {
		base = int64(p.newest)
	}
	dst = binary.AppendVarint(dst, base)
	dst = p.ips.appendTo(dst, base, p.limits.span())
	dst = p.asns.appendTo(dst, base, p.limits.span())
	dst = binary.AppendUvarint(dst, uint64(len(p.alerts)))
	for _, a := range p.alerts {
		// Signed: an alert may be remembered before its sign-in is seen.
		dst = binary.AppendVarint(dst, base-int64(a.hour))
	}
	for _, a := range p.alerts {
		dst = append(dst, a.id[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.evicted)))
	for _, e := range p.evicted {
		dst = binary.AppendUvarint(dst, uint64(base-int64(e.hour)))
		dst = binary.AppendUvarint(dst, uint64(e.count))
	}
	return dst
}

func (n *networks) appendTo(dst []byte, base int64, span int) []byte {
	dst = binary.AppendUvarint(dst, uint64(n.len()))
	var last []byte
	for i := range n.newest {
		key := n.keys.at(i)
		like := commonPrefix(last, key)
		dst = append(dst, byte(like), byte(len(key)-like)) // maxKey bounds both
		last = key
	}
	last = nil
	for i := range n.newest {
		key := n.keys.at(i)
		dst = append(dst, key[commonPrefix(last, key):]...)
		last = key
	}
	for _, hour := range n.newest {
		dst = binary.AppendUvarint(dst, uint64(base-int64(hour)))
	}
	var scratch [128]byte
	for i, hour := range n.newest {
		// Hours that fell out of the user's span stay in memory, where reading skips them.
		hours := appendHours(scratch[:0], n.before.at(i), span-int(base-int64(hour)))
		dst = append(binary.AppendUvarint(dst, uint64(len(hours))), hours...)
	}
	return dst
}

// decodeProfile reads what appendTo wrote, under limits that may have changed since: what
// they no longer keep is dropped. It keeps nothing of data and survives any bytes.
func decodeProfile(data []byte, l *limits) (*Profile, error) {
	r := reader{data: data}
	v := r.byte()
	if r.err == nil && !readable(v) {
		return nil, fmt.Errorf("profile has version %d, this program reads versions %d and %d", v, textVersion, profileVersion)
	}
	offset := r.offset()
	base := r.varint()
	if base != int64(int32(base)) {
		r.fail("newest hour out of range")
	}
	p := newProfile(l)
	p.newest, p.offset, p.encoded = int32(base), offset, len(data)
	r.networks(&p.ips, base, l.span(), v)
	r.networks(&p.asns, base, l.span(), v)
	r.alerts(p, base)
	r.evicted(p, base)
	if len(r.data) > 0 {
		r.fail("bytes after the end")
	}
	if p.seen() && !slices.Contains(p.ips.newest, p.newest) && !slices.Contains(p.asns.newest, p.newest) {
		r.fail("no network was seen in the newest hour")
	}
	if r.err != nil {
		return nil, r.err
	}
	return p, nil
}

// newestOf returns the newest hour of an encoded profile that decodeProfile reads, and of other bytes some hour
// or an error. Only the beginning of value is looked at.
func newestOf(value []byte) (int64, error) {
	r := reader{data: value}
	r.byte()
	r.offset()
	hour := r.varint()
	return hour, r.err
}

// Carried returns the offset that an encoded profile carries (see Profile.Carry): 0 where it
// carries none, or is none. Only the beginning of value is looked at.
func Carried(value []byte) int64 {
	r := reader{data: value}
	if !readable(r.byte()) {
		return 0
	}
	return r.offset()
}

// Bare returns an encoded profile without the offset that it carries, if any: value itself where there is none.
func Bare(value []byte) []byte {
	if Carried(value) == 0 {
		return value
	}
	r := reader{data: value[1:]}
	r.offset()
	return append([]byte{value[0], 0}, r.data...)
}

// offset reads the flags, and the offset where they say that there is one.
func (r *reader) offset() int64 {
	switch r.byte() {
	case 0:
		return 0
	case carries:
		offset := r.upTo(math.MaxInt64, "offset")
		if offset == 0 {
			r.fail("offset out of range")
		}
		return offset
	}
	r.fail("unknown flags")
	return 0
}

// reader takes an encoded profile apart. After the first error it returns zeros.
type reader struct {
	data []byte
	err  error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = errors.New("malformed profile: " + what)
	}
	r.data = nil
}

func (r *reader) byte() byte {
	b := r.bytes(1)
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.data) {
		r.fail("cut short")
		return nil
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.data)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.data = r.data[n:]
	return v
}

// upTo reads an unsigned number of at most most.
func (r *reader) upTo(most uint64, what string) int64 {
	v, n := binary.Uvarint(r.data)
	switch {
	case n <= 0:
		r.fail("bad number")
		return 0
	case v > most:
		r.fail(what + " out of range")
		return 0
	}
	r.data = r.data[n:]
	return int64(v)
}

// hour reads a distance back from base.
func (r *reader) hour(base int64) int32 {
	return int32(base - r.upTo(uint64(base-math.MinInt32), "hour"))
}

// networks reads one kind of networks, keeping those within span of base.
func (r *reader) networks(n *networks, base int64, span int, version byte) {
	// Every network takes three bytes at least, which bounds what a lie can allocate.
	count := int(r.upTo(uint64(min(len(r.data)/3, maxMaxIPs)), "number of networks"))
	if count == 0 {
		return
	}
	if version == textVersion {
		r.wholeKeys(n, count)
	} else {
		r.keys(n, count)
	}
	for i := 1; i < n.keys.len(); i++ {
		if bytes.Compare(n.keys.at(i-1), n.keys.at(i)) >= 0 {
			r.fail("keys out of order")
		}
	}
	// With room for one more: who is asked for has often come from somewhere new.
	n.newest = make([]int32, count, count+1)
	for i := range n.newest {
		n.newest[i] = r.hour(base)
	}
	ahead, total := *r, 0
	for range count {
		total += len(ahead.bitmap())
	}
	n.before = newColumn(count+1, total+8)
	for _, hour := range n.newest {
		n.before.bytes = appendHours(n.before.bytes, r.bitmap(), span-int(base-int64(hour)))
		n.before.end()
	}
	if r.err != nil {
		return // and nobody sees what is there so far
	}
	if version == textVersion && !n.convertKeys() {
		r.fail("a network twice")
		return
	}
	n.prune(base - int64(span))
}

// bitmap reads a length and so many bytes, without the zeros at their end.
func (r *reader) bitmap() []byte {
	return trimZeros(r.bytes(int(r.upTo(math.MaxInt16, "length of a bitmap"))), 0)
}

// keys reads so many keys, of which only what is not like the one before it is written.
func (r *reader) keys(n *networks, count int) {
	lengths := r.bytes(2 * count)
	total := 0
	for _, length := range lengths {
		total += int(length)
	}
	n.keys = newColumn(count+1, total+maxKey/2)
	var last []byte
	for i := range len(lengths) / 2 {
		like, more := int(lengths[2*i]), int(lengths[2*i+1])
		if like > len(last) || like+more > maxKey {
			r.fail("length of a key out of range")
			return
		}
		n.keys.bytes = append(append(n.keys.bytes, last[:like]...), r.bytes(more)...)
		n.keys.end()
		last = n.keys.at(i)
	}
}

// wholeKeys reads the keys of textVersion.
func (r *reader) wholeKeys(n *networks, count int) {
	lengths := make([]int, count)
	for i := range lengths {
		lengths[i] = int(r.upTo(maxKey, "length of a key"))
	}
	for _, length := range lengths {
		n.keys.bytes = append(n.keys.bytes, r.bytes(length)...)
		n.keys.end()
	}
}

// convertKeys makes keys of textVersion those of today, and puts them in their order. It reports
// whether each is one of its own still.
func (n *networks) convertKeys() bool {
	old := *n
	*n = networks{most: old.most}
	for i, hour := range old.newest {
		key := old.keys.at(i)
		if len(key) == 0 || key[0] != hashedKey {
			key = appendKey(nil, string(key))
		}
		at, twice := n.find(key)
		if twice {
			return false
		}
		n.insert(at, key, hour)
		n.before.replace(at, old.before.at(i))
	}
	return true
}

// commonPrefix returns how many bytes a and b begin with alike.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func (r *reader) alerts(p *Profile, base int64) {
	count := int(r.upTo(maxAlerts, "number of alerts"))
	if r.err != nil || count == 0 {
		return
	}
	p.alerts = make([]alert, count)
	for i := range p.alerts {
		hour := base - r.varint()
		if hour != int64(int32(hour)) {
			r.fail("hour of an alert out of range")
		}
		p.alerts[i].hour = int32(hour)
	}
	for i := range p.alerts {
		copy(p.alerts[i].id[:], r.bytes(16))
	}
	if p.seen() {
		p.alerts = slices.DeleteFunc(p.alerts, func(a alert) bool { return int64(a.hour) < p.floor() })
	}
}

func (r *reader) evicted(p *Profile, base int64) {
	count := int(r.upTo(uint64(len(r.data)/2), "number of evictions"))
	if count > 0 && !p.seen() {
		r.fail("evictions where no network was seen")
	}
	for i := range count {
		e := evicted{hour: r.hour(base), count: uint32(r.upTo(math.MaxUint32, "count of evictions"))}
		if r.err != nil {
			return
		}
		if i > 0 && len(p.evicted) > 0 && p.evicted[len(p.evicted)-1].hour >= e.hour {
			r.fail("evictions out of order")
			return
		}
		if int64(e.hour) >= p.floor() {
			p.evicted = append(p.evicted, e)
		}
	}
}
