// Package stall tells when work that goes on has stalled: it lives, and gets
// nowhere.
package stall

import (
	"slices"
	"sync"
	"time"
)

const (
	// After is how long work may get nowhere.
	After = 20 * time.Minute
	// least is how long any work may take before it is asked whether it gets on.
	least = 30 * time.Minute
	// of is how many of the last runs say how long one takes.
	of = 10
)

// Deadline is until when after its begin work is left alone, whatever it does:
// three times the longest of the last runs, which took so long, the newest last,
// and at least half an hour.
func Deadline(took []time.Duration) time.Duration {
	took = took[max(0, len(took)-of):]
	if len(took) == 0 {
		return least
	}
	return max(3*slices.Max(took), least)
}

// Signs are what shows that work gets on. The zero value is that of work that
// begins when they are asked first. Its methods may be called concurrently.
type Signs struct {
	mu      sync.Mutex
	at      time.Time // of the newest
	figures []figure
}

// A figure is watched. It changes as long as the work gets on.
type figure struct {
	now  func() int64
	last int64
}

// Seen notes that the work got on.
func (s *Signs) Seen(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = now
}

// Watch has a figure looked at whenever it is asked for how long nothing was
// seen. It is called from any goroutine, also when the work is over.
func (s *Signs) Watch(value func() int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures = append(s.figures, figure{value, value()})
}

// Quiet is for how long no sign was seen.
func (s *Signs) Quiet(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() {
		s.at = now
	}
	for i := range s.figures {
		if f := &s.figures[i]; f.now() != f.last {
			f.last, s.at = f.now(), now
		}
	}
	return max(0, now.Sub(s.at))
}
