package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
)

// A Request is what Do sends.
type Request struct {
	Method    string
	Authority string
	Path      string      // and query
	Header    [][2]string // names in lower case
	Body      []byte
}

// An Answer is what comes back.
type Answer struct {
	Status int
	Length int64 // of the body, as the head says; -1: it does not
	Body   []byte
}

// Room gives an answer memory. It is called when the first bytes have come, and
// again each time the memory is full and there are more, with what there is of
// the body. It returns that with more capacity, or an error, with which the
// request ends. It must not wait: everything on the connection waits for it.
type Room func(Answer) ([]byte, error)

// A call is one request and its answer.
type call struct {
	c        *Client
	id       uint32
	roomier  Room
	done     chan struct{} // closed when all that comes has come
	window   int64         // bytes of the request that the server takes; guarded by the link's mutex
	ended    bool          // guarded by the link's mutex
	err      error         // set before done is closed
	answer   Answer        // the reader's, until done is closed
	received int64
	placing  sync.Mutex // held while room is asked
	credit   int        // bytes that came, and the server was not told of
}

func (x *call) room() *int64 { return &x.window }

// fail ends a request.
func (x *call) fail(err error) { x.end(err) }

// end ends a request, and reports whether that concerns the server: it had not
// ended before, and had begun.
func (x *call) end(err error) bool {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	if x.ended {
		return false
	}
	x.ended, x.err = true, err
	delete(x.c.streams, x.id)
	x.c.running--
	x.c.wake()
	close(x.done)
	return x.id != 0
}

// codeCancel says that an answer is not wanted any more.
const codeCancel code = 0x8

// giveUp ends a request, and tells the server.
func (x *call) giveUp(err error) {
	if x.end(err) {
		x.c.out.control(appendWord(nil, frameReset, x.id, uint32(codeCancel)))
	}
}

// head takes the head of the answer, or what follows the body.
func (x *call) head(f *fields) error {
	if x.answer.Status != 0 {
		return nil
	}
	status, err := strconv.Atoi(f.status)
	if err != nil || status < 100 || status > 999 {
		return fault(protocolError, "stream %d is answered with the status %.8q", x.id, f.status)
	}
	if status < 200 { // the answer is still to come
		return nil
	}
	x.answer.Status, x.answer.Length = status, -1
	if text := f.header.Get("Content-Length"); text != "" {
		if x.answer.Length, err = strconv.ParseInt(text, 10, 64); err != nil || x.answer.Length < 0 {
			return fault(protocolError, "the length of the answer on stream %d is %.24q", x.id, text)
		}
	}
	return nil
}

// place returns memory for some of n bytes of the body; nil if nobody wants
// them.
func (x *call) place(n int) []byte {
	if x == nil {
		return nil
	}
	x.placing.Lock()
	defer x.placing.Unlock()
	select {
	case <-x.done:
		return nil
	default:
	}
	b := x.answer.Body
	if x.answer.Length >= 0 && int64(n) > x.answer.Length-x.received {
		x.giveUp(fmt.Errorf("the answer is longer than the %d bytes it was to have", x.answer.Length))
		return nil
	}
	if len(b) == cap(b) {
		grown, err := x.roomier(x.answer)
		if err != nil {
			x.giveUp(&roomError{err})
			return nil
		}
		if len(grown) == cap(grown) {
			x.giveUp(errors.New("there is no room for the answer"))
			return nil
		}
		b = grown
	}
	n = min(n, cap(b)-len(b))
	x.answer.Body = b[:len(b)+n]
	return x.answer.Body[len(b):]
}

// came notes that n bytes have come.
func (x *call) came(n int) {
	if x == nil {
		return
	}
	x.received += int64(n)
	if x.credit += n; x.credit >= creditStep {
		x.c.out.control(appendWord(nil, frameWindow, x.id, uint32(x.credit)))
		x.credit = 0
	}
}

// ends is the end of the answer.
func (x *call) ends() {
	switch {
	case x.answer.Status == 0:
		x.end(errors.New("the answer has no head"))
	case x.answer.Length >= 0 && x.received != x.answer.Length:
		x.end(io.ErrUnexpectedEOF)
	default:
		x.end(nil)
	}
}

// errAnswered says that the answer ended before the request did.
var errAnswered = errors.New("the answer has ended")

// A roomError is an error of room.
type roomError struct{ err error }

func (e *roomError) Error() string { return e.err.Error() }

// Do sends a request and returns its answer when all of that has come. An error
// is one of the connection, of ctx or of room, not a bad status. With an error
// of room there is the answer as far as it came; with others its status is 0, and
// memory that room gave may still be written to: it is not to be used for
// anything else.
//
// A request that is given up while the server takes nothing of it ends the
// connection after a second.
func (c *Client) Do(ctx context.Context, r Request, room Room) (Answer, error) {
	x := &call{c: c, roomier: room, done: make(chan struct{})}
	if err := c.admit(ctx); err != nil {
		return Answer{}, err
	}
	defer context.AfterFunc(ctx, func() { x.giveUp(context.Cause(ctx)) })()
	err := x.send(ctx, r)
	if err != nil && err != errAnswered {
		x.giveUp(err)
	}
	<-x.done
	x.placing.Lock() // nor is room asked any more
	defer x.placing.Unlock()
	if err == errAnswered { // the server has not asked for the rest, and need not wait for it
		c.out.control(appendWord(nil, frameReset, x.id, uint32(codeCancel)))
	}
	var wrong *roomError
	if errors.As(x.err, &wrong) {
		return x.answer, wrong.err
	}
	if x.err != nil {
		return Answer{}, x.err
	}
	return x.answer, nil
}

// admit waits until one more request may run.
func (c *Client) admit(ctx context.Context) error {
	for {
		c.mu.Lock()
		over, gone, grown := c.over, c.gone, c.grown
		if over == nil && gone == nil && c.running < c.cfg.Streams && int64(c.running) < int64(c.allowed) {
			c.running++
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		if over != nil {
			return over
		}
		if gone != nil {
			return gone
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// send sends the request.
func (x *call) send(ctx context.Context, r Request) error {
	sent := make(chan struct{})
	defer close(sent)
	defer context.AfterFunc(ctx, func() { x.c.hurry(sent) })()
	o, body := &x.c.out, r.Body
	if !o.beginBefore(ctx.Done()) {
		return context.Cause(ctx)
	}
	n, err := x.enter(min(len(body), maxPiece))
	if err != nil {
		return errors.Join(err, o.flush(nil))
	}
	head := append([][2]string{{":method", r.Method}, {":scheme", "https"}, {":authority", r.Authority}, {":path", r.Path}}, r.Header...)
	if len(body) > 0 {
		head = append(head, [2]string{"content-length", strconv.Itoa(len(body))})
	}
	o.headers(x.id, len(body) == 0, head)
	if n > 0 {
		o.data(x.id, n, n == len(body))
	}
	err = o.flush(body[:n])
	for body = body[n:]; err == nil && len(body) > 0; body = body[n:] {
		if n, err = x.reserve(ctx, min(len(body), maxPiece)); err != nil {
			return err
		}
		if !o.beginBefore(ctx.Done()) {
			return context.Cause(ctx)
		}
		o.data(x.id, n, n == len(body))
		err = o.flush(body[:n])
	}
	if err != nil {
		x.c.net.Close() // half a frame was sent, maybe
	}
	return err
}

// hurry ends the connection unless the request has been sent within a second.
func (c *Client) hurry(sent <-chan struct{}) {
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-sent:
	case <-t.C:
		c.net.Close()
	}
}

// enter begins a stream, and reserves as many of n bytes as it may have at
// once. The caller has the turn to write, so that streams begin in order.
func (x *call) enter(n int) (int, error) {
	c := x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case x.ended:
		return 0, x.err
	case c.over != nil:
		return 0, c.over
	case c.gone != nil:
		return 0, c.gone
	case c.last >= maxWindow-2:
		return 0, errors.New("the connection has had as many requests as it can")
	}
	c.last += 1 + c.last%2 // 1, 3, 5, …
	x.id, x.window = c.last, c.initial
	c.streams[x.id] = x
	return c.tryReserve(x, n), nil
}

// reserve waits until the server takes some of n bytes, and says how many.
func (x *call) reserve(ctx context.Context, n int) (int, error) {
	for {
		x.c.mu.Lock()
		got, grown, ended := 0, x.c.grown, x.ended
		if !ended {
			got = x.c.tryReserve(x, n)
		}
		x.c.mu.Unlock()
		switch {
		case ended && x.err != nil:
			return 0, x.err
		case ended:
			return 0, errAnswered
		case got > 0:
			return got, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}
