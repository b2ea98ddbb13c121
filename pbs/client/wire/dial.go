package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/bulk"
)

// A link is a TLS connection, and the one below it; to the node on this machine
// both are the same.
type link struct {
	net.Conn
	raw  net.Conn
	trip time.Duration // at most, of one round trip
}

// dial connects to the server and checks who it is.
func (srv *Server) dial(ctx context.Context) (link, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout) // TCP, and then TLS
	defer cancel()
	raw, err := srv.cfg.Dial(ctx, "tcp", srv.name)
	if err != nil {
		return link{}, &dialError{srv.name, srv.cfg.Socket, err}
	}
	if srv.isLocal() {
		return link{raw, raw, maxTrip}, nil
	}
	conn, began := tls.Client(bulk.Below(raw), srv.tlsConfig()), time.Now()
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		if unknown := (*CertificateError)(nil); errors.As(err, &unknown) {
			return link{}, unknown
		}
		return link{}, &dialError{srv.name, "", fmt.Errorf("TLS: %w", err)}
	}
	return link{conn, raw, time.Since(began)}, nil
}

// maxTrip is what a round trip is taken for of which nothing is known.
const maxTrip = time.Second

// drop closes the connection at once. Closing a TLS connection politely may
// wait five seconds for a peer that does not read.
func (l link) drop() { l.raw.Close() }

// politeness is how long saying good-bye may take.
const politeness = time.Second

// close says good-bye, so that the server need not log an error.
func (l link) close() {
	l.raw.SetDeadline(time.Now().Add(politeness))
	l.Close()
	l.raw.Close()
}

// An upgraded link reads first what came with the answer to the upgrade.
type upgraded struct {
	link
	buffered *bufio.Reader
}

func (u *upgraded) Read(b []byte) (int, error) {
	if u.buffered.Buffered() > 0 {
		return u.buffered.Read(b)
	}
	return u.Conn.Read(b)
}

// A dialError says that a server cannot be reached.
type dialError struct {
	server, socket string
	err            error
}

func (e *dialError) Error() string {
	if e.socket != "" {
		return fmt.Sprintf("connect to the node on this machine: %v", e.err)
	}
	return fmt.Sprintf("connect to %s: %v", e.server, e.err)
}

func (e *dialError) Unwrap() error { return e.err }

// Hint is printed on its own line below the error.
func (e *dialError) Hint() string {
	switch {
	case e.socket != "" && errors.Is(e.err, fs.ErrPermission):
		return "only the user that the node runs as, and root, may use " + e.socket + "; others name the server and who they are: --repository USER@REALM@HOST:STORE"
	case e.socket != "":
		return "start it with: holdfast node run; or say where it keeps its data: --data DIR; or name another store: --repository"
	}
	return "check that the name and port are right, the server runs, and no firewall is between"
}
