// Package bulk makes few large system calls of many small ones.
//
// TLS reads and writes records of 16 KiB, each with a call of its own. Where
// megabytes cross a connection, these calls, and waking the other end for each,
// cost more than encryption. A [Conn] lies below TLS: it reads ahead, and holds
// the records back that one write makes, to send them together. What lies above
// TLS says, by [Over], that this connection is such a one; until then, and
// where TLS is without a Conn, nothing is any different.
package bulk

import (
	"net"
	"sync"
)

const (
	// readAhead and gathered are how much is read and sent with one call, in
	// bytes. Much more would leave the processor's cache in between.
	readAhead = 128 << 10
	gathered  = 128 << 10
)

// A Conn lies below TLS. Make one with [Below].
type Conn struct {
	net.Conn

	reading sync.Mutex

	in     []byte // memory; nil: nothing is read ahead
	unread []byte // of it

	writing sync.Mutex

	out    []byte // records that are held back
	gather int    // writes above TLS that are under way
	err    error  // of sending what was held back
}

// Below returns a connection to put below TLS.
func Below(c net.Conn) *Conn { return &Conn{Conn: c} }

// NetConn returns the connection below, as that of crypto/tls does.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Read reads what is there.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(c.unread) == 0 {
		if len(p) >= len(c.in) {
			return c.Conn.Read(p)
		}
		n, err := c.Conn.Read(c.in)
		if c.unread = c.in[:n]; n == 0 {
			return 0, err // one that came with bytes comes again
		}
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

// Write sends p, or holds it back while a write above is under way.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if c.gather == 0 && len(c.out) == 0 {
		return c.Conn.Write(p)
	}
	c.out = append(c.out, p...)
	if c.gather == 0 || len(c.out) >= gathered {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// flush sends what is held back. The caller holds writing.
func (c *Conn) flush() error {
	if len(c.out) > 0 && c.err == nil {
		_, c.err = c.Conn.Write(c.out)
	}
	c.out = c.out[:0]
	return c.err
}

// begin has records held back, until end sends them.
func (c *Conn) begin() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.gather++
}

func (c *Conn) end() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.gather--; c.gather > 0 {
		return nil
	}
	return c.flush()
}

// Over returns a connection on which much is going to be read and written: conn
// itself, or, if there is a [Conn] below it, one that makes use of that.
func Over(conn net.Conn) net.Conn {
	for c := conn; ; {
		if below, ok := c.(*Conn); ok {
			below.reading.Lock()
			defer below.reading.Unlock()
			if below.in == nil {
				below.in = make([]byte, readAhead)
			}
			return &over{conn, below}
		}
		next, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		c = next.NetConn()
	}
}

// An over is a connection with a [Conn] somewhere below it.
type over struct {
	net.Conn
	below *Conn
}

// Write sends p with as few calls as can be. It has been sent when Write
// returns.
func (o *over) Write(p []byte) (int, error) {
	if len(p) <= maxRecord {
		return o.Conn.Write(p)
	}
	o.below.begin()
	n, err := o.Conn.Write(p)
	if sent := o.below.end(); err == nil {
		err = sent
	}
	return n, err
}

// maxRecord is how much a record of TLS takes.
const maxRecord = 16 << 10

// NetConn returns the connection below, as that of crypto/tls does.
func (o *over) NetConn() net.Conn { return o.Conn }

// Listen returns a listener whose connections are to be put below TLS.
func Listen(inner net.Listener) net.Listener { return listener{inner} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return Below(c), nil
}
