package verify

import (
	"context"
	"sync"
	"time"
)

// A pace lets so many bytes pass in a second, one after the other; those who
// come while the others wait, wait longer. Zero lets everything pass.
type pace struct {
	rate int64 // bytes in a second

	mu sync.Mutex

	next time.Time // when the next may pass
}

// wait waits until n bytes may pass, or ctx ends.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(p.reserve(time.Now(), n))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reserve returns how long n bytes have to wait. Time that nobody used is lost.
func (p *pace) reserve(now time.Time, n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	return wait
}
