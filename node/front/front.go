// Package front is what stands between the network and the API: TLS, plain
// HTTP that is sent on to it, requests that lack what net/http insists on, and
// limits for clients that are too many or too slow.
//
// Clients of PBS offer no ALPN, and what comes after a request for an upgrade
// is not HTTP/1, so the front speaks HTTP/1.1 and nothing else (PBS protocol
// notes §1.1, §3.1, §13).
package front

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// The patience of a front. Sessions of backups, once they have begun, have
// their own.
const (
	HeadTime  = 20 * time.Second // for the handshake, and for the head of a request
	StallTime = time.Minute      // in the middle of a request or an answer
	IdleTime  = 2 * time.Minute  // between two requests
	CloseTime = 2 * time.Second  // for requests in the works, when all ends
)

// maxHead is the longest head of a request, in bytes.
const maxHead = 64 << 10

// Config says what a [Server] serves. The zero value of every optional field
// means the default written beside it.
type Config struct {
	Listener    net.Listener // required; closed when Run returns
	Handler     http.Handler // required
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	MinVersion  uint16 // of TLS; default 1.3

	Conns     int // at the same time; default 4,096
	PerSource int // from one address, or one /64 of IPv6; default 1,024

	Log *slog.Logger // default: discard
}

// A Server answers requests.
type Server struct {
	cfg    Config
	gate   *gate
	http   *http.Server
	inside sync.WaitGroup // requests, sessions too
}

// New returns a Server. It starts nothing.
func New(cfg Config) (*Server, error) {
	cfg.MinVersion = cmp.Or(cfg.MinVersion, tls.VersionTLS13)
	cfg.Conns = cmp.Or(cfg.Conns, 4096)
	cfg.PerSource = cmp.Or(cfg.PerSource, 1024)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	switch {
	case cfg.Listener == nil || cfg.Handler == nil || cfg.Certificate == nil:
		return nil, errors.New("front: no listener, no handler, or no certificate")
	case cfg.Conns < 1 || cfg.PerSource < 1:
		return nil, errors.New("front: a limit of connections is less than 1")
	}
	s := &Server{cfg: cfg}
	s.gate = newGate(cfg)
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: HeadTime,
		IdleTimeout:       IdleTime,
		MaxHeaderBytes:    maxHead,
		ConnState:         onState,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Open returns how many connections there are, and how many were refused.
func (s *Server) Open() (open, refused int) { return s.gate.count() }

// Run answers until ctx ends, which ends the context of every request too,
// then gives those in the works, sessions too, CloseTime to end.
func (s *Server) Run(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.gate) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", s.cfg.Listener.Addr(), err)
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), CloseTime)
	defer cancel()
	if s.http.Shutdown(late) != nil {
		s.http.Close() // whoever is left has had his time
	}
	<-served
	left := make(chan struct{})
	go func() { s.inside.Wait(); close(left) }()
	select {
	case <-left:
		return nil
	case <-time.After(CloseTime):
		return fmt.Errorf("serve %s: requests still work %s after the end", s.cfg.Listener.Addr(), CloseTime)
	}
}

// connKey finds the connection of a request in its context.
type connKey struct{}

// Below returns the connection that a request came on as the listener gave it,
// nil if the request did not come through a [Server].
func Below(ctx context.Context) net.Conn {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		return c.steady.Conn
	}
	return nil
}

// handler puts what belongs to the front in front of the handler.
func (s *Server) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*conn); ok && c.plain.Load() {
			toTLS(w, r)
			return
		}
		s.inside.Add(1)
		defer s.inside.Done()
		if r.Body != http.NoBody {
			r.Body = &patient{ReadCloser: r.Body, control: http.NewResponseController(w)}
		}
		s.cfg.Handler.ServeHTTP(w, r)
	})
}

// toTLS sends a client on that speaks plain HTTP (§0.1).
func toTLS(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && host == "" {
		host = addr.String()
	}
	status := http.StatusPermanentRedirect
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		status = http.StatusMovedPermanently
	}
	w.Header().Set("Location", "https://"+host)
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
}

// onState follows a connection through its requests.
func onState(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	switch state {
	case http.StateIdle:
		c.head.reset() // nobody reads at that moment
	case http.StateHijacked:
		c.watched.Store(false)
		c.SetWriteDeadline(time.Time{})
	}
}
