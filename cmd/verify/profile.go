package main

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// profile is a record of the baseline topic taken apart. An hour counts hours since the Unix
// epoch and is named by its upper edge.
type profile struct {
	carried int64 // the offset that it was made at; -1 where it says none
	newest  int64
	ips     []network // by their keys
	asns    []network
	alerts  []remembered
	evicted int // networks that were given up
}

// network is an address or an ASN with the hours in which it was seen, falling.
type network struct {
	key   string
	hours []int64
}

// remembered is an alert that the profile knows of.
type remembered struct {
	id   string
	hour int64
}

// decode reads version 2 of a profile: version and flags, a byte each (bit 0: an unsigned
// varint follows, the offset that it was made at), the newest hour, addresses, ASNs, alerts
// and evictions. It is strict: what the one right encoder would not write is an error.
func decode(data []byte) (*profile, error) {
	c := cursor{data: data}
	if version := c.byte(); version != 2 && c.err == nil {
		return nil, fmt.Errorf("it has version %d", version)
	}
	p := &profile{carried: -1}
	flags := c.byte()
	if flags&^1 != 0 {
		c.fail("it has unknown flags")
	}
	if flags&1 != 0 {
		p.carried = int64(c.unsigned())
	}
	p.newest = c.signed()
	p.ips = c.networks(p.newest)
	p.asns = c.networks(p.newest)
	p.alerts = make([]remembered, c.count(17))
	for i := range p.alerts {
		p.alerts[i].hour = p.newest - c.signed()
	}
	for i := range p.alerts {
		p.alerts[i].id = uuidText(c.take(16))
	}
	for range c.count(2) {
		c.unsigned() // the hour
		p.evicted += int(c.unsigned())
	}
	if len(c.data) > 0 {
		c.fail("bytes follow its end")
	}
	return p, c.err
}

// cursor reads on through bytes. After the first error it gives zeros.
type cursor struct {
	data []byte
	err  error
}

func (c *cursor) fail(what string) {
	if c.err == nil {
		c.err = errors.New(what)
	}
	c.data = nil
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.data) {
		c.fail("it is cut short")
		return nil
	}
	taken := c.data[:n]
	c.data = c.data[n:]
	return taken
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) unsigned() uint64 {
	v, n := binary.Uvarint(c.data)
	if n <= 0 {
		c.fail("it has a bad number")
		return 0
	}
	c.data = c.data[n:]
	return v
}

func (c *cursor) signed() int64 {
	v, n := binary.Varint(c.data)
	if n <= 0 {
		c.fail("it has a bad number")
		return 0
	}
	c.data = c.data[n:]
	return v
}

// count reads how many of something follow that takes so many bytes at the least.
func (c *cursor) count(least int) int {
	n := c.unsigned()
	if n > uint64(len(c.data)/least) {
		c.fail("it counts more than it has room for")
		return 0
	}
	return int(n)
}

// networks reads columns: for each key how many bytes it has in common with the one before it
// and how many of its own, those, newest hours as distances back from base, bitmaps. Bit k of a
// bitmap is the hour k+1 before the network's newest.
func (c *cursor) networks(base int64) []network {
	list := make([]network, c.count(3))
	lengths := c.take(2 * len(list))
	before := ""
	for i := range lengths[:len(lengths)/2] {
		common := int(lengths[2*i])
		if common > len(before) {
			c.fail("a key has more in common with the one before it than that is long")
			return nil
		}
		own := string(c.take(int(lengths[2*i+1])))
		key := before[:common] + own
		if i > 0 && before >= key {
			c.fail("its keys are out of order")
		}
		if common < len(before) && own != "" && before[common] == own[0] {
			c.fail("a key has more in common with the one before it than it says")
		}
		list[i].key, before = networkText(key), key
	}
	for i := range list {
		list[i].hours = []int64{base - int64(c.unsigned())}
	}
	for i := range list {
		bitmap := c.take(int(min(c.unsigned(), 1<<20)))
		if n := len(bitmap); n > 0 && bitmap[n-1] == 0 {
			c.fail("a bitmap ends in zeros")
		}
		for k := range 8 * len(bitmap) {
			if bitmap[k/8]>>(k%8)&1 != 0 {
				list[i].hours = append(list[i].hours, list[i].hours[0]-1-int64(k))
			}
		}
	}
	return list
}

// networkText is the text of a network that is kept as this key.
func networkText(key string) string {
	switch {
	case len(key) == 5 && key[0] == 0xfc, len(key) == 17 && key[0] == 0xfd:
		addr, _ := netip.AddrFromSlice([]byte(key[1:]))
		return addr.String()
	}
	return key
}

func uuidText(b []byte) string {
	text := hex.EncodeToString(b)
	if len(text) != 32 {
		return text
	}
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

// checkpoint says up to where of the baseline topic the profiles of a partition are.
type checkpoint struct {
	cluster    string
	topic      [16]byte
	partitions int64
	offset     int64
}

// decodeCheckpoint reads version 1: cluster id, topic id, partition count, offset; then
// whether a timestamp follows, which nothing here depends on.
func decodeCheckpoint(data []byte) (checkpoint, error) {
	c := cursor{data: data}
	var cp checkpoint
	if version := c.byte(); version != 1 && c.err == nil {
		return cp, fmt.Errorf("it has version %d", version)
	}
	cp.cluster = string(c.take(int(min(c.unsigned(), 1<<20))))
	copy(cp.topic[:], c.take(16))
	cp.partitions, cp.offset = c.signed(), c.signed()
	if c.byte() != 0 {
		c.signed()
		c.unsigned()
	}
	if len(c.data) > 0 {
		c.fail("bytes follow its end")
	}
	return cp, c.err
}

// contains reports whether hours, which fall, have hour.
func (n network) contains(hour int64) bool {
	_, ok := slices.BinarySearchFunc(n.hours, hour, func(h, want int64) int { return int(want - h) })
	return ok
}
