package state

import (
	"math"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// cache holds the committed profiles of one partition that were used last, up to a number
// of bytes that the store sets anew each time, for partitions come and go.
type cache struct {
	store *Store
	lru   *simplelru.LRU[string, *entry]
	bytes int
}

// entry is a decoded profile and what it is accounted with.
type entry struct {
	user    string
	profile *Profile
	encoded []byte // made by Changes; nil once the profile was handed out again
	size    int
}

// weigh sets the size in bytes of memory, and returns by how much it has grown.
func (e *entry) weigh() int {
	const listed = 160 // an element, its map slot and the entry
	before := e.size
	e.size = listed + 2*len(e.user) + e.profile.size()
	return e.size - before
}

func newCache(s *Store) cache {
	lru, err := simplelru.NewLRU[string, *entry](math.MaxInt, nil)
	if err != nil {
		panic("BUG: " + err.Error()) // only a size of zero is an error
	}
	return cache{store: s, lru: lru}
}

func (c *cache) get(user string) (*entry, bool) { return c.lru.Get(user) }

// add takes an entry in and lets the longest unused go, never the one that came.
func (c *cache) add(e *entry) {
	c.remove(e.user)
	e.weigh()
	c.lru.Add(e.user, e)
	c.account(1, e.size)
	for share := c.store.cacheShare(); c.bytes > share && c.lru.Len() > 1; {
		_, old, _ := c.lru.RemoveOldest()
		c.account(-1, -old.size)
		c.store.count.evictions.Add(1)
	}
}

func (c *cache) remove(user string) {
	if e, ok := c.lru.Peek(user); ok {
		c.lru.Remove(user)
		c.account(-1, -e.size)
	}
}

func (c *cache) clear() {
	c.account(-c.lru.Len(), -c.bytes)
	c.lru.Purge()
}

func (c *cache) account(profiles, bytes int) {
	c.bytes += bytes
	c.store.count.profiles.Add(int64(profiles))
	c.store.count.bytes.Add(int64(bytes))
}
