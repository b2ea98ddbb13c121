package h2

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
)

// A stream is one request and its answer.
type stream struct {
	c      *conn
	id     uint32
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   body

	// Guarded by the connection's mutex.
	window int64 // bytes of the answer that the client takes
}

func (s *stream) room() *int64 { return &s.window }

// A body is what the client sends of a request. Either the handler waits for
// bytes, and the reader of the connection puts them right where they belong;
// or bytes have come before they were asked for, and wait in blocks.
type body struct {
	mu      sync.Mutex
	arrived *sync.Cond
	blocks  []*block // oldest first
	want    []byte   // of a handler that waits; nil: none does
	filling bool     // the reader writes to want
	got     int      // bytes of want that are there
	credit  int      // taken by the handler, and not yet told the client
	err     error    // after what is in blocks
	closed  bool     // nobody wants the rest
}

// errAbandoned is what a body ends with that the handler did not read.
var errAbandoned = errors.New("the handler has ended")

// fail ends a stream before its time.
func (s *stream) fail(err error) {
	s.cancel(err)
	s.body.end(err)
	s.c.mu.Lock()
	s.c.wake()
	s.c.mu.Unlock()
}

// end says that nothing more comes, and why: io.EOF when all is there.
func (b *body) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.arrived.Broadcast()
}

// bodyReader is a body as the handler sees it.
type bodyReader struct{ s *stream }

// Read waits until p is full or the body ends: most handlers know how much they
// want, and need not be woken for every frame of it.
func (r bodyReader) Read(p []byte) (n int, err error) {
	b := &r.s.body
	b.mu.Lock()
	defer b.mu.Unlock()
	for n < len(p) {
		switch {
		case len(b.blocks) > 0 && (b.err == nil || b.err == io.EOF):
			n += r.unblock(p[n:])
		case b.err != nil:
			if n > 0 {
				return n, nil // and the reason the next time
			}
			return 0, b.err
		default:
			n += b.await(p[n:])
		}
	}
	return n, nil
}

// unblock takes what came before it was asked for. The caller holds mu.
func (r bodyReader) unblock(p []byte) int {
	b := &r.s.body
	first := b.blocks[0]
	n := copy(p, first.left)
	if first.left = first.left[n:]; len(first.left) == 0 {
		b.blocks = b.blocks[1:]
		blocks.Put(first)
	}
	r.s.took(n, n)
	return n
}

// await has p filled by the reader of the connection, as far as the body goes.
// The caller holds mu.
func (b *body) await(p []byte) int {
	b.want, b.got = p, 0
	for b.filling || b.got < len(p) && b.err == nil && len(b.blocks) == 0 {
		b.arrived.Wait()
	}
	b.want = nil
	return b.got
}

// Close says that the handler wants no more.
func (r bodyReader) Close() error {
	r.s.abandon()
	return nil
}

// abandon drops what has come and will come. It reports whether the client
// may have more to send.
func (s *stream) abandon() (more bool) {
	b := &s.body
	b.mu.Lock()
	more = b.err == nil
	b.closed = true
	dropped := 0
	for _, block := range b.blocks {
		dropped += len(block.left)
		blocks.Put(block)
	}
	b.blocks = nil
	if b.err == nil {
		b.err = errAbandoned
	}
	b.arrived.Broadcast()
	b.mu.Unlock()
	s.c.release(dropped, dropped)
	return more
}

// took notes that the handler has got n bytes, of which some were held. The
// caller holds the body's mutex.
func (s *stream) took(n, held int) {
	b := &s.body
	if b.credit += n; b.credit >= creditStep && b.err == nil {
		s.c.out.control(appendWord(nil, frameWindow, s.id, uint32(b.credit)))
		b.credit = 0
	}
	s.c.release(n, held)
}

// release gives the connection room for n bytes, of which some were held.
func (c *conn) release(n, held int) {
	c.took(n)
	if held == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held -= held
	c.drained.Broadcast()
}

// readData reads a DATA frame into the memory of the handler that waits for
// it, or into blocks.
func (c *conn) readData(h header) error {
	left, padding, err := c.readPadding(h)
	if err != nil {
		return err
	}
	s := c.stream(h.stream)
	if s == nil {
		c.took(left)
		if err := c.skip(left); err != nil {
			return err
		}
		return c.skipPadding(h, padding)
	}
	for left > 0 {
		n, err := s.receive(left)
		if err != nil {
			return err
		}
		left -= n
	}
	if err := c.skipPadding(h, padding); err != nil {
		return err
	}
	if h.has(flagEndStream) {
		s.body.end(io.EOF)
	}
	return nil
}

// A block is a piece of a body that came before the handler asked for it.
type block struct {
	left   []byte // what was not read yet
	memory [64 << 10]byte
}

// blocks lends blocks, to the connections of the whole process.
var blocks = sync.Pool{New: func() any { return new(block) }}

// receive reads some of n bytes of the body from the connection.
func (s *stream) receive(n int) (int, error) {
	b, c := &s.body, s.c
	b.mu.Lock()
	switch {
	case b.closed || b.err != nil:
		b.mu.Unlock()
		c.took(n)
		return n, c.skip(n)
	case b.got < len(b.want) && len(b.blocks) == 0:
		to := b.want[b.got:][:min(n, len(b.want)-b.got)]
		b.filling = true
		b.mu.Unlock()
		_, err := io.ReadFull(c.in, to)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.filling = false
		if err == nil {
			b.got += len(to)
			s.took(len(to), 0)
		}
		if b.got == len(b.want) || b.err != nil {
			b.arrived.Broadcast()
		}
		return len(to), err
	}
	b.mu.Unlock()
	into := blocks.Get().(*block)
	n = min(n, len(into.memory))
	if err := c.hold(n); err != nil {
		return 0, err
	}
	into.left = into.memory[:n]
	if _, err := io.ReadFull(c.in, into.left); err != nil {
		return 0, err
	}
	b.mu.Lock()
	if b.closed || b.err != nil {
		b.mu.Unlock()
		blocks.Put(into)
		c.release(n, n)
		return n, nil
	}
	b.blocks = append(b.blocks, into)
	b.arrived.Broadcast()
	b.mu.Unlock()
	return n, nil
}

// hold waits until n more bytes may be kept. A client that heeds the window
// never makes it wait.
func (c *conn) hold(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.held+n > c.cfg.Window {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		c.drained.Wait()
	}
	c.held += n
	return nil
}

// serve calls the handler and ends the stream.
func (s *stream) serve(r *http.Request) {
	c := s.c
	defer c.handlers.Done()
	w := &writer{s: s, header: http.Header{}}
	if !s.call(w, r) {
		c.out.control(appendWord(nil, frameReset, s.id, uint32(internalError)))
		s.abandon()
	} else if w.finish(); s.abandon() && s.ctx.Err() == nil {
		c.out.control(appendWord(nil, frameReset, s.id, uint32(noError)))
	}
	s.cancel(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s.id)
	c.running--
}

// call calls the handler. It reports false if that panicked, which ends the
// request and not the process.
func (s *stream) call(w *writer, r *http.Request) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			s.c.cfg.Log.Error("a request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	s.c.handler.ServeHTTP(w, r)
	return true
}
