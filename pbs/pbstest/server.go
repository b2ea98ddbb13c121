// Package pbstest has a PBS server in the process of a test: TLS, the REST
// calls that a client needs to back up and restore, and the real backup and
// reader protocols on a real datastore. Nobody is asked for a password that
// fits: whatever user, password or token comes is believed.
package pbstest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/pbs/backup"
	"github.com/holdfast-mesh/holdfast/pbs/reader"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Store is the name of the datastore of every server.
const Store = "store1"

// A Server answers until the test ends.
type Server struct {
	URL         string // https://127.0.0.1:PORT
	Addr        string // 127.0.0.1:PORT
	Fingerprint string // of the certificate: SHA-256, pairs of hex digits joined by colons
	Datastore   *catalog.Datastore
	Certificate []byte // DER

	Version string // that it says it has; default "4.0"
	Release string // likewise; default "1"

	// Before, if set before the first request, sees every request before it is
	// answered, also those of sessions; an error is the answer. It may be
	// called concurrently.
	Before func(r *http.Request) error

	http    *httptest.Server
	backups *backup.Server
	readers *reader.Server
	ctx     context.Context

	mu sync.Mutex

	conns    map[net.Conn]bool // of sessions
	ended    []error           // what sessions returned
	verifies []string
	asked    []string // of a double
	sessions sync.WaitGroup
}

// Options say how a server differs from the usual.
type Options struct {
	Backup backup.Config
	Reader reader.Config
}

// New starts a server that keeps its backups in d, until the test ends.
func New(t testing.TB, d *catalog.Datastore) *Server { return NewWith(t, d, Options{}) }

// NewWith is New with other options.
func NewWith(t testing.TB, d *catalog.Datastore, opt Options) *Server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{Datastore: d, ctx: ctx, conns: map[net.Conn]bool{}}
	if opt.Backup.Verify == nil {
		opt.Backup.Verify = s.verify
	}
	opt.Backup.Limits.Wrap, opt.Reader.Limits.Wrap = s.intercept, s.intercept
	s.backups, s.readers = backup.New(opt.Backup), reader.New(opt.Reader)
	s.http = httptest.NewUnstartedServer(s)
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) // clients of tests break off
	s.http.StartTLS()
	s.URL, s.Addr = s.http.URL, s.http.Listener.Addr().String()
	s.Certificate = s.http.Certificate().Raw
	s.Fingerprint = fingerprint(s.Certificate)
	t.Cleanup(func() {
		cancel()
		s.http.CloseClientConnections()
		s.http.Close()
		s.sessions.Wait()
	})
	return s
}

// intercept puts Before in front of the handler of a session.
func (s *Server) intercept(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Before != nil {
			if err := s.Before(r); err != nil {
				upgrade.Refuse(w, r, err)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

func fingerprint(der []byte) string {
	return strings.ReplaceAll(fmt.Sprintf("% x", sha256.Sum256(der)), " ", ":")
}

// Break ends the connections of all sessions at once, as a power cut would.
func (s *Server) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
}

// Wait waits until no session is left and returns what those that were ended
// with, in that order.
func (s *Server) Wait() []error {
	s.sessions.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Verifies returns what the server wanted to be verified: "SNAPSHOT: reason".
func (s *Server) Verifies() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verifies
}

func (s *Server) verify(_ string, _ *catalog.Datastore, _ catalog.Namespace, snap catalog.Snapshot, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verifies = append(s.verifies, snap.String()+": "+why)
}

// session serves one session on the connection of a request.
func (s *Server) session(w http.ResponseWriter, r *http.Request, protocol string, serve func(context.Context, net.Conn, upgrade.Task) error, abort func()) error {
	s.sessions.Add(1) // before the client hears of it, and may wait
	defer s.sessions.Done()
	conn, err := upgrade.Handshake(w, r, protocol)
	if err != nil {
		abort()
		return err
	}
	s.mu.Lock()
	s.conns[conn] = true
	s.mu.Unlock()
	err = serve(s.ctx, conn, upgrade.Unread)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	s.ended = append(s.ended, err)
	return nil
}
