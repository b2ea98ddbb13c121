package main

import (
	"io"
	"net"
	"sync"
	"time"
)

// A line is a way to a server that delivers everything later, in both
// directions, and as much of it as there is: it is long and wide. What is under
// way is bounded, as it is by the windows of TCP.
type line struct{ net.Listener }

// lineBytes is what the line holds in one direction.
const lineBytes = 256 << 20

// newLine returns where clients find the near end.
func newLine(server string, delay time.Duration) (line, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return line{}, err
	}
	go func() { // until the listener is closed
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				near.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				p := newPipe(delay)
				go p.fill(way[0])
				go func() {
					p.drain(way[1])
					near.Close()
					far.Close()
				}()
			}
		}
	}()
	return line{l}, nil
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
