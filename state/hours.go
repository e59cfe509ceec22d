package state

import "math/bits"

// A bitmap of hours counts backwards from the hour after which it is kept: bit k of a network
// whose newest hour is n stands for hour n-1-k; the newest itself needs no bit. It is as long as
// its highest bit needs: its last byte is not zero.

// shiftHours appends to dst the bitmap that hours becomes when its network has a newest hour that
// is by hours later: the one that was the newest has a bit of its own then. No more than most
// bytes are kept.
func shiftHours(dst, hours []byte, by, most int) []byte {
	k := by - 1 // the bit of the hour that was the newest
	if k/8 >= most {
		return dst
	}
	start := len(dst)
	for range k / 8 {
		dst = append(dst, 0)
	}
	// From its bit on it is 1 and then hours.
	carry, shift := byte(1)<<(k%8), k%8+1
	for _, b := range hours {
		dst = append(dst, carry|byte(uint(b)<<shift))
		carry = byte(uint(b) >> (8 - shift))
	}
	if carry != 0 {
		dst = append(dst, carry)
	}
	if over := len(dst) - start - most; over > 0 {
		dst = trimZeros(dst[:len(dst)-over], start)
	}
	return dst
}

// trimZeros takes the zero bytes from the end of b, but none before from.
func trimZeros(b []byte, from int) []byte {
	for len(b) > from && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// appendHours appends the first keep bits of hours to dst.
func appendHours(dst, hours []byte, keep int) []byte {
	if len(hours)*8 <= keep {
		return append(dst, hours...)
	}
	if keep <= 0 {
		return dst
	}
	start := len(dst)
	dst = append(dst, hours[:(keep+7)/8]...)
	if keep%8 > 0 {
		dst[len(dst)-1] &= 1<<(keep%8) - 1
	}
	return trimZeros(dst, start)
}

// lowestHour returns the first bit that is set in [lo, hi], or -1.
func lowestHour(hours []byte, lo, hi int) int {
	lo, hi = max(lo, 0), min(hi, len(hours)*8-1)
	for i := lo / 8; lo <= hi && i <= hi/8; i++ {
		if b := hours[i] & between(i, lo, hi); b != 0 {
			return i*8 + bits.TrailingZeros8(b)
		}
	}
	return -1
}

// highestHour returns the last bit that is set in [lo, hi], or -1.
func highestHour(hours []byte, lo, hi int) int {
	lo, hi = max(lo, 0), min(hi, len(hours)*8-1)
	for i := hi / 8; lo <= hi && i >= lo/8; i-- {
		if b := hours[i] & between(i, lo, hi); b != 0 {
			return i*8 + 7 - bits.LeadingZeros8(b)
		}
	}
	return -1
}

// between masks the bits of byte i that lie in [lo, hi].
func between(i, lo, hi int) byte {
	mask := ^byte(0)
	if from := lo - i*8; from > 0 {
		mask <<= from
	}
	if to := hi - i*8; to < 7 {
		mask &= 1<<(to+1) - 1
	}
	return mask
}
