// Package sitetest has a whole PBS server in one process, with real accounts,
// tasks and sessions, on datastores that the caller has opened. Nothing in it
// stands in for the product but the certificate, and the passwords, which are
// known. It needs no *testing.T, so that benchmarks can use it as well.
package sitetest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/api/sessions"
	"github.com/holdfast-mesh/holdfast/pbs/bulk"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Config says what a [Site] serves. The zero value of an optional field means
// its default.
type Config struct {
	Dir        string                        // required; of accounts and task logs
	Datastores map[string]*catalog.Datastore // by name
	Sessions   sessions.Config               // without Stores and Tasks
	More       func(*Site) []rest.Endpoint   // endpoints beside sessions and those of this package
	Listen     func(net.Listener) net.Listener
	Log        *slog.Logger // default: discard
}

// A Site is a server. Close ends it.
type Site struct {
	Addr        string // 127.0.0.1:PORT
	Fingerprint string // of the certificate
	Access      *access.Service
	Tasks       *jobs.Manager
	Sessions    *sessions.Server
	Router      *rest.Router
	Stores      Stores

	http   *http.Server
	served chan error
}

// Stores are datastores by name.
type Stores map[string]*catalog.Datastore

// Get returns a datastore.
func (s Stores) Get(name string) (*catalog.Datastore, error) {
	if d := s[name]; d != nil {
		return d, nil
	}
	return nil, upgrade.Errorf(http.StatusBadRequest, "no such datastore '%s'", name)
}

// Admin may do everything, and has the password [Password].
const (
	Admin    = access.AuthID("admin@pbs")
	Password = "secret12345"
)

// New starts a server.
func New(cfg Config) (*Site, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	s := &Site{Stores: Stores(cfg.Datastores), served: make(chan error, 1)}
	if err := s.open(cfg); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	cert, fingerprint, err := certificate()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.Addr, s.Fingerprint = listener.Addr().String(), fingerprint
	s.http = &http.Server{
		Handler:   s.Router,
		ErrorLog:  slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}},
	}
	if cfg.Listen != nil {
		listener = cfg.Listen(listener)
	}
	go func() { s.served <- s.http.ServeTLS(bulk.Listen(listener), "", "") }()
	return s, nil
}

func (s *Site) open(cfg Config) error {
	store, err := access.OpenFile(filepath.Join(cfg.Dir, "accounts.json"))
	if err != nil {
		return err
	}
	key, err := access.OpenKey(filepath.Join(cfg.Dir, "ticket.key"))
	if err != nil {
		return err
	}
	if s.Access, err = access.New(access.Config{Store: store, Key: key}); err != nil {
		return err
	}
	if s.Tasks, err = jobs.New(jobs.Config{Dir: filepath.Join(cfg.Dir, "tasks"), Node: "pbs3", Log: cfg.Log}); err != nil {
		return err
	}
	cfg.Sessions.Stores, cfg.Sessions.Tasks, cfg.Sessions.Log = s.Stores, s.Tasks, cfg.Log
	if s.Sessions, err = sessions.New(cfg.Sessions); err != nil {
		return err
	}
	endpoints := slices.Concat(s.Sessions.Endpoints(), s.endpoints())
	if cfg.More != nil {
		endpoints = append(endpoints, cfg.More(s)...)
	}
	s.Router, err = rest.New(rest.Config{Gate: s.Access, Endpoints: endpoints, Log: cfg.Log})
	return err
}

// TLS returns how the server speaks TLS, for whoever wants to compare.
func (s *Site) TLS() *tls.Config { return s.http.TLSConfig.Clone() }

// AddUser makes a user with the password [Password] and roles, each as
// "/PATH ROLE".
func (s *Site) AddUser(ctx context.Context, id access.AuthID, grants ...string) error {
	if _, err := s.Access.User(id); err != nil {
		if err := s.Access.AddUser(ctx, access.User{ID: id}, Password); err != nil {
			return err
		}
	}
	return s.grant(ctx, id, grants)
}

// AddToken makes an API token with roles, and returns its secret.
func (s *Site) AddToken(ctx context.Context, id access.AuthID, grants ...string) (secret string, err error) {
	if secret, err = s.Access.AddToken(ctx, access.Token{ID: id}, ""); err != nil {
		return "", err
	}
	return secret, s.grant(ctx, id, grants)
}

func (s *Site) grant(ctx context.Context, id access.AuthID, grants []string) error {
	for _, g := range grants {
		e := access.ACLEntry{ID: id, Propagate: true}
		if _, err := fmt.Sscan(g, &e.Path, &e.Role); err != nil {
			return fmt.Errorf("grant %q: %w", g, err)
		}
		if err := s.Access.ChangeACL(ctx, access.Root, access.ACLChange{ACLEntry: e}); err != nil {
			return err
		}
	}
	return nil
}

// Close ends all sessions and stops the server.
func (s *Site) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var err error
	if s.Tasks != nil {
		err = s.Tasks.Close(ctx)
	}
	if s.http != nil {
		err = errors.Join(err, s.http.Close())
		if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	return err
}
