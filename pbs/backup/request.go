package backup

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A Request is what a client asks for when it asks for /backup (§3.1).
type Request struct {
	Datastore *catalog.Datastore
	Store     string // its name, for messages
	Namespace catalog.Namespace
	Snapshot  catalog.Snapshot
	AuthID    string // who is authenticated, and may back up there
	Benchmark bool   // nothing is kept
	Debug     bool   // the client wants a talkative task log
}

// ParseRequest reads the parameters of a request for /backup. Datastore and
// AuthID are left to the caller.
func ParseRequest(p *upgrade.Params) (Request, error) {
	req := Request{
		Store:     p.Store(),
		Snapshot:  p.Snapshot(),
		Namespace: p.Namespace(),
		Benchmark: p.Bool("benchmark"),
		Debug:     p.Bool("debug"),
	}
	return req, p.Err()
}

// benchmarkGroup is what a client's benchmark pretends to back up.
var benchmarkGroup = catalog.Group{Type: naming.Host, ID: "benchmark"}

// Begin begins the snapshot that a client asks for, with the checks of §3.1 that come
// after authentication, permissions and the look at the Upgrade header. The
// error is an answer for the client. Afterwards one of [Session.Serve] and
// [Session.Abort] must be called.
func (s *Server) Begin(ctx context.Context, req Request) (*Session, error) {
	if ok, err := req.Datastore.HasNamespace(req.Namespace); err != nil {
		return nil, err
	} else if !ok {
		return nil, upgrade.Errorf(http.StatusNotFound, "namespace not found")
	}
	switch isBenchmark := req.Snapshot.Group == benchmarkGroup; {
	case isBenchmark && !req.Benchmark:
		return nil, upgrade.Errorf(http.StatusBadRequest, "unable to run benchmark without --benchmark flags")
	case req.Benchmark && !isBenchmark:
		return nil, upgrade.Errorf(http.StatusBadRequest, "benchmark is only allowed for the group %s", benchmarkGroup)
	}
	if err := req.Datastore.AwaitRoom(ctx); err != nil {
		return nil, req.refusal(err)
	}
	owner := req.owner()
	w, err := req.Datastore.Begin(ctx, req.Namespace, req.Snapshot, owner)
	if err != nil {
		return nil, req.refusal(err)
	}
	return newSession(s, req, w), nil
}

// owner returns who is said to own the group: its owner, if the client may
// write for that one.
func (req Request) owner() string {
	owner, err := req.Datastore.Owner(req.Namespace, req.Snapshot.Group)
	if err == nil && (req.Benchmark || mayWrite(req.AuthID, owner)) {
		return owner
	}
	return req.AuthID // Begin makes a new group, or says what is wrong
}

// mayWrite reports whether who may write into a group of owner: a user may
// write for the user's tokens, and a token for nobody else (§3.1).
func mayWrite(who, owner string) bool {
	return owner == who || !strings.Contains(who, "!") && strings.HasPrefix(owner, who+"!")
}

// refusal says in the words of PBS why a snapshot cannot be begun; clients and
// scripts look for some of them (§11.1).
func (req Request) refusal(err error) error {
	const bad = http.StatusBadRequest
	switch {
	case errors.Is(err, catalog.ErrBusy):
		return upgrade.Errorf(bad, "unable to acquire lock on backup group directory %q - another backup is already running", req.group())
	case errors.Is(err, catalog.ErrOwner):
		owner, _ := req.Datastore.Owner(req.Namespace, req.Snapshot.Group)
		return upgrade.Errorf(bad, "backup owner check failed (%s != %s)", req.AuthID, owner)
	case errors.Is(err, fs.ErrExist):
		return upgrade.Errorf(bad, "backup timestamp is older than last backup.")
	case errors.Is(err, catalog.ErrMaintenance):
		return cmp.Or(upgrade.InService(req.Store, req.Datastore, true), err)
	case errors.Is(err, chunks.ErrNoSpace):
		return upgrade.Errorf(http.StatusInsufficientStorage, "datastore '%s' takes no backups: %w", req.Store, err)
	}
	return err
}

// group is where the group would be in a datastore of PBS.
func (req Request) group() string {
	return path.Join(req.Store, req.Namespace.Path(), req.Snapshot.Group.String())
}
