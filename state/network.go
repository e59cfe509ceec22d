package state

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"strings"
)

// maxKey is how many bytes of a network's text are kept as they are. An address or an AS
// number is far shorter; a text that did not parse may be anything.
const maxKey = 64

// A key begins with one of these where it is not the text itself. No UTF-8 text does.
const (
	ipv4Key   = 0xfc // and the address's 4 bytes
	ipv6Key   = 0xfd // and the address's 16 bytes
	hashedKey = 0xff // and the SHA-256 of a text
	firstTag  = 0xf8 // a text that begins with this or more is hashed
)

// appendKey appends what a network is kept as, without making two texts one. An address in its
// canonical text is its bytes, for addresses are most of a profile; a text that is long, or
// begins like a tag, is its SHA-256.
func appendKey(dst []byte, text string) []byte {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		var canonical [maxKey]byte
		if string(addr.AppendTo(canonical[:0])) == text {
			if addr.Is4() {
				b := addr.As4()
				return append(append(dst, ipv4Key), b[:]...)
			}
			b := addr.As16()
			return append(append(dst, ipv6Key), b[:]...)
		}
	}
	if len(text) <= maxKey && (text == "" || text[0] < firstTag) {
		return append(dst, text...)
	}
	sum := sha256.Sum256([]byte(text))
	return append(append(dst, hashedKey), sum[:]...)
}

// networks are the addresses or the ASNs of one user, in the order of their keys: columns,
// because a user has few and a profile is read far more often than it is changed.
type networks struct {
	words  int // of the bitmap of one network
	keys   []string
	newest []int32
	before []uint64 // words for each key, see hours.go
}

func (n *networks) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(n.keys, key, func(held string, key []byte) int { return strings.Compare(held, string(key)) })
}

func (n *networks) hours(i int) []uint64 { return n.before[i*n.words : (i+1)*n.words] }

// insert adds a network that was seen in one hour.
func (n *networks) insert(i int, key string, hour int32) {
	n.keys = slices.Insert(n.keys, i, key)
	n.newest = slices.Insert(n.newest, i, hour)
	n.before = append(n.before, make([]uint64, n.words)...)
	copy(n.before[(i+1)*n.words:], n.before[i*n.words:])
	clear(n.hours(i))
}

func (n *networks) remove(i int) {
	n.keys = slices.Delete(n.keys, i, i+1)
	n.newest = slices.Delete(n.newest, i, i+1)
	n.before = slices.Delete(n.before, i*n.words, (i+1)*n.words)
}

// prune removes the networks that were last seen before hour floor.
func (n *networks) prune(floor int64) {
	for i := len(n.keys) - 1; i >= 0; i-- {
		if int64(n.newest[i]) < floor {
			n.remove(i)
		}
	}
}

// set records an hour, and reports whether that is news.
func (n *networks) set(i int, hour int32) bool {
	switch d := int64(hour) - int64(n.newest[i]); {
	case d == 0:
		return false
	case d > 0:
		shiftHours(n.hours(i), int(d))
		n.newest[i] = hour
		return true
	default:
		k := int(-d) - 1
		w := &n.before[i*n.words+k/64]
		if *w&(1<<(k%64)) != 0 {
			return false
		}
		*w |= 1 << (k % 64)
		return true
	}
}

// within returns the first and last hour of [from, to] in which network i was seen.
func (n *networks) within(i int, from, to int64) (first, last int64, ok bool) {
	newest, hours := int64(n.newest[i]), n.hours(i)
	if from > to || newest < from {
		return 0, 0, false
	}
	// Hours beyond the bitmap are as good as its end; clamped so that they fit an int.
	lo, hi := newest-1-to, min(newest-1-from, int64(n.words*64-1))
	last = newest
	if lo >= 0 {
		k := -1
		if lo <= hi {
			k = lowestHour(hours, int(lo), int(hi))
		}
		if k < 0 {
			return 0, 0, false
		}
		last = newest - 1 - int64(k)
	}
	first = last
	if k := highestHour(hours, int(max(lo, 0)), int(hi)); k >= 0 {
		first = newest - 1 - int64(k)
	}
	return first, last, true
}

// longestUnseen returns the network to give up first. Equal hours go by key, so that the
// choice is a function of what is kept and not of how it came.
func (n *networks) longestUnseen() int {
	oldest := 0
	for i, hour := range n.newest {
		if hour < n.newest[oldest] {
			oldest = i
		}
	}
	return oldest
}

// size estimates the memory in bytes.
func (n *networks) size() int {
	size := cap(n.keys)*16 + cap(n.newest)*4 + cap(n.before)*8
	for _, k := range n.keys {
		size += len(k)
	}
	return size
}
