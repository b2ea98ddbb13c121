// Package limit keeps requests and bytes below what a store allows.
package limit

import (
	"context"
	"sync"
	"time"
)

// A Limiter is a token bucket that learns: told that it is too fast it halves
// its rate, and while nobody complains it goes up again to its ceiling, a twentieth
// a second, and a hundredth about where it was when it was told. With no ceiling it
// limits nothing until the first complaint.
type Limiter struct {
	mu      sync.Mutex
	ceiling float64 // per second; 0: none
	burst   float64 // seconds of events that may come at once
	rate    float64 // per second; 0: no limit now
	tokens  float64
	last    time.Time // when tokens were right
	cut     time.Time // when the rate was last halved
	hit     float64   // and what it was before
	raised  time.Time

	seen  float64 // events of late, fading over a second
	faded time.Time
}

// Bounds of what is learned.
const (
	Least    = 2.0  // per second: never slower: work must end some day
	firstCut = 40.0 // where halving begins if nothing is known of the limit, at least
	cutEvery = time.Second
)

// New returns a limiter of that many events a second; 0: none until somebody complains.
func New(ceiling float64) *Limiter {
	return &Limiter{ceiling: ceiling, rate: ceiling, burst: 1}
}

// requestBurst is the burst of requests: providers count them in windows of some
// seconds, of which the profiles leave a tenth free.
const requestBurst = 0.25

// NewRequests returns a limiter of requests.
func NewRequests(ceiling float64) *Limiter {
	l := New(ceiling)
	l.burst = requestBurst
	return l
}

// Limit sets another ceiling. What was learned stays, if it is less.
func (l *Limiter) Limit(ceiling float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ceiling == l.ceiling {
		return
	}
	if l.cut.IsZero() || l.rate == 0 || ceiling > 0 && l.rate > ceiling {
		l.settle(time.Now())
		l.rate = ceiling
	}
	l.ceiling = ceiling
}

// settle reckons the tokens up to now. The caller holds mu.
func (l *Limiter) settle(now time.Time) {
	l.tokens = min(l.tokens+now.Sub(l.last).Seconds()*l.rate, max(1, l.rate*l.burst))
	l.last = now
}

// Wait waits for one event.
func (l *Limiter) Wait(ctx context.Context) error { return l.WaitN(ctx, 1) }

// WaitN waits until n events may happen. It borrows: n may be more than a
// second's worth.
func (l *Limiter) WaitN(ctx context.Context, n int) error {
	d := l.take(time.Now(), float64(n))
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// take takes n tokens and returns how long to wait for them.
func (l *Limiter) take(now time.Time, n float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fade(now)
	l.seen += n
	l.raise(now)
	if l.rate == 0 {
		return 0
	}
	l.settle(now)
	l.tokens -= n
	if l.tokens >= 0 {
		return 0
	}
	return time.Duration(-l.tokens / l.rate * float64(time.Second))
}

// fade lets what was seen a second ago count by half.
func (l *Limiter) fade(now time.Time) {
	for age := now.Sub(l.faded); age >= time.Second; age -= time.Second {
		if l.seen /= 2; l.seen < 0.01 {
			l.seen, l.faded = 0, now
			return
		}
		l.faded = l.faded.Add(time.Second)
	}
}

// raise lets the rate recover.
func (l *Limiter) raise(now time.Time) {
	if l.cut.IsZero() || l.rate == 0 {
		return
	}
	from := l.raised
	if from.Before(l.cut) {
		from = l.cut
	}
	for now.Sub(from) >= time.Second && !l.cut.IsZero() {
		from = from.Add(time.Second)
		if l.rate *= 1.05; l.rate > 0.8*l.hit && l.rate < 1.1*l.hit { // the store complained about little more
			l.rate *= 1.01 / 1.05
		}
		switch {
		case l.ceiling > 0 && l.rate >= l.ceiling:
			l.rate, l.cut = l.ceiling, time.Time{}
		case l.ceiling == 0 && l.rate > 1000:
			l.rate, l.cut = 0, time.Time{}
		}
	}
	l.raised = from
}

// Slower is called when the store complained.
func (l *Limiter) Slower() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.cut.IsZero() && now.Sub(l.cut) < cutEvery {
		return // one complaint about many requests on their way
	}
	l.fade(now)
	was := l.rate
	if was == 0 {
		was = max(l.seen/1.5, firstCut)
		l.last, l.tokens = now, 0
	}
	l.rate, l.cut, l.hit, l.raised = max(was/2, Least), now, was, now
}

// Now is how many events a second may be now; 0: any.
func (l *Limiter) Now() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate
}
