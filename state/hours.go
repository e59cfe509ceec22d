package state

import "math/bits"

// A bitmap of hours counts backwards from the hour after which it is kept: bit k of a
// network whose newest hour is n stands for hour n-1-k; the newest itself needs no bit.

// shiftHours makes room for a newest hour that is by hours later, and sets the bit of the
// one that was the newest.
func shiftHours(words []uint64, by int) {
	whole, rest := by/64, uint(by%64)
	for i := len(words) - 1; i >= 0; i-- {
		var w uint64
		if j := i - whole; j >= 0 {
			w = words[j] << rest
			if rest > 0 && j > 0 {
				w |= words[j-1] >> (64 - rest)
			}
		}
		words[i] = w
	}
	if k := by - 1; k < len(words)*64 {
		words[k/64] |= 1 << (k % 64)
	}
}

// trimHours clears the bits from keep on.
func trimHours(words []uint64, keep int) {
	for i := range words {
		switch from := keep - i*64; {
		case from <= 0:
			words[i] = 0
		case from < 64:
			words[i] &= 1<<from - 1
		}
	}
}

// lowestHour returns the first bit that is set in [lo, hi], or -1.
func lowestHour(words []uint64, lo, hi int) int {
	lo, hi = max(lo, 0), min(hi, len(words)*64-1)
	for i := lo / 64; lo <= hi && i <= hi/64; i++ {
		if w := words[i] & between(i, lo, hi); w != 0 {
			return i*64 + bits.TrailingZeros64(w)
		}
	}
	return -1
}

// highestHour returns the last bit that is set in [lo, hi], or -1.
func highestHour(words []uint64, lo, hi int) int {
	lo, hi = max(lo, 0), min(hi, len(words)*64-1)
	for i := hi / 64; lo <= hi && i >= lo/64; i-- {
		if w := words[i] & between(i, lo, hi); w != 0 {
			return i*64 + 63 - bits.LeadingZeros64(w)
		}
	}
	return -1
}

// between masks the bits of word i that lie in [lo, hi].
func between(i, lo, hi int) uint64 {
	mask := ^uint64(0)
	if from := lo - i*64; from > 0 {
		mask &= ^uint64(0) << from
	}
	if to := hi - i*64; to < 63 {
		mask &= 1<<(to+1) - 1
	}
	return mask
}
