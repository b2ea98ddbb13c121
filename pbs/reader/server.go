package reader

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Config says how a [Server] works. The zero value of a field means its
// default.
type Config struct {
	// Ahead is how many bytes of chunks are read ahead for each session;
	// default 32 MiB, negative: none.
	Ahead int64

	Limits upgrade.Limits
	Log    *slog.Logger // default: discard
}

// A Server hands out snapshots, to many sessions at the same time.
type Server struct{ cfg Config }

// New returns a Server. It starts nothing; see [Server.Open].
func New(cfg Config) *Server {
	cfg.Ahead = cmp.Or(cfg.Ahead, 32<<20)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Limits.Log = cmp.Or(cfg.Limits.Log, cfg.Log)
	return &Server{cfg}
}

// Cost returns how many bytes of memory a session takes for what it reads
// ahead and sends.
func (s *Server) Cost() int64 { return max(s.cfg.Ahead, 0) + 2*chunks.MaxBlob }

// A Request is what a client asks for when it asks for /reader (§4.1).
type Request struct {
	Datastore *catalog.Datastore
	Store     string // its name, for messages
	Namespace catalog.Namespace
	Snapshot  catalog.Snapshot
	AuthID    string // who is authenticated, and may read it
	Debug     bool   // the client wants a talkative task log
}

// ParseRequest reads the parameters of a request for /reader. Datastore and
// AuthID are left to the caller.
func ParseRequest(p *upgrade.Params) (Request, error) {
	req := Request{Store: p.Store(), Snapshot: p.Snapshot(), Namespace: p.Namespace(), Debug: p.Bool("debug")}
	return req, p.Err()
}

// Open opens the snapshot that the client asks for and keeps it from being
// removed. The error is an answer for the client. Afterwards one of
// [Session.Serve] and [Session.Close] must be called.
func (s *Server) Open(ctx context.Context, req Request) (*Session, error) {
	r, err := req.Datastore.OpenSnapshot(ctx, req.Namespace, req.Snapshot)
	if err != nil {
		return nil, req.refusal(err)
	}
	return newSession(s, req, r), nil
}

// dir is where the snapshot would be in a datastore of PBS.
func (req Request) dir() string {
	return path.Join(req.Store, req.Namespace.Path(), req.Snapshot.String())
}

// refusal says in the words of PBS why a snapshot cannot be opened.
func (req Request) refusal(err error) error {
	const bad = http.StatusBadRequest
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return upgrade.Errorf(bad, "snapshot %s does not exist.", req.Snapshot)
	case errors.Is(err, catalog.ErrBusy):
		return upgrade.Errorf(bad, "unable to acquire lock on snapshot directory %q - locked by another operation", req.dir())
	case errors.Is(err, catalog.ErrMaintenance):
		return cmp.Or(upgrade.InService(req.Store, req.Datastore, false), err)
	}
	return err
}

// Serve answers the client until the connection ends, and closes the session.
// Clients end by just going, so this is no error; see [upgrade.Serve].
func (s *Session) Serve(ctx context.Context, conn net.Conn, task upgrade.Task) error {
	s.log.Info("reading begins", "client", conn.RemoteAddr(), "auth_id", s.req.AuthID)
	s.task = task
	task.Logf("reading %s of datastore %s, for %s at %s", s.req.Snapshot, s.req.Store, s.req.AuthID, conn.RemoteAddr())
	defer s.Close()
	return upgrade.Serve(ctx, conn, s.mux(), s.server.cfg.Limits)
}
