package tenant

import (
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
)

// guid is a GUID in the order in which it is written.
type guid [16]byte

func randomGUID(r *rand.Rand) (g guid) {
	hi, lo := r.Uint64(), r.Uint64()
	for i := range 8 {
		g[i], g[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	return g
}

func (t *Tenant) guid() guid { return randomGUID(t.rng) }

func (g guid) appendTo(b []byte) []byte {
	b = hex.AppendEncode(b, g[0:4])
	for _, part := range [][]byte{g[4:6], g[6:8], g[8:10], g[10:16]} {
		b = append(b, '-')
		b = hex.AppendEncode(b, part)
	}
	return b
}

func (g guid) String() string { return string(g.appendTo(nil)) }

// appendToken appends what uniqueTokenIdentifier is for a sign-in id: the bytes of the GUID
// in the order of Windows, base64url without padding (measured on real records of 2025).
func (g guid) appendToken(b []byte) []byte {
	w := g
	w[0], w[1], w[2], w[3] = g[3], g[2], g[1], g[0]
	w[4], w[5], w[6], w[7] = g[5], g[4], g[7], g[6]
	return base64.RawURLEncoding.AppendEncode(b, w[:])
}
