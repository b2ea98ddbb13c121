package limit

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A strict store allows 100 requests in 3 seconds, and refuses more.
type strict struct {
	mu      sync.Mutex
	seen    []time.Time
	refused int
	all     int
}

func (s *strict) ask() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.seen) > 0 && now.Sub(s.seen[0]) >= 3*time.Second {
		s.seen = s.seen[1:]
	}
	s.all++
	if len(s.seen) >= 100 {
		s.refused++
		return false
	}
	s.seen = append(s.seen, now)
	return true
}

// work makes requests with a limiter as many workers of one node do.
func (s *strict) work(t *testing.T, l *Limiter, requests int) {
	var left sync.Mutex
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for {
				left.Lock()
				requests--
				done := requests < 0
				left.Unlock()
				if done {
					return
				}
				for again := true; again; {
					if err := l.Wait(t.Context()); err != nil {
						t.Error(err)
					}
					time.Sleep(30 * time.Millisecond) // on its way
					if again = !s.ask(); again {
						l.Slower()
						time.Sleep(250 * time.Millisecond)
					}
				}
			}
		})
	}
	workers.Wait()
}

// However nodes share what a store allows, at most two of a hundred requests are
// refused: also while one takes back what it had lent, and after a rest.
func TestTheStoreRefusesNextToNothing(t *testing.T) {
	const allowed = 30 // of the profile
	tests := map[string]func(t *testing.T, s *strict){
		"one node": func(t *testing.T, s *strict) {
			l := NewRequests(allowed)
			for range 4 {
				s.work(t, l, 500)
				time.Sleep(time.Minute)
			}
		},
		"two nodes, a half each": func(t *testing.T, s *strict) {
			var nodes sync.WaitGroup
			for range 2 {
				nodes.Go(func() { s.work(t, NewRequests(allowed/2), 1000) })
			}
			nodes.Wait()
		},
		"one has lent its share, and has it again": func(t *testing.T, s *strict) {
			a, b := NewRequests(allowed*0.95), NewRequests(allowed*0.05)
			var nodes sync.WaitGroup
			nodes.Go(func() { s.work(t, a, 1000) })
			time.Sleep(10 * time.Second)
			nodes.Go(func() { s.work(t, b, 700) })
			time.Sleep(2 * time.Second)
			a.Limit(allowed / 2)
			time.Sleep(5 * time.Second)
			b.Limit(allowed / 2)
			nodes.Wait()
		},
		"nobody knows what it allows": func(t *testing.T, s *strict) { s.work(t, NewRequests(0), 5000) },
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, began := &strict{}, time.Now()
				test(t, s)
				share := 100 * float64(s.refused) / float64(s.all)
				t.Logf("%d of %d requests were refused (%.2f %%) in %s", s.refused, s.all, share, time.Since(began))
				if share > 2 {
					t.Errorf("%.2f %% were refused, want at most 2 %%", share)
				}
			})
		})
	}
}

// A share that grows and shrinks keeps what the store taught.
func TestWhatWasLearnedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewRequests(100)
		l.Limit(50)
		if l.Now() != 50 {
			t.Errorf("a half is %f", l.Now())
		}
		l.Slower()
		l.Limit(100)
		if l.Now() > 50 {
			t.Errorf("after a complaint it is %f", l.Now())
		}
		time.Sleep(5 * time.Minute)
		l.take(time.Now(), 1)
		if l.Now() != 100 {
			t.Errorf("after a while it is %f", l.Now())
		}
		l.Limit(10)
		if l.Now() != 10 {
			t.Errorf("a tenth is %f", l.Now())
		}
	})
}
