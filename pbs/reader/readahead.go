package reader

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
)

const (
	// nearby is how far from the expected chunk a request may be and still
	// count as reading in order: clients have some requests under way, which
	// overtake each other, and skip what they have.
	nearby = 64

	// proof is how many requests in a row must be in order before anything is
	// read ahead. Random access, of a mounted archive, should cost nothing.
	proof = 3

	// busy is how many requests under way show that a client needs no help: it
	// keeps the disk at work by itself.
	busy = 4

	// large is the mean size of chunks, in bytes, from which on copying them costs
	// more than reading many with one call saves.
	large = 256 << 10

	// maxAhead bounds how many chunks are read ahead, where they are small.
	maxAhead = 256
)

// readahead reads chunks that a client is going to ask for. At most one batch
// of them is read at a time.
type readahead struct {
	src   chunks.BatchSource
	limit int64 // bytes of content; 0: nothing is read ahead
	ctx   context.Context
	stop  context.CancelFunc

	mu sync.Mutex

	of       *contents // what the client reads
	next     int       // the chunk that is expected
	inOrder  int       // requests in a row that were
	frontier int       // chunks before this one have been asked for
	asked    int       // requests under way
	held     map[chunks.Digest]*prefetched
	bytes    int64 // of content, of held
	reading  bool

	batches sync.WaitGroup
}

// A prefetched chunk is one that is in memory, or about to be.
type prefetched struct {
	at   int
	size int64 // of the content
	done chan struct{}

	// Set before done is closed. The blob is nil if it could not be read.
	blob   chunks.Blob
	buffer *chunks.Buffer
}

func newReadahead(src chunks.BatchSource, limit int64) *readahead {
	ctx, stop := context.WithCancel(context.Background())
	return &readahead{src: src, limit: max(limit, 0), ctx: ctx, stop: stop, held: map[chunks.Digest]*prefetched{}}
}

// close stops reading. No get may be under way.
func (a *readahead) close() {
	a.stop()
	a.batches.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(func(*prefetched) bool { return true })
}

// get returns the blob of d, chunk at of c, in a buffer that the caller frees.
func (a *readahead) get(ctx context.Context, d chunks.Digest, c *contents, at int) (chunks.Blob, *chunks.Buffer, error) {
	a.mu.Lock()
	a.asked++
	a.follow(c, d, at)
	p := a.take(d)
	a.schedule()
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.asked--
		a.mu.Unlock()
	}()
	if p != nil {
		select {
		case <-p.done:
		case <-ctx.Done():
			a.giveBack(d, p)
			return nil, nil, context.Cause(ctx)
		}
		if p.blob != nil {
			return p.blob, p.buffer, nil
		}
	}
	start, end := c.index.Range(at)
	buffer := chunks.GetBuffer(int(end - start))
	blob, err := a.src.Get(ctx, d, buffer.Bytes)
	if err != nil {
		buffer.Free()
		return nil, nil, err
	}
	return blob, buffer, nil
}

// follow notes a request. A chunk that the index has at several places is
// taken for the one that is expected, if that is one of them.
func (a *readahead) follow(c *contents, d chunks.Digest, at int) {
	if a.of == c {
		for i := a.next; i < min(a.next+nearby, c.index.Len()); i++ {
			if c.index.Digest(i) == d {
				at = i
				break
			}
		}
	}
	if a.of != c || at < a.next-nearby || at >= a.next+nearby {
		a.of, a.inOrder, a.next, a.frontier = c, 0, at, at
		a.forget(func(*prefetched) bool { return true })
	}
	a.inOrder++
	a.next = max(a.next, at+1)
	a.forget(func(p *prefetched) bool { return p.at < a.next-nearby })
}

// take hands a chunk that was read ahead over to the caller.
func (a *readahead) take(d chunks.Digest) *prefetched {
	p := a.held[d]
	if p != nil {
		delete(a.held, d)
		a.bytes -= p.size
	}
	return p
}

// giveBack undoes take.
func (a *readahead) giveBack(d chunks.Digest, p *prefetched) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held[d] == nil {
		a.held[d] = p
		a.bytes += p.size
	}
}

// forget drops the chunks for which old is true, but those that are being read.
func (a *readahead) forget(old func(*prefetched) bool) {
	for d, p := range a.held {
		if !old(p) {
			continue
		}
		select {
		case <-p.done:
			delete(a.held, d)
			a.bytes -= p.size
			p.free()
		default:
		}
	}
}

func (p *prefetched) free() {
	if p.buffer != nil {
		p.buffer.Free()
	}
}

// schedule begins to read the next batch, if there is reason to.
func (a *readahead) schedule() {
	if a.reading || a.inOrder < proof || a.asked > busy || a.ctx.Err() != nil {
		return
	}
	want, batch := a.plan()
	if len(want) == 0 {
		return
	}
	a.reading = true
	a.batches.Go(func() { a.read(want, batch) })
}

// plan chooses what to read next, and holds places for it.
func (a *readahead) plan() (want []chunks.Digest, batch map[chunks.Digest]*prefetched) {
	batch = map[chunks.Digest]*prefetched{}
	x := a.of.index
	for i := max(a.frontier, a.next); i < x.Len() && len(a.held) < maxAhead; i++ {
		start, end := x.Range(i)
		if a.bytes+end-start > a.limit {
			break
		}
		a.frontier = i + 1
		d := x.Digest(i)
		if a.held[d] != nil {
			continue
		}
		p := &prefetched{at: i, size: end - start, done: make(chan struct{})}
		a.held[d], batch[d] = p, p
		a.bytes += p.size
		want = append(want, d)
	}
	return want, batch
}

// read reads a batch. What cannot be read is left to the request for it, which
// then fails with the reason.
func (a *readahead) read(want []chunks.Digest, batch map[chunks.Digest]*prefetched) {
	var size int64
	for _, p := range batch {
		size += p.size
	}
	if size/int64(len(batch)) >= large {
		a.readEach(want, batch)
	} else {
		a.readMany(want, batch)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reading = false
	a.schedule()
}

// readEach reads chunks one by one, right into their buffers, so that nothing
// is copied; two at a time, to keep the disk at work.
func (a *readahead) readEach(want []chunks.Digest, batch map[chunks.Digest]*prefetched) {
	var g errgroup.Group
	g.SetLimit(2)
	for _, d := range want {
		g.Go(func() error {
			p := batch[d]
			defer close(p.done)
			buffer := chunks.GetBuffer(int(p.size))
			blob, err := a.src.Get(a.ctx, d, buffer.Bytes)
			if err != nil {
				buffer.Free()
				return nil
			}
			p.blob, p.buffer = blob, buffer
			return nil
		})
	}
	_ = g.Wait() // no call fails
}

// readMany reads chunks as the source likes it best.
func (a *readahead) readMany(want []chunks.Digest, batch map[chunks.Digest]*prefetched) {
	var mu sync.Mutex // of batch: the source may call from several goroutines
	a.src.GetMany(a.ctx, want, func(d chunks.Digest, b chunks.Blob, err error) error {
		mu.Lock()
		p := batch[d]
		delete(batch, d)
		mu.Unlock()
		if p == nil {
			return nil
		}
		if err == nil {
			p.buffer = chunks.GetBuffer(len(b))
			p.blob = append(p.buffer.Bytes, b...)
		}
		close(p.done)
		return nil
	})
	for _, p := range batch {
		close(p.done)
	}
}
