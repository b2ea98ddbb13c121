package upgrade

//lint:file-ignore SA1019 net/http can do the same since Go 1.26 only by way of a listener with one connection.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

// What a PBS server says in its SETTINGS (§3.2). Windows of 32 MiB keep a line
// of 1 Gbit/s busy up to a round trip of 250 ms.
const (
	MaxFrame  = 4 << 20  // bytes of a DATA frame
	Window    = 32 << 20 // bytes that a stream, and the connection, may send ahead
	MaxStream = 200      // requests at the same time
)

// Limits say what a connection may do. The zero value of a field means its
// default.
type Limits struct {
	// Stall is how long a client may send nothing of a request that it has
	// begun, or take nothing of an answer; default 10 minutes. Between
	// requests it may be silent for days.
	Stall time.Duration

	// Wrap, if given, is put around the handler of every session: to count
	// requests, or to make some fail in a test.
	Wrap func(http.Handler) http.Handler

	Log *slog.Logger // default: discard
}

// ErrStalled says that a client stopped in the middle of a request.
var ErrStalled = errors.New("the client neither sends nor takes anything any more")

var errGone = errors.New("the connection has ended")

// Serve speaks HTTP/2 on conn until the client has gone or ctx ends, and then
// closes it. It returns when all handlers have. That the client ended the
// connection, in whatever way, is no error: only the session knows whether it
// had said all it wanted. Otherwise the error is that of ctx, or ErrStalled.
func Serve(ctx context.Context, conn net.Conn, h http.Handler, l Limits) error {
	l.Stall = cmp.Or(l.Stall, 10*time.Minute)
	l.Log = cmp.Or(l.Log, slog.New(slog.DiscardHandler))
	if l.Wrap != nil {
		h = l.Wrap(h)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	a := newActivity(conn)
	stop := context.AfterFunc(ctx, func() { drop(conn) })
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		a.watch(ctx, l.Stall, func() { cancel(ErrStalled) })
	}()
	d := &door{next: h, activity: a}
	serveHTTP2(ctx, a, d, l.Log)
	stop()
	cancel(errGone) // unless there is a better reason
	d.close()
	<-watched
	conn.Close() // the client may have done so, and nothing is lost with it
	if err := context.Cause(ctx); err != errGone {
		return fmt.Errorf("serve %s: %w", conn.RemoteAddr(), err)
	}
	return nil
}

// serveHTTP2 returns when conn has ended, and does not wait for handlers.
func serveHTTP2(ctx context.Context, conn net.Conn, h http.Handler, log *slog.Logger) {
	base := &http.Server{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	server := &http2.Server{
		MaxConcurrentStreams:         MaxStream,
		MaxReadFrameSize:             MaxFrame,
		MaxUploadBufferPerConnection: Window,
		MaxUploadBufferPerStream:     Window,
	}
	// Without this all servers share a pool of channels, which the bubbles of
	// testing/synctest may not.
	if err := http2.ConfigureServer(base, server); err != nil {
		panic("the options of the HTTP/2 server contradict each other: " + err.Error())
	}
	server.ServeConn(conn, &http2.ServeConnOpts{Context: ctx, Handler: h, BaseConfig: base})
}

// drop ends a connection at once. Close of a TLS connection would wait for
// seconds to say good-bye to a client that does not listen.
func drop(conn net.Conn) {
	for {
		below, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = below.NetConn()
	}
	conn.Close()
}
