package h2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// Config says what the server tells its client. The zero value of a field
// means its default.
type Config struct {
	MaxFrame int          // bytes of a DATA frame, at least 16 KiB; default 4 MiB
	Window   int          // bytes that a stream, and the connection, may send ahead; default 32 MiB
	Streams  int          // requests at the same time; default 200
	Log      *slog.Logger // default: discard
}

// A conn is the server's end of a connection. Its reader is the goroutine of
// Serve.
type conn struct {
	link
	cfg      Config
	handler  http.Handler
	ctx      context.Context
	handlers sync.WaitGroup

	// Guarded by the link's mutex.
	running int        // handlers
	held    int        // bytes that came before a handler asked for them
	drained *sync.Cond // held has become less
}

// Serve answers requests on nc until the client has gone, and closes it. It
// returns when all handlers have, and says what the client did wrong, if that
// is why; that it has gone is no error. The context of requests ends with ctx,
// with the connection, and when the client gives a request up; that nc is
// closed when ctx ends is the caller's duty.
func Serve(ctx context.Context, nc net.Conn, h http.Handler, cfg Config) error {
	cfg.MaxFrame = cmp.Or(cfg.MaxFrame, 4<<20)
	cfg.Window = cmp.Or(cfg.Window, 32<<20)
	cfg.Streams = cmp.Or(cfg.Streams, 200)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(ctx)
	c := &conn{cfg: cfg, handler: h, ctx: ctx}
	c.init("client", nc, cfg.MaxFrame)
	c.drained = sync.NewCond(&c.mu)
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.drained.Broadcast()
	})()
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		c.out.flushControls()
	}()
	err := c.read()
	var wrong *protocolFault
	if errors.As(err, &wrong) {
		c.out.sayGoodbye(c.last, wrong.code)
	}
	c.end(fmt.Errorf("%w: %v", errEnded, err)) // not as io.EOF, which would be the end of a body
	cancel()
	nc.Close() // the client may have done so, and nothing is lost with it
	c.out.close()
	c.handlers.Wait()
	<-flushed
	if wrong != nil {
		return err
	}
	return nil
}

// read reads frames until there are no more.
func (c *conn) read() error {
	var start [len(preface)]byte
	if _, err := io.ReadFull(c.in, start[:]); err != nil {
		return err
	}
	if string(start[:]) != preface {
		return fault(protocolError, "the connection begins with %.24q", start)
	}
	c.greet("", c.cfg.Window, setting{settingMaxStreams, uint32(c.cfg.Streams)},
		setting{settingInitialWindow, uint32(c.cfg.Window)}, setting{settingMaxFrame, uint32(c.cfg.MaxFrame)})
	for {
		h, err := c.readHeader()
		if err == nil {
			err = c.readFrame(h)
		}
		if err != nil {
			return err
		}
	}
}

func (c *conn) readFrame(h header) error {
	switch h.typ {
	case frameData:
		return c.readData(h)
	case frameHeaders:
		return c.readHeaders(h)
	}
	return c.readOther(h)
}

func (c *conn) stream(id uint32) *stream {
	s, _ := c.member(id).(*stream)
	return s
}
