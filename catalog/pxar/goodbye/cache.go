package goodbye

import (
	"container/list"
	"io"
	"sync"
)

// maxCache is what a [Cache] keeps in memory, in bytes, besides the table that
// was read last.
const maxCache = 32 << 20

// A Cache reads tables of one archive and keeps those that were used last. Its
// zero value is ready; it is safe for concurrent use.
type Cache struct {
	mu   sync.Mutex              // guards what follows
	all  map[int64]*list.Element // by where they end
	used list.List               // of cachedTable; last used first
	held int                     // bytes
}

type cachedTable struct {
	end   int64
	table *Table
}

// Table returns the table of the directory in [start, end) of r, as
// [Read] does, or from memory.
func (c *Cache) Table(r io.ReaderAt, start, end int64) (*Table, error) {
	if t := c.get(end); t != nil && t.Start >= start {
		return t, nil
	}
	t, err := Read(r, start, end)
	if err != nil {
		return nil, err
	}
	c.put(end, t)
	return t, nil
}

func (c *Cache) get(end int64) *Table {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.all[end]
	if at == nil {
		return nil
	}
	c.used.MoveToFront(at)
	return at.Value.(cachedTable).table
}

func (c *Cache) put(end int64, t *Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[int64]*list.Element{}
	}
	if c.all[end] != nil {
		return
	}
	c.all[end] = c.used.PushFront(cachedTable{end, t})
	c.held += cacheCost(t)
	for c.held > maxCache && c.used.Len() > 1 {
		old := c.used.Remove(c.used.Back()).(cachedTable)
		delete(c.all, old.end)
		c.held -= cacheCost(old.table)
	}
}

// cacheCost is what a table takes in memory, about: small ones keep the block
// they were read with.
func cacheCost(t *Table) int { return max(tailBlock, len(t.records)) + 256 }
