package client

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/catalog/archive/content"
	"github.com/holdfast-mesh/holdfast/chunks"
)

var _ content.Expecter = (*source)(nil)

// expected are chunks that will be asked for one after the other, and are
// fetched side by side before that: else a long way makes a restore as slow as
// it is long.
//
// They have a budget of their own. A chunk that needs more than it was given is
// left to be asked for. Whoever jumps elsewhere leaves some behind; when others
// wait for room those go that were passed over.
type expected struct {
	s      *source
	budget *semaphore.Weighted

	mu      sync.Mutex
	queue   []chunks.Digest // not yet begun
	held    map[chunks.Digest]*early
	order   []chunks.Digest // of held, oldest first; some are gone from it
	misses  int             // asked for and not expected, since the last that was
	work    sync.WaitGroup
	stopped bool
}

// An early chunk is there before it is asked for, or about to be.
type early struct {
	loan loan
	done chan struct{}

	// Set before done is closed; nil if it could not be had.
	buf *chunks.Buffer
}

const (
	// maxExpected bounds how many chunks are remembered to be fetched.
	maxExpected = 4096

	// patience is how many chunks in a row may be asked for that nobody
	// expected, before those that were expected count as left behind.
	patience = 32
)

// Expect begins to fetch chunks that will be asked for, in this order.
func (s *source) Expect(want []chunks.Digest) {
	e := &s.expected
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue)+len(want) > maxExpected {
		e.queue = nil
	}
	e.queue = append(e.queue, want...)
	e.next()
}

// next begins what there is room for. The caller holds mu.
func (e *expected) next() {
	for len(e.queue) > 0 && !e.stopped && e.s.r.session.Context().Err() == nil {
		d := e.queue[0]
		if e.held[d] != nil {
			e.queue = e.queue[1:]
			continue
		}
		p := &early{loan: loan{s: e.s, budget: e.budget}, done: make(chan struct{})}
		n := e.s.guess()
		cost := e.s.near.cost(n)
		if !e.acquire(cost) && !(e.forget() && e.acquire(cost)) {
			return
		}
		p.loan.bytes, p.loan.cost = n, cost
		e.queue = e.queue[1:]
		e.held[d] = p
		e.order = append(e.order, d)
		e.work.Go(func() { e.fetch(p, d) })
	}
}

// acquire takes n bytes of the budget, if room is left then for chunks to turn
// out longer than thought: those that do, and find none, have come for nothing.
func (e *expected) acquire(n int64) bool {
	spare := min(e.s.r.c.cfg.InFlight/8, chunks.MaxBlob)
	if !e.budget.TryAcquire(n + spare) {
		return false
	}
	e.budget.Release(spare)
	return true
}

// fetch fetches one chunk. What goes wrong shows when it is asked for.
func (e *expected) fetch(p *early, d chunks.Digest) {
	buf, err := p.loan.tryRead(e.s.r.session.Context(), d)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		e.s.learn(len(buf.Bytes))
		p.buf = buf
	} else {
		p.loan.giveBack()
		if e.held[d] == p {
			delete(e.held, d)
		}
	}
	close(p.done)
	e.next()
}

// take hands a chunk over that was expected, nil if there is none.
func (e *expected) take(ctx context.Context, d chunks.Digest) *chunks.Buffer {
	e.mu.Lock()
	p := e.held[d]
	if p == nil {
		e.misses++
		e.mu.Unlock()
		return nil
	}
	delete(e.held, d)
	e.misses = 0
	e.mu.Unlock()
	select {
	case <-p.done:
	case <-ctx.Done():
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.held[d] == nil { // for the next who asks
			e.held[d] = p
			return nil
		}
		e.work.Go(func() { <-p.done; e.drop(p) })
		return nil
	}
	if p.buf == nil {
		return nil
	}
	b := p.buf
	p.buf = nil
	p.loan.giveBack()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next()
	return b
}

// drop frees what is done, and begins what waits for the room.
func (e *expected) drop(p *early) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.free()
	e.next()
}

func (p *early) free() {
	if p.buf != nil {
		p.buf.Free()
		p.buf = nil
		p.loan.giveBack()
	}
}

// forget drops the oldest chunks if they were left behind. The caller holds mu.
func (e *expected) forget() (freed bool) {
	if e.misses < patience {
		return false
	}
	return e.dropDone()
}

// dropDone drops all chunks that are there. The caller holds mu.
func (e *expected) dropDone() (freed bool) {
	left := e.order[:0]
	for _, d := range e.order {
		p := e.held[d]
		if p == nil {
			continue
		}
		select {
		case <-p.done:
			delete(e.held, d)
			p.free()
			freed = true
		default:
			left = append(left, d)
		}
	}
	e.order = left
	return freed
}

// close frees everything. The session has ended.
func (e *expected) close() {
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	e.work.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropDone()
}
