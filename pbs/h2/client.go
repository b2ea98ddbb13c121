package h2

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ClientConfig says what the client tells its server. The zero value of a field
// means its default.
type ClientConfig struct {
	MaxFrame int           // bytes of a DATA frame, at least 16 KiB; default 1 MiB
	Window   int           // bytes of one answer that the server may send ahead; default 8 MiB
	Streams  int           // requests at the same time; default 100
	Silence  time.Duration // after which the server is asked for a sign of life; default a minute
	Patience time.Duration // for that sign, and for the server to take what is sent; default a minute
}

// A Client is the client's end of a connection. It may be used by many
// goroutines.
type Client struct {
	link
	cfg     ClientConfig
	workers sync.WaitGroup
	heard   atomic.Int64 // when the last frame came, in Unix nanoseconds
	stop    chan struct{}

	// Guarded by the link's mutex.
	running int
	gone    error // nothing new can be asked for, and why
}

// NewClient begins to speak HTTP/2 on nc, which it closes when the connection
// ends; so does whoever closes nc. Close has to be called in any case.
func NewClient(nc net.Conn, cfg ClientConfig) *Client {
	cfg.MaxFrame = cmp.Or(cfg.MaxFrame, 1<<20)
	cfg.Window = cmp.Or(cfg.Window, 8<<20)
	cfg.Streams = cmp.Or(cfg.Streams, 100)
	cfg.Silence = cmp.Or(cfg.Silence, time.Minute)
	cfg.Patience = cmp.Or(cfg.Patience, time.Minute)
	c := &Client{cfg: cfg, stop: make(chan struct{})}
	c.init("server", nc, cfg.MaxFrame)
	c.out.patience = cfg.Patience
	c.greet(preface, min(cfg.Window*cfg.Streams, maxWindow), setting{settingPush, 0},
		setting{settingInitialWindow, uint32(cfg.Window)}, setting{settingMaxFrame, uint32(cfg.MaxFrame)})
	c.heard.Store(time.Now().UnixNano())
	c.workers.Go(c.out.flushControls)
	c.workers.Go(c.watch)
	c.workers.Go(func() {
		err := c.read()
		var wrong *protocolFault
		if errors.As(err, &wrong) {
			c.out.sayGoodbye(0, wrong.code)
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // not the end of an answer
		}
		c.end(err)
		nc.Close()
		close(c.stop)
		c.out.close()
	})
	return c
}

// Close closes the connection, and with it ends all requests, and waits for
// what works on it.
func (c *Client) Close() {
	c.net.Close()
	c.workers.Wait()
}

// watch asks for a sign of life when the server is silent, and ends the
// connection when none comes.
func (c *Client) watch() {
	t := time.NewTimer(c.cfg.Silence)
	defer t.Stop()
	for asked := false; ; {
		select {
		case <-t.C:
		case <-c.stop:
			return
		}
		silent := time.Since(time.Unix(0, c.heard.Load()))
		switch {
		case silent < c.cfg.Silence:
			asked = false
			t.Reset(c.cfg.Silence - silent)
		case !asked:
			asked = true
			c.out.control(append(appendHeader(nil, 8, framePing, 0, 0), "holdfast"...))
			t.Reset(c.cfg.Patience)
		default:
			c.end(fmt.Errorf("the server has been silent for %s", silent.Round(time.Second)))
			c.net.Close()
			return
		}
	}
}

// read reads frames until there are no more.
func (c *Client) read() error {
	for {
		h, err := c.readHeader()
		if err != nil {
			return err
		}
		c.heard.Store(time.Now().UnixNano())
		switch h.typ {
		case frameData:
			err = c.readData(h)
		case frameHeaders:
			err = c.readAnswer(h)
		case frameGoAway:
			err = c.readGoAway(h)
		default:
			err = c.readOther(h)
		}
		if err != nil {
			return err
		}
	}
}

// readGoAway hears that the server begins nothing new.
func (c *Client) readGoAway(h header) error {
	if h.length < 8 {
		return fault(frameSizeError, "a goodbye has %d bytes", h.length)
	}
	var b [8]byte
	if _, err := io.ReadFull(c.in, b[:]); err != nil {
		return err
	}
	last, why := binary.BigEndian.Uint32(b[:])&maxWindow, binary.BigEndian.Uint32(b[4:])
	err := fmt.Errorf("the server ends the connection (%d)", why)
	c.mu.Lock()
	c.gone = err
	var refused []member
	for id, m := range c.streams {
		if id > last {
			refused = append(refused, m)
		}
	}
	c.wake()
	c.mu.Unlock()
	for _, m := range refused {
		m.fail(err)
	}
	return c.skip(h.length - len(b))
}

func (c *Client) call(id uint32) *call {
	x, _ := c.member(id).(*call)
	return x
}

// readAnswer reads the head of an answer, or what follows its body.
func (c *Client) readAnswer(h header) error {
	if err := c.readHead(h); err != nil {
		return err
	}
	if !c.begun(h.stream) {
		return fault(protocolError, "stream %d is answered, which has not begun", h.stream)
	}
	x := c.call(h.stream)
	if x == nil {
		return nil // it was given up
	}
	if err := x.head(&c.fields); err != nil {
		return err
	}
	if h.has(flagEndStream) {
		x.ends()
	}
	return nil
}

// readData reads a DATA frame into the memory of the request.
func (c *Client) readData(h header) error {
	left, padding, err := c.readPadding(h)
	if err != nil {
		return err
	}
	x := c.call(h.stream)
	if x != nil && x.answer.Status == 0 {
		return fault(protocolError, "the body of stream %d comes before its head", h.stream)
	}
	for left > 0 {
		n := left
		if to := x.place(left); to == nil {
			err = c.skip(n)
		} else {
			n = len(to)
			_, err = io.ReadFull(c.in, to)
		}
		if err != nil {
			return err
		}
		c.took(n)
		x.came(n)
		left -= n
	}
	if err := c.skipPadding(h, padding); err != nil {
		return err
	}
	if h.has(flagEndStream) && x != nil {
		x.ends()
	}
	return nil
}
