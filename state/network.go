package state

import (
	"bytes"
	"crypto/sha256"
	"net/netip"
	"slices"
	"sort"
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
	most   int // bytes of the bitmap of one network
	keys   column
	newest []int32
	before column // bitmaps, see hours.go
}

// newNetworks returns none, of whose hours so many are kept before the newest.
func newNetworks(span int) networks { return networks{most: (span + 7) / 8} }

func (n *networks) len() int { return len(n.newest) }

func (n *networks) find(key []byte) (int, bool) {
	return sort.Find(n.len(), func(i int) int { return bytes.Compare(key, n.keys.at(i)) })
}

// insert adds a network that was seen in one hour.
func (n *networks) insert(i int, key []byte, hour int32) {
	n.keys.insert(i, key)
	n.newest = slices.Insert(n.newest, i, hour)
	n.before.insert(i, nil)
}

func (n *networks) remove(i int) {
	n.keys.remove(i)
	n.newest = slices.Delete(n.newest, i, i+1)
	n.before.remove(i)
}

// prune removes the networks that were last seen before hour floor.
func (n *networks) prune(floor int64) {
	for i := n.len() - 1; i >= 0; i-- {
		if int64(n.newest[i]) < floor {
			n.remove(i)
		}
	}
}

// set records an hour, and reports whether that is news.
func (n *networks) set(i int, hour int32) bool {
	var scratch [128]byte
	hours := n.before.at(i)
	switch d := int64(hour) - int64(n.newest[i]); {
	case d == 0:
		return false
	case d > 0:
		n.before.replace(i, shiftHours(scratch[:0], hours, int(d), n.most))
		n.newest[i] = hour
	default:
		k := int(-d) - 1
		if k/8 < len(hours) && hours[k/8]&(1<<(k%8)) != 0 {
			return false
		}
		changed := append(scratch[:0], hours...)
		for len(changed) <= k/8 {
			changed = append(changed, 0)
		}
		changed[k/8] |= 1 << (k % 8)
		n.before.replace(i, changed)
	}
	return true
}

// within returns the first and last hour of [from, to] in which network i was seen.
func (n *networks) within(i int, from, to int64) (first, last int64, ok bool) {
	newest, hours := int64(n.newest[i]), n.before.at(i)
	if from > to || newest < from {
		return 0, 0, false
	}
	// Hours beyond the bitmap are as good as its end; clamped so that they fit an int.
	lo, hi := newest-1-to, min(newest-1-from, int64(8*n.most))
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

// size is how many bytes of memory they take.
func (n *networks) size() int { return n.keys.size() + 4*cap(n.newest) + n.before.size() }
