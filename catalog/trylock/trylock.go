// Package trylock has locks by name that are only tried, never waited for.
package trylock

import "sync"

// A Set is all locks of one place. The zero value holds none.
type Set struct {
	mu   sync.Mutex
	held map[string]int // readers, or -1
}

// Exclusive takes what nobody holds; free gives it back, once.
func (s *Set) Exclusive(what string) (free func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[what] != 0 {
		return nil, false
	}
	return s.take(what, -1), true
}

// Shared takes what nobody holds alone.
func (s *Set) Shared(what string) (free func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[what] < 0 {
		return nil, false
	}
	return s.take(what, s.held[what]+1), true
}

// Len is how many names are held.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

func (s *Set) take(what string, n int) (free func()) {
	if s.held == nil {
		s.held = map[string]int{}
	}
	s.held[what] = n
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[what]--; s.held[what] <= 0 {
			delete(s.held, what)
		}
	})
}
