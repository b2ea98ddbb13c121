package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/bulk"
)

// A conn is a connection that begins with TLS, or with plain HTTP, which shows
// when the first byte comes. Whoever reads first finds out, so that a client
// that is slow there is waited for by nobody else.
type conn struct {
	*steady // the connection below
	tls     *tls.Config
	opened  sync.Once
	closed  func() // called when it is closed
	report  func(error)

	secure atomic.Pointer[tls.Conn] // nil: plain, or nothing has come yet
	begun  net.Conn                 // below, with the first byte given back
	failed atomic.Bool              // to begin
	plain  atomic.Bool

	head    head
	pending []byte // passed on by head, not read yet
	buffer  []byte // behind pending
}

// errNoHTTP says that a client speaks neither TLS nor HTTP.
var errNoHTTP = errors.New("neither TLS nor HTTP")

// recordHandshake is what a TLS connection begins with (RFC 8446 §5.1).
const recordHandshake = 0x16

// open finds out what the client speaks, and shakes hands with TLS. The reader
// has set a deadline for what is read.
func (c *conn) open() {
	err := c.begin()
	c.SetWriteDeadline(time.Time{})
	c.watched.Store(true)
	if err != nil {
		c.failed.Store(true)
		c.report(err)
	}
}

func (c *conn) begin() error {
	first := make([]byte, 1)
	if _, err := io.ReadFull(c.steady, first); err != nil {
		return err
	}
	c.begun = &prefixed{c.steady, io.MultiReader(bytes.NewReader(first), c.steady)}
	switch {
	case first[0] == recordHandshake:
		ctx, cancel := context.WithTimeout(context.Background(), HeadTime)
		defer cancel()
		secure := tls.Server(bulk.Below(c.begun), c.tls)
		c.secure.Store(secure)
		c.SetWriteDeadline(time.Now().Add(HeadTime))
		return secure.HandshakeContext(ctx)
	case first[0] >= 'A' && first[0] <= 'Z':
		c.plain.Store(true)
		return nil
	}
	return errNoHTTP
}

// Read reads what the client sends, with what [head] adds. That a client cannot
// begin is the end of the connection for net/http, which else would answer.
func (c *conn) Read(p []byte) (int, error) {
	c.opened.Do(c.open)
	if c.failed.Load() {
		return 0, io.EOF
	}
	var err error
	for len(c.pending) == 0 && err == nil {
		if c.head.passing() {
			c.buffer, c.pending = nil, nil // sessions last for hours
			return c.read(p)
		}
		var n int
		n, err = c.read(p)
		c.buffer = c.head.feed(c.buffer[:0], p[:n])
		c.pending = c.buffer
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	if len(c.pending) > 0 {
		err = nil // it comes again when the rest has been read
	}
	return n, err
}

func (c *conn) read(p []byte) (int, error) {
	if secure := c.secure.Load(); secure != nil {
		return secure.Read(p)
	}
	return c.begun.Read(p)
}

// Write answers the client.
func (c *conn) Write(p []byte) (int, error) {
	switch secure := c.secure.Load(); {
	case c.failed.Load():
		return 0, net.ErrClosed
	case secure != nil:
		return secure.Write(p)
	}
	return c.steady.Write(p)
}

// Close ends the connection.
func (c *conn) Close() error {
	c.closed()
	c.watched.Store(false) // TLS gives its good-bye five seconds, and no more
	if secure := c.secure.Load(); secure != nil && !c.failed.Load() {
		return secure.Close()
	}
	return c.steady.Close()
}

// NetConn returns the connection below.
func (c *conn) NetConn() net.Conn {
	if secure := c.secure.Load(); secure != nil {
		return secure
	}
	return c.steady
}

// A prefixed is a connection of which somebody has read ahead.
type prefixed struct {
	net.Conn
	r io.Reader
}

func (c *prefixed) Read(p []byte) (int, error) { return c.r.Read(p) }

// NetConn returns the connection below.
func (c *prefixed) NetConn() net.Conn { return c.Conn }

// A steady is a connection on which a write must get forward: a client that
// takes nothing for stallTime is dropped.
type steady struct {
	net.Conn
	watched atomic.Bool // not in a handshake, nor in sessions, which have limits of their own
}

func (s *steady) Write(p []byte) (int, error) {
	if s.watched.Load() {
		s.SetWriteDeadline(time.Now().Add(StallTime))
	}
	return s.Conn.Write(p)
}

// NetConn returns the connection below.
func (s *steady) NetConn() net.Conn { return s.Conn }
