// Package storestest has a set of datastores in memory for tests, with
// accounts, tasks, schedules and a router, and makes backups in them.
package storestest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/s3"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// Dir is where the datastores of a World are, as on the server of the
// recordings.
const Dir = "/mnt/datastore/"

// A World is a Set and what belongs to it.
type World struct {
	*stores.Set
	FS        disk.FS
	Settings  settings.Store
	Tasks     *jobs.Manager
	Scheduler *jobs.Scheduler
	Accounts  *access.Service
	Router    *rest.Router
}

// New returns a World with open and empty datastores of these names, until the
// test ends.
func New(t testing.TB, names ...string) *World {
	mem := disktest.NewMem()
	mem.Disable(disk.Abilities{Direct: true})
	return NewOn(t, mem, names...)
}

// NewOn is New on another file system.
func NewOn(t testing.TB, fsys disk.FS, names ...string) *World {
	t.Helper()
	return newWorld(t, fsys, nil, names...)
}

// NewCloud is New with an S3 client "near" of a server, which knows it by key and
// secret.
func NewCloud(t testing.TB, server settings.S3Client, secret string, names ...string) *World {
	t.Helper()
	mem := disktest.NewMem()
	mem.Disable(disk.Abilities{Direct: true})
	server.ID = "near"
	return newWorld(t, mem, func(s settings.Store) (*s3.Clients, error) {
		err := s.Update(t.Context(), func(s *settings.State) error {
			s.S3Clients = append(s.S3Clients, server)
			return nil
		})
		if err != nil {
			return nil, err
		}
		clouds, err := s3.Open(s, filepath.Join(t.TempDir(), "s3.json"))
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() {
			if err := clouds.Close(); err != nil {
				t.Error(err)
			}
		})
		return clouds, clouds.SetSecret(t.Context(), server.ID, secret)
	}, names...)
}

func newWorld(t testing.TB, fsys disk.FS, open func(settings.Store) (*s3.Clients, error), names ...string) *World {
	t.Helper()
	dir, w := t.TempDir(), &World{FS: fsys}
	var clouds *s3.Clients
	var err error
	check := func(errs ...error) {
		t.Helper()
		for _, e := range errs {
			if e != nil {
				t.Fatal(e)
			}
		}
	}
	w.Settings, err = settings.OpenFile(filepath.Join(dir, "settings.json"))
	check(err)
	w.Tasks, err = jobs.New(jobs.Config{Dir: filepath.Join(dir, "tasks"), Node: "pbs3"})
	check(err)
	w.Scheduler, err = jobs.NewScheduler(jobs.SchedulerConfig{Manager: w.Tasks, File: filepath.Join(dir, "runs")})
	check(err)
	if open != nil {
		clouds, err = open(w.Settings)
		check(err)
	}
	w.Set, err = stores.New(stores.Config{Settings: w.Settings, Tasks: w.Tasks, Scheduler: w.Scheduler, FS: fsys, Clouds: clouds, Node: "home"})
	check(err)
	store, err := access.OpenFile(filepath.Join(dir, "accounts.json"))
	check(err)
	key, err := access.OpenKey(filepath.Join(dir, "key.pem"))
	check(err)
	w.Accounts, err = access.New(access.Config{Store: store, Key: key})
	check(err)
	for _, n := range names {
		_, err := identity.Init(fsys, Dir+n, 0)
		check(err, w.Settings.Update(t.Context(), func(s *settings.State) error {
			s.Datastores = append(s.Datastores, settings.Datastore{Name: n, Path: Dir + n})
			return nil
		}))
	}
	check(w.Open(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.Tasks.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// Serve makes the router of some endpoints.
func (w *World) Serve(t testing.TB, endpoints ...rest.Endpoint) {
	t.Helper()
	var err error
	if w.Router, err = rest.New(rest.Config{Gate: Named{w.Accounts}, Endpoints: endpoints}); err != nil {
		t.Fatal(err)
	}
}

// Named is a gate that believes a request that names its sender in the header
// Authorization.
type Named struct{ *access.Service }

// Check returns whom the header names.
func (Named) Check(_ context.Context, c access.Credentials) (access.AuthID, error) {
	return access.AuthID(c.Authorization), nil
}

// AddUser makes a user, or a token of one that is there, with roles, each as
// "PATH ROLE".
func (w *World) AddUser(t testing.TB, id access.AuthID, grants ...string) {
	t.Helper()
	var err error
	if id.IsToken() {
		_, err = w.Accounts.AddToken(t.Context(), access.Token{ID: id}, "")
	} else {
		err = w.Accounts.AddUser(t.Context(), access.User{ID: id}, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range grants {
		path, role, _ := strings.Cut(g, " ")
		e := access.ACLEntry{ID: id, Path: path, Role: role, Propagate: true}
		if err := w.Accounts.ChangeACL(t.Context(), access.Root, access.ACLChange{ACLEntry: e}); err != nil {
			t.Fatal(err)
		}
	}
}

// Ask sends a request as somebody, with parameters in the URL or in a body,
// and returns the status and the body of the answer.
func (w *World) Ask(who, method, target, kind, body string) (int, string) {
	r := w.Answer(who, method, target, kind, body)
	return r.Code, r.Body.String()
}

// Answer is Ask with the whole answer.
func (w *World) Answer(who, method, target, kind, body string) *httptest.ResponseRecorder {
	if !strings.HasPrefix(target, "/api2") {
		target = "/api2/json" + target
	}
	req := httptest.NewRequest(method, target, strings.NewReader(body))
	req.Header.Set("Authorization", who)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	rec := httptest.NewRecorder()
	w.Router.ServeHTTP(rec, req)
	return rec
}

// Form is the type of parameters in a body.
const Form = "application/x-www-form-urlencoded"

var _ http.Handler = (*rest.Router)(nil)
