// Package ahead keeps what was read before anybody asked for it.
package ahead

import (
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A pack that is read in order without a plan is read in parts of at most
// maxWindow.
const (
	maxWindow = 16 << 20
	minWindow = 2 << 20 // read ahead, doubled while reads go on in order
)

// A Buffer keeps what was read ahead, in memory, for readers that ask for
// one chunk after the other.
type Buffer struct {
	mu    sync.Mutex
	blobs map[chunks.Digest]chunks.Blob
	order []chunks.Digest
	bytes int64
	packs map[uint32]*stream
}

// A stream is how a pack was read lately.
type stream struct {
	next   uint32 // the entry behind the last one read
	window int64
}

const maxAhead = 64 << 20 // bytes kept

// New returns an empty buffer.
func New() *Buffer {
	return &Buffer{blobs: map[chunks.Digest]chunks.Blob{}, packs: map[uint32]*stream{}}
}

// Window returns how many bytes to read from an entry on: that alone if it is
// out of order, more and more if it is the next.
func (a *Buffer) Window(number, entry uint32) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := a.packs[number]
	switch {
	case st == nil && entry == 0: // a pack is often read from its beginning
		return minWindow
	case st == nil:
		return 0
	case entry >= st.next && entry < st.next+8:
		st.window = min(max(2*st.window, minWindow), maxWindow)
		return st.window
	}
	st.window = 0
	return 0
}

// Read notes that a pack was read up to an entry.
func (a *Buffer) Read(number, entry uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := a.packs[number]
	if st == nil {
		if len(a.packs) > 256 {
			clear(a.packs)
		}
		st = &stream{}
		a.packs[number] = st
	}
	st.next = entry + 1
}

// Put keeps a copy of what was read ahead.
func (a *Buffer) Put(d chunks.Digest, b chunks.Blob) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.blobs[d] != nil {
		return
	}
	a.blobs[d] = slices.Clone(b)
	a.order = append(a.order, d)
	a.bytes += int64(len(b))
	if len(a.order) > 4*len(a.blobs)+64 { // what was handed out
		a.order = slices.DeleteFunc(a.order, func(d chunks.Digest) bool { return a.blobs[d] == nil })
	}
	for a.bytes > maxAhead {
		a.drop(a.order[0])
		a.order = a.order[1:]
	}
}

func (a *Buffer) drop(d chunks.Digest) {
	a.bytes -= int64(len(a.blobs[d]))
	delete(a.blobs, d)
}

// Get returns what was read ahead; it is handed out once.
func (a *Buffer) Get(d chunks.Digest, buf []byte) (chunks.Blob, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, ok := a.blobs[d]
	if !ok {
		return nil, false
	}
	a.drop(d)
	return append(buf[:0], b...), true
}
