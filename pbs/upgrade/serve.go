package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/bulk"
	"github.com/holdfast-mesh/holdfast/pbs/h2"
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
// had said all it wanted. Otherwise the error is that of ctx, or ErrStalled, or
// says what of HTTP/2 the client got wrong.
func Serve(ctx context.Context, conn net.Conn, h http.Handler, l Limits) error {
	l.Stall = cmp.Or(l.Stall, 10*time.Minute)
	l.Log = cmp.Or(l.Log, slog.New(slog.DiscardHandler))
	if l.Wrap != nil {
		h = l.Wrap(h)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	a := newActivity(bulk.Over(conn))
	stop := context.AfterFunc(ctx, func() { drop(conn) })
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		a.watch(ctx, l.Stall, func() { cancel(ErrStalled) })
	}()
	wrong := h2.Serve(ctx, a, &counted{h, a}, h2.Config{MaxFrame: MaxFrame, Window: Window, Streams: MaxStream, Log: l.Log})
	stop()
	cancel(errGone) // unless there is a better reason
	<-watched
	switch cause := context.Cause(ctx); {
	case cause != errGone:
		return fmt.Errorf("serve %s: %w", conn.RemoteAddr(), cause)
	case wrong != nil:
		return fmt.Errorf("serve %s: %w", conn.RemoteAddr(), wrong)
	}
	return nil
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
