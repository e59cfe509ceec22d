package state

import "slices"

// column is a list of short byte strings, one after another in one piece of memory: a user has
// many networks, and what is kept of each is a few bytes, less than a slice of its own would take.
type column struct {
	bytes []byte
	ends  []uint32 // of each, in bytes
}

// newColumn returns an empty column with room for so many strings of so many bytes together.
func newColumn(count, bytes int) column {
	return column{bytes: make([]byte, 0, bytes), ends: make([]uint32, 0, count)}
}

func (c *column) len() int { return len(c.ends) }

func (c *column) start(i int) int {
	if i == 0 {
		return 0
	}
	return int(c.ends[i-1])
}

// at returns string i, which must not be altered nor kept beyond the next change.
func (c *column) at(i int) []byte { return c.bytes[c.start(i):c.ends[i]:c.ends[i]] }

// end ends the string whose bytes were appended to c.bytes since the last end.
func (c *column) end() { c.ends = append(c.ends, uint32(len(c.bytes))) }

// replace makes string i another one, of which it keeps nothing.
func (c *column) replace(i int, by []byte) {
	start, end := c.start(i), int(c.ends[i])
	c.bytes = slices.Replace(c.bytes, start, end, by...)
	c.move(i, len(by)-(end-start))
}

// insert makes room for a new string i, of which it keeps nothing.
func (c *column) insert(i int, s []byte) {
	start := c.start(i)
	c.bytes = slices.Insert(c.bytes, start, s...)
	c.ends = slices.Insert(c.ends, i, uint32(start))
	c.move(i, len(s))
}

func (c *column) remove(i int) {
	start, end := c.start(i), int(c.ends[i])
	c.bytes = slices.Delete(c.bytes, start, end)
	c.move(i, start-end)
	c.ends = slices.Delete(c.ends, i, i+1)
}

// move moves the ends from i on.
func (c *column) move(i, by int) {
	for ; i < len(c.ends); i++ {
		c.ends[i] = uint32(int(c.ends[i]) + by)
	}
}

// size is how many bytes of memory it takes.
func (c *column) size() int { return cap(c.bytes) + 4*cap(c.ends) }
