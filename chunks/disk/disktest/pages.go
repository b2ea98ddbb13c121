package disktest

// pageSize is the unit in which files are stored, shared and given back. It is
// also the block size that the file system reports.
const pageSize = 4096

type block = [pageSize]byte

// A page is one block of the content of a file, or of several files that share
// it.
type page struct {
	block  *block
	refs   int  // files that have it; more than one after CloneRange
	frozen bool // the block is also part of a durable state, and must not change
}

// content is what a file reads as: pages that are absent are holes. All its
// methods need the lock of the Mem that owns it.
type content struct {
	pages map[int64]*page
	size  int64
}

// readAt fills p, which must lie within the size.
func (c *content) readAt(p []byte, off int64) {
	for len(p) > 0 {
		at := int(off % pageSize)
		n := min(len(p), pageSize-at)
		if pg := c.pages[off/pageSize]; pg != nil {
			copy(p[:n], pg.block[at:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// writeAt stores p and returns how much of it found room in the budget of m.
func (m *Mem) writeAt(c *content, p []byte, off int64) int {
	done := 0
	for done < len(p) {
		at := int(off % pageSize)
		n := min(len(p)-done, pageSize-at)
		pg := m.own(c, off/pageSize)
		if pg == nil {
			break
		}
		copy(pg.block[at:at+n], p[done:])
		done, off = done+n, off+int64(n)
		c.size = max(c.size, off)
	}
	return done
}

// own returns page i of c such that its block may be changed, or nil if there
// is no room for one.
func (m *Mem) own(c *content, i int64) *page {
	pg := c.pages[i]
	if pg != nil && pg.refs == 1 {
		if pg.frozen {
			pg.block, pg.frozen = cloneBlock(pg.block), false
		}
		return pg
	}
	if m.limit > 0 && m.used+pageSize > m.limit {
		return nil
	}
	m.used += pageSize
	fresh := &page{refs: 1}
	if pg != nil {
		fresh.block = cloneBlock(pg.block)
		pg.refs--
	} else {
		fresh.block = new(block)
	}
	c.pages[i] = fresh
	return fresh
}

func cloneBlock(b *block) *block {
	c := *b
	return &c
}

// drop takes page i out of c.
func (m *Mem) drop(c *content, i int64) {
	pg := c.pages[i]
	if pg == nil {
		return
	}
	delete(c.pages, i)
	if pg.refs--; pg.refs == 0 {
		m.used -= pageSize
	}
}

// truncate sets the size of c. What is cut off reads as zeros if it grows again.
func (m *Mem) truncate(c *content, size int64) {
	if size < c.size {
		m.zero(c, size, c.size-size)
	}
	c.size = size
}

// zero makes [off, off+n) read as zeros, and gives whole pages back. The last
// page of the file counts as whole if its content does.
func (m *Mem) zero(c *content, off, n int64) {
	end := min(off+n, c.size)
	if end <= off {
		return
	}
	if end == c.size {
		end = (end + pageSize - 1) / pageSize * pageSize
	}
	first, last := (off+pageSize-1)/pageSize, end/pageSize // whole pages
	if int64(len(c.pages)) < last-first {
		for i := range c.pages {
			if i >= first && i < last {
				m.drop(c, i)
			}
		}
	} else {
		for i := first; i < last; i++ {
			m.drop(c, i)
		}
	}
	if first > last { // within one page
		m.clear(c, off, end)
		return
	}
	m.clear(c, off, first*pageSize)
	m.clear(c, last*pageSize, end)
}

// clear zeros a part of one page. That needs no room, unless the page is
// shared; a real file system may fail then, this one goes over its limit.
func (m *Mem) clear(c *content, from, to int64) {
	i := from / pageSize
	if from >= to || c.pages[i] == nil {
		return
	}
	limit := m.limit
	m.limit = 0
	pg := m.own(c, i)
	m.limit = limit
	clear(pg.block[from-i*pageSize : to-i*pageSize])
}

// share makes page i of c the same as pg; nil is a hole.
func (m *Mem) share(c *content, i int64, pg *page) {
	if c.pages[i] == pg {
		return
	}
	m.drop(c, i)
	if pg != nil {
		pg.refs++
		c.pages[i] = pg
	}
}

// nextHole returns the first hole at or after off.
func (c *content) nextHole(off int64) (start, end int64) {
	if off >= c.size {
		return c.size, c.size
	}
	start = off
	for c.pages[start/pageSize] != nil {
		if start = (start/pageSize + 1) * pageSize; start >= c.size {
			return c.size, c.size
		}
	}
	end = c.size
	for i := range c.pages {
		if i*pageSize > start {
			end = min(end, i*pageSize)
		}
	}
	return start, end
}
