package main

import (
	"io"
	"net"
	"sync"
	"time"
)

// A distant connection delivers everything later, in both directions, and as
// much of it as there is: a long, wide line. What is under way is bounded, as
// it is by the windows of TCP.
type distant struct {
	net.Conn
	in, out *pipe
}

// lineBytes is what the line holds in one direction.
const lineBytes = 256 << 20

func newDistant(conn net.Conn, delay time.Duration) *distant {
	d := &distant{conn, newPipe(delay), newPipe(delay)}
	go d.in.fill(conn)
	go d.out.drain(conn)
	return d
}

func (d *distant) Read(p []byte) (int, error)  { return d.in.Read(p) }
func (d *distant) Write(p []byte) (int, error) { return d.out.Write(p) }

func (d *distant) Close() error {
	d.in.fail(net.ErrClosed)
	d.out.fail(net.ErrClosed)
	return d.Conn.Close()
}

// A pipe holds bytes until it is time.
type pipe struct {
	delay time.Duration

	mu     sync.Mutex
	change *sync.Cond
	parts  []part
	held   int
	err    error
}

type part struct {
	at   time.Time
	data []byte
}

func newPipe(delay time.Duration) *pipe {
	p := &pipe{delay: delay}
	p.change = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.change.Broadcast()
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.held > lineBytes && p.err == nil {
		p.change.Wait()
	}
	if p.err != nil {
		return 0, p.err
	}
	p.parts = append(p.parts, part{time.Now().Add(p.delay), append([]byte(nil), b...)})
	p.held += len(b)
	p.change.Broadcast()
	return len(b), nil
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for len(p.parts) == 0 {
			if p.err != nil {
				return 0, p.err
			}
			p.change.Wait()
		}
		wait := time.Until(p.parts[0].at)
		if wait <= 0 {
			break
		}
		p.mu.Unlock()
		time.Sleep(wait)
		p.mu.Lock()
	}
	first := &p.parts[0]
	n := copy(b, first.data)
	if first.data = first.data[n:]; len(first.data) == 0 {
		p.parts = p.parts[1:]
	}
	p.held -= n
	p.change.Broadcast()
	return n, nil
}

func (p *pipe) fill(conn net.Conn) {
	buf := make([]byte, 256<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			_, _ = p.Write(buf[:n])
		}
		if err != nil {
			p.fail(err)
			return
		}
	}
}

func (p *pipe) drain(conn net.Conn) {
	_, err := io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{p}, make([]byte, 256<<10))
	p.fail(err)
}
