package state

import "sync"

// A Held is a coverage that stays as it is as long as anybody wants that. The
// zero value is ready.
type Held struct {
	mu sync.Mutex

	kept *Coverage // of the first holder
	n    int
}

// Hold keeps c, or what is kept already, until release is called.
func (h *Held) Hold(c Coverage) (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	if h.kept == nil {
		h.kept = &c
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.n--; h.n == 0 {
			h.kept = nil
		}
	}
}

// Now returns what is kept, or nil.
func (h *Held) Now() *Coverage {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kept
}
