package disktest

import (
	"fmt"
	"maps"
	"path"
	"slices"
)

// The functions of this file damage a disk behind the back of whoever uses
// it, or look at it. They are no operations, work after a crash too, and panic
// if the file is not there: a test that damages nothing tests nothing.

// FlipBit turns one bit over: of the byte at off the one that off%8 says.
func (m *Mem) FlipBit(name string, off int64) {
	b := m.Bytes(name)
	m.WriteRaw(name, off, []byte{b[off] ^ 1<<(off%8)})
}

// WriteRaw stores data, durably. Changes that are not durable yet stay so, and
// a crash may put them on top.
func (m *Mem) WriteRaw(name string, off int64, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.mustFind(name)
	saved := i.savedContent()
	limit := m.limit
	m.limit = 0
	defer func() { m.limit = limit }()
	m.writeAt(&i.live, data, off)
	new(Mem).writeAt(saved, data, off)
	i.setSaved(saved)
}

// TruncateFile sets the length, durably.
func (m *Mem) TruncateFile(name string, size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.mustFind(name)
	saved := i.savedContent()
	m.truncate(&i.live, size)
	new(Mem).truncate(saved, size)
	i.setSaved(saved)
}

// Bytes returns the content of a file as it is read now.
func (m *Mem) Bytes(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.mustFind(name)
	b := make([]byte, i.live.size)
	i.live.readAt(b, 0)
	return b
}

// Names returns the paths of all files, sorted.
func (m *Mem) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	var walk func(string, *inode)
	walk = func(name string, i *inode) {
		if !i.isDir() {
			all = append(all, name)
		}
		for _, base := range slices.Sorted(maps.Keys(i.entries)) {
			walk(path.Join(name, base), i.entries[base])
		}
	}
	walk("/", m.root)
	return all
}

func (m *Mem) mustFind(name string) *inode {
	i, err := m.find(name)
	if err != nil || i.isDir() {
		panic(fmt.Sprintf("disktest: %s is not a file (%v)", name, err))
	}
	return i
}

// savedContent returns the durable state as a content of its own.
func (i *inode) savedContent() *content {
	c := &content{map[int64]*page{}, i.size}
	for n, b := range i.saved {
		c.pages[n] = &page{block: b, refs: 1, frozen: true}
	}
	return c
}

func (i *inode) setSaved(c *content) {
	clear(i.saved)
	for n, pg := range c.pages {
		i.saved[n] = pg.block
	}
	i.size = c.size
}
