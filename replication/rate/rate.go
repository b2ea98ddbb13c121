// Package rate limits how fast bytes move: a tree of token buckets, in which a
// byte has to pass its own bucket and those of all above it (node, link, job).
package rate

import (
	"context"
	"io"
	"math"
	"sync"
	"time"
)

// A Limit is a rate in bytes per second and how many bytes may go at once
// after a pause. A Rate of 0 is no limit; a Burst of 0 is one second's worth,
// as a sync job of PBS has it (PBS protocol notes §6.6).
type Limit struct {
	Rate  int64 `json:"rate"`
	Burst int64 `json:"burst"`
}

func (l Limit) burst() float64 {
	if l.Burst > 0 {
		return float64(l.Burst)
	}
	return float64(l.Rate)
}

// A Bucket passes bytes within a limit, and within those of the buckets above
// it. Any number of streams may share one; none of them starves, since each
// waits for what it took itself. A nil Bucket limits nothing.
type Bucket struct {
	up    *Bucket
	limit func(now time.Time) Limit

	mu     sync.Mutex
	tokens float64 // negative: what was let through and is not paid for yet
	earned float64 // tokens that have come in all
	last   time.Time
	cur    Limit
}

// Fixed returns the function of a limit that never changes.
func Fixed(l Limit) func(time.Time) Limit { return func(time.Time) Limit { return l } }

// New returns a bucket below up, which may be nil. limit is asked all the time:
// it may follow the hour of the day, or what an operator changes.
func New(up *Bucket, limit func(now time.Time) Limit) *Bucket {
	now := time.Now()
	l := limit(now)
	return &Bucket{up: up, limit: limit, tokens: l.burst(), last: now, cur: l}
}

// Wait lets n bytes through, which have arrived or are about to be sent, and
// returns when the next ones may follow.
func (b *Bucket) Wait(ctx context.Context, n int) error {
	due := make([]float64, 0, 4)
	now := time.Now()
	for at := b; at != nil; at = at.up {
		due = append(due, at.take(now, n))
	}
	for {
		var until time.Duration
		now, level := time.Now(), 0
		for at := b; at != nil; at = at.up {
			until = max(until, at.left(now, due[level]))
			level++
		}
		if until <= 0 {
			return ctx.Err()
		}
		t := time.NewTimer(min(until, lookAgain))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// lookAgain is how long a limit is relied on that somebody waits for: it may be
// raised meanwhile.
const lookAgain = time.Second

// take takes n tokens and returns when they are paid for: when so many tokens have
// come in all.
func (b *Bucket) take(now time.Time, n int) (due float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.refill(now)
	if l.Rate <= 0 {
		return b.earned
	}
	if b.tokens -= float64(n); b.tokens >= 0 {
		return b.earned
	}
	// A debt made under an earlier, higher limit must not block for hours.
	b.tokens = max(b.tokens, -2*float64(l.Rate)-float64(n))
	return b.earned - b.tokens
}

// left returns how long it takes until so many tokens have come in all, as the
// limit is now.
func (b *Bucket) left(now time.Time, due float64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.refill(now)
	if l.Rate <= 0 || b.earned >= due {
		return 0
	}
	return time.Duration(math.Ceil((due - b.earned) / float64(l.Rate) * float64(time.Second)))
}

// refill adds what has come since the last time, and returns the limit of now. The
// caller holds mu.
func (b *Bucket) refill(now time.Time) Limit {
	l := b.limit(now)
	passed := max(now.Sub(b.last).Seconds(), 0)
	if b.last.Before(now) {
		b.last = now
	}
	switch {
	case l.Rate <= 0:
		b.tokens = 0
	case b.cur.Rate <= 0: // the limit begins now: no debt, and a burst as after a pause
		b.tokens = l.burst()
	default:
		b.earned += passed * float64(l.Rate)
		b.tokens = min(l.burst(), b.tokens+passed*float64(l.Rate))
	}
	b.cur = l
	return l
}

// piece is the most that is read at once under a limit: small enough that a
// limit of some hundred KiB/s is not a staircase.
const piece = 32 << 10

// A Reader reads within a bucket. After the context is done it fails.
type Reader struct {
	Ctx    context.Context
	R      io.Reader
	Bucket *Bucket
}

// Read reads, and waits for what it read.
func (r *Reader) Read(p []byte) (int, error) {
	if r.Bucket == nil {
		return r.R.Read(p)
	}
	n, err := r.R.Read(p[:min(len(p), piece)])
	if n > 0 {
		if werr := r.Bucket.Wait(r.Ctx, n); werr != nil && err == nil {
			err = werr
		}
	}
	return n, err
}

// A Writer writes no faster than a bucket lets it.
type Writer struct {
	Ctx    context.Context
	W      io.Writer
	Bucket *Bucket
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.Bucket == nil {
		return w.W.Write(p)
	}
	for len(p) > 0 && err == nil {
		more := 0
		if err = w.Bucket.Wait(w.Ctx, min(piece, len(p))); err == nil {
			more, err = w.W.Write(p[:min(piece, len(p))])
		}
		n, p = n+more, p[more:]
	}
	return n, err
}
