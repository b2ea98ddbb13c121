// Package admin is the door for the operator of the machine: a socket in the
// node's directory, over which the command line asks the daemon for what it
// would ask over the network, as root@pam, without TLS and without a login.
// The rights of the socket are the login: only the user that the daemon runs
// as and root get in.
package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Socket is the name of the socket in the directory of a node.
const Socket = "admin.sock"

// Config says what a [Server] serves.
type Config struct {
	Dir     string       // required; of the node
	Handler http.Handler // required; whoever calls it is root@pam
	Log     *slog.Logger // default: discard
}

// A Server answers the operator.
type Server struct {
	cfg      Config
	listener net.Listener
	inside   sync.WaitGroup
}

// closeTime is how long requests may go on when all ends.
const closeTime = 2 * time.Second

// Listen takes the socket, from a daemon that died too: the caller holds the
// lock of the directory. [Server.Run] gives it back.
func Listen(cfg Config) (*Server, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	path := filepath.Join(cfg.Dir, Socket)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("take the admin socket: %w", err)
	}
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("listen on the admin socket: %w", err)
	}
	return &Server{cfg: cfg, listener: l}, nil
}

// Run answers until ctx ends, which ends the context of requests and sessions
// too, and waits for them.
func (s *Server) Run(ctx context.Context) error {
	h := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.inside.Add(1)
			defer s.inside.Done()
			r.RemoteAddr = "local" // a socket has no better name for its other end
			s.cfg.Handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(&checked{s.listener, s.cfg.Log}) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the admin socket: %w", err)
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	if h.Shutdown(late) != nil {
		h.Close() // whoever is left has had his time
	}
	<-served
	left := make(chan struct{})
	go func() { s.inside.Wait(); close(left) }()
	select {
	case <-left:
		return nil
	case <-time.After(closeTime):
		return fmt.Errorf("serve the admin socket: requests still work %s after the end", closeTime)
	}
}

// Close gives the socket back if Run was never called.
func (s *Server) Close() error { return s.listener.Close() }

// A checked listener takes connections of those who may.
type checked struct {
	net.Listener
	log *slog.Logger
}

// Accept waits for a connection of somebody who may.
func (l *checked) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if err = mayEnter(conn); err == nil {
			return conn, nil
		}
		l.log.Warn("somebody was refused at the admin socket", "err", err)
		conn.Close()
	}
}
