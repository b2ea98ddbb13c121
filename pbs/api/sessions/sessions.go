// Package sessions is where backup and reader sessions begin: the endpoints
// GET /backup and GET /reader (PBS protocol notes §3.1, §4.1).
//
// An endpoint asks, in the order of a real server, whether the caller may,
// whether the datastore is there and in service, whether the request is one
// for this protocol, and whether there is room for one more. Then it opens the
// session of package backup or reader, and runs it as a task: with a log that
// operators read, listed while it runs, and stopped like any other. Closing
// the [jobs.Manager] ends all sessions.
//
// What is refused is refused before the 101, with a reason, and leaves no task.
package sessions

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/backup"
	"github.com/holdfast-mesh/holdfast/pbs/reader"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Stores are the datastores of the node.
type Stores interface {
	// Get returns the datastore of that name, or an error for the client.
	Get(name string) (*catalog.Datastore, error)
}

// Config says what a [Server] works with. The zero value of an optional field
// means its default.
type Config struct {
	Stores Stores        // required
	Tasks  *jobs.Manager // required

	// Backups and Readers are how many sessions of a kind may run at once;
	// default 128 and 512. Readers of a mounted archive stay for days.
	Backups, Readers int

	// Memory is how many bytes all sessions together may take; default 8 GiB.
	// A session is refused when, with all it may take, it would be more. What
	// it usually takes is far less.
	Memory int64

	Backup backup.Config
	Reader reader.Config

	// Drafted says what to do about a datastore that there is not yet, since it is a
	// draft; "": it is none. Default: there are no drafts.
	Drafted func(store string) string

	Log *slog.Logger // default: discard; also that of Backup and Reader
}

// A Server has the endpoints.
type Server struct {
	cfg     Config
	log     *slog.Logger
	backups *backup.Server
	readers *reader.Server
	count   count
}

// New returns a Server. It starts nothing: sessions are tasks of cfg.Tasks.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Stores == nil:
		return nil, errors.New("sessions: no datastores")
	case cfg.Tasks == nil:
		return nil, errors.New("sessions: no task manager")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Backup.Log = cmp.Or(cfg.Backup.Log, cfg.Log)
	cfg.Reader.Log = cmp.Or(cfg.Reader.Log, cfg.Log)
	cfg.Backups = cmp.Or(cfg.Backups, 128)
	cfg.Readers = cmp.Or(cfg.Readers, 512)
	cfg.Memory = cmp.Or(cfg.Memory, 8<<30)
	s := &Server{cfg: cfg, log: cfg.Log, backups: backup.New(cfg.Backup), readers: reader.New(cfg.Reader)}
	s.count.init(cfg, s.backups.Cost(), s.readers.Cost())
	return s, nil
}

// Endpoints returns what [rest.Router] needs.
func (s *Server) Endpoints() []rest.Endpoint {
	return []rest.Endpoint{
		{Method: http.MethodGet, Path: "/backup", Need: rest.LoggedIn, Handle: s.backup},
		{Method: http.MethodGet, Path: "/reader", Need: rest.LoggedIn, Handle: s.reader},
	}
}

// place is where privileges for a namespace of a datastore are looked for.
func place(store string, ns catalog.Namespace) []string {
	return append([]string{"datastore", store}, ns.Components()...)
}

// placeText is the same for messages.
func placeText(store string, ns catalog.Namespace) string {
	text := "/datastore/" + store
	if ns != "" {
		text += "/" + string(ns)
	}
	return text
}

// hinted is an error with a cure that is known here; "": with its own, if it has one.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint says what an operator can do about it.
func (e *hinted) Hint() string {
	if own := interface{ Hint() string }(nil); e.cure == "" && errors.As(e.error, &own) {
		return own.Hint()
	}
	return e.cure
}

// owns tells whether who counts as the owner of a group. That there is no
// such group, or that it cannot be read, is no reason to tell more than no.
func owns(who access.AuthID, d *catalog.Datastore, ns catalog.Namespace, g catalog.Group) bool {
	owner, err := d.Owner(ns, g)
	return err == nil && who.Owns(access.AuthID(owner))
}

// find returns the datastore, if it is in service for what is to be done.
func (s *Server) find(c *rest.Call, store string, write bool) (*catalog.Datastore, error) {
	d, err := s.cfg.Stores.Get(store)
	if err != nil && s.cfg.Drafted != nil && c.May(access.PrivSysAudit, "system", "status") { // who may list drafts
		return nil, &hinted{err, s.cfg.Drafted(store)}
	}
	if err != nil {
		return nil, err
	}
	return d, upgrade.InService(store, d, write)
}
