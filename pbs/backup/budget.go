package backup

import (
	"context"
	"errors"
	"sync"
)

// A budget bounds the memory for uploads of one session.
//
// A chunk reserves its length before its body is read; a body that waits is
// held up by the flow control of HTTP/2, first its stream and then the whole
// connection. That could be a deadlock: if the client interleaves more uploads
// than fit, those that wait fill the connection's window, and those that were
// let in never get their last bytes. So the rule is to let a chunk wait only
// while another one is complete, and thus about to be checked and stored,
// which needs no network. While all that were let in are still arriving, the
// next is let in as well, up to a limit that no honest client reaches: the
// official ones have 64 uploads of 4 MiB under way.
type budget struct {
	soft, hard int64 // bytes

	mu sync.Mutex

	held     int64         // bytes reserved
	complete int           // reservations whose chunk has arrived
	freed    chan struct{} // closed when memory is given back
}

// interleaved is how many times the soft limit may be exceeded by clients that
// send many chunks at the same time.
const interleaved = 8

func newBudget(bytes int64) *budget {
	return &budget{soft: bytes, hard: interleaved * bytes, freed: make(chan struct{})}
}

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
	for {
		b.mu.Lock()
		switch {
		case b.held == 0 || b.held+n <= b.soft || b.complete == 0 && b.held+n <= b.hard:
			b.held += n
			b.mu.Unlock()
			return &reservation{b: b, n: n}, nil
		case b.complete == 0:
			b.mu.Unlock()
			return nil, errMemory
		}
		freed := b.freed
		b.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
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
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.b.held -= r.n
	if r.done {
		r.b.complete--
	}
	close(r.b.freed)
	r.b.freed = make(chan struct{})
}
