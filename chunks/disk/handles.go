package disk

import (
	"container/list"
	"os"
	"sync"
)

// Handles keeps files open for reading, those used last. It is safe for
// concurrent use.
type Handles struct {
	fs  FS
	max int

	mu sync.Mutex

	byKey map[uint64]*handle
	used  list.List // of *handle, last used first
}

type handle struct {
	key   uint64
	file  File
	users int
	stale bool // closed by the last user
	place *list.Element
}

// NewHandles returns handles on files of fs, at most max of them beside those
// in use.
func NewHandles(fs FS, max int) *Handles {
	return &Handles{fs: fs, max: max, byKey: map[uint64]*handle{}}
}

// Take returns the open file of key and a function that gives it back. name
// is asked for the file's name if it has to be opened.
func (h *Handles) Take(key uint64, name func() string) (File, func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.byKey[key]
	if e == nil {
		f, err := h.fs.OpenFile(name(), os.O_RDONLY, 0)
		if err != nil {
			return nil, nil, err
		}
		e = &handle{key: key, file: f}
		e.place = h.used.PushFront(e)
		h.byKey[key] = e
		if h.used.Len() > h.max {
			h.forget(h.used.Back().Value.(*handle))
		}
	}
	h.used.MoveToFront(e.place)
	e.users++
	return e.file, func() { h.give(e) }, nil
}

func (h *Handles) give(e *handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.users--
	if e.stale && e.users == 0 {
		_ = e.file.Close() // only read from
	}
}

// forget closes a file as soon as nobody reads from it. h.mu is held.
func (h *Handles) forget(e *handle) {
	h.used.Remove(e.place)
	delete(h.byKey, e.key)
	e.stale = true
	if e.users == 0 {
		_ = e.file.Close() // only read from
	}
}

// Drop closes a file that is going away or was replaced.
func (h *Handles) Drop(key uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.byKey[key]; e != nil {
		h.forget(e)
	}
}

// Close closes every file that is not in use, and the others when they are
// given back.
func (h *Handles) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.used.Len() > 0 {
		h.forget(h.used.Back().Value.(*handle))
	}
}
