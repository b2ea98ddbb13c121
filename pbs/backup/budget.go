package backup

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// A budget bounds the memory for uploads of one session.
//
// A chunk reserves what it is read into. While less than half of the budget is
// taken that is all of it at once; beyond, it grows with what has come, so that
// what a client announces and does not send costs nothing. A body that waits is
// held up by the flow control of HTTP/2, first its stream and then the whole
// connection. That could be a deadlock: if the client interleaves more uploads
// than fit, those that wait fill the connection's window, and those that were
// let in never get their last bytes. So the rule is to let a chunk wait only
// while another one is complete, and thus about to be checked and stored,
// which needs no network. While all that were let in are still arriving, the
// next is let in as well, up to a limit that no honest client reaches: the
// official ones have 64 uploads of 4 MiB under way. What is above the soft limit
// comes out of one pool of all sessions, so that no number of hostile clients
// can take more than the soft limit each and that pool.
type budget struct {
	soft, hard int64 // bytes
	pool       *pool

	mu sync.Mutex

	held     int64         // bytes reserved
	complete int           // reservations whose chunk has arrived
	freed    chan struct{} // closed when memory is given back
}

// interleaved is how many times the soft limit may be exceeded by clients that
// send many chunks at the same time.
const interleaved = 8

func newBudget(bytes int64, p *pool) *budget {
	return &budget{soft: bytes, hard: interleaved * bytes, pool: p, freed: make(chan struct{})}
}

// A pool is memory that sessions share.
type pool struct{ left atomic.Int64 }

// take takes n bytes, of which some may come back, if they are there.
func (p *pool) take(n int64) bool {
	if left := p.left.Add(-n); n > 0 && left < 0 {
		p.left.Add(n)
		return false
	}
	return true
}

// above returns how much of held bytes comes out of the pool.
func (b *budget) above(held int64) int64 { return max(0, held-b.soft) }

// errMemory says that a client sends more chunks side by side than anybody
// could keep.
var errMemory = errors.New("too many chunks are sent at the same time")

// A reservation is the memory of one chunk.
type reservation struct {
	b    *budget
	n    int64
	done bool // the chunk has arrived
}

// reserve waits until there is room for n bytes.
func (b *budget) reserve(ctx context.Context, n int64) (*reservation, error) {
	r := &reservation{b: b}
	return r, r.grow(ctx, n)
}

// plenty reports whether n bytes would leave half of the budget free.
func (b *budget) plenty(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held+n <= b.soft/2
}

// grow waits until there is room for n bytes more.
func (r *reservation) grow(ctx context.Context, n int64) error {
	b := r.b
	for {
		b.mu.Lock()
		alone := b.held == r.n
		fits := alone || b.held+n <= b.soft || b.complete == 0 && b.held+n <= b.hard
		if fits && (alone || b.pool.take(b.above(b.held+n)-b.above(b.held))) {
			if alone { // one chunk is always let in, whoever has taken the pool
				b.pool.left.Add(b.above(b.held) - b.above(b.held+n))
			}
			b.held += n
			r.n += n
			b.mu.Unlock()
			return nil
		}
		if b.complete == 0 {
			b.mu.Unlock()
			return errMemory
		}
		freed := b.freed
		b.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// arrived says that the chunk needs nothing from the network any more.
func (r *reservation) arrived() {
	r.b.mu.Lock()
	r.b.complete++
	r.done = true
	r.b.mu.Unlock()
}

// release gives the memory back, and lets those that wait try again.
func (r *reservation) release() {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pool.left.Add(b.above(b.held) - b.above(b.held-r.n))
	b.held -= r.n
	if r.done {
		b.complete--
	}
	close(b.freed)
	b.freed = make(chan struct{})
}
