// Package content has the endpoints about what is in a datastore, those below
// /admin/datastore (PBS protocol notes §1.5, §1.6, §5.8): lists, notes,
// protection, owners, namespaces, downloads, and the work that is begun on all
// of it.
//
// Whoever has a privilege for all of a namespace may do something to every
// group in it; others may have one that holds for the groups that they own.
// What the caller may is looked at before anything else, so that nobody learns
// what there is who may not know.
package content

import (
	"errors"
	"io/fs"
	"net/http"
	"path"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Accounts tells who may be given a group. [access.Service] is one.
type Accounts interface {
	Active(id access.AuthID) bool
}

// Config says what the endpoints work on.
type Config struct {
	Stores   *stores.Set // required
	Accounts Accounts    // required
}

type api struct {
	Config
}

// Privileges, for all of a namespace and for what one owns in it.
const (
	audit  = access.PrivDatastoreAudit
	modify = access.PrivDatastoreModify
	read   = access.PrivDatastoreRead
	backup = access.PrivDatastoreBackup
	prune  = access.PrivDatastorePrune
	verify = access.PrivDatastoreVerify

	anything = audit | modify | read | backup // what lets somebody see that a namespace is there
)

// Endpoints returns the endpoints.
func Endpoints(cfg Config) []rest.Endpoint {
	a := &api{cfg}
	const top = "/admin/datastore"
	const store = top + "/{store}"
	const acl = "/datastore/{store}"
	get, post, put, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	return []rest.Endpoint{
		{Method: get, Path: top, Handle: a.list},
		{Method: get, Path: store + "/status", Handle: a.status},
		{Method: get, Path: store + "/active-operations", Need: rest.Any(audit, acl), Handle: a.active},
		{Method: get, Path: store + "/groups", Handle: a.groups},
		{Method: del, Path: store + "/groups", Handle: a.forgetGroup},
		{Method: get, Path: store + "/snapshots", Handle: a.snapshots},
		{Method: del, Path: store + "/snapshots", Handle: a.forget},
		{Method: get, Path: store + "/files", Handle: a.files},
		{Method: get, Path: store + "/namespace", Handle: a.namespaces},
		{Method: post, Path: store + "/namespace", Handle: a.createNamespace},
		{Method: del, Path: store + "/namespace", Handle: a.removeNamespace},

		{Method: get, Path: store + "/notes", Handle: a.notes},
		{Method: put, Path: store + "/notes", Handle: a.setNotes},
		{Method: get, Path: store + "/group-notes", Handle: a.groupNotes},
		{Method: put, Path: store + "/group-notes", Handle: a.setGroupNotes},
		{Method: get, Path: store + "/protected", Handle: a.protected},
		{Method: put, Path: store + "/protected", Handle: a.setProtected},
		{Method: post, Path: store + "/change-owner", Handle: a.changeOwner},

		{Method: get, Path: store + "/gc", Need: rest.Any(audit, acl), Handle: a.gcStatus},
		{Method: post, Path: store + "/gc", Need: rest.Any(modify, acl), Handle: a.startGC},
		{Method: post, Path: store + "/verify", Handle: a.verify},
		{Method: post, Path: store + "/prune", Handle: a.prune},
		{Method: post, Path: store + "/prune-datastore", Handle: a.pruneDatastore},

		{Method: get, Path: store + "/download", Handle: a.download},
		{Method: get, Path: store + "/download-decoded", Handle: a.downloadDecoded},
		{Method: post, Path: store + "/upload-backup-log", Upload: true, Handle: a.uploadLog},
		{Method: get, Path: store + "/catalog", Handle: a.catalog},
		{Method: get, Path: store + "/pxar-file-download", Handle: a.downloadFile},
	}
}

// A view is a namespace of a datastore as its caller may see it.
type view struct {
	*catalog.Datastore
	store string
	ns    catalog.Namespace
	who   access.AuthID
	all   bool // not only what who owns
	done  func()
}

// enter lets the caller into a namespace who has a privilege for all of it, or
// one for what he owns there. It reports what was wrong with the parameters
// first. done must be called.
func (a *api) enter(c *rest.Call, store string, ns catalog.Namespace, all, owned access.Privilege, write bool) (*view, error) {
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := c.Require(all|owned, "datastore", store, string(ns)); err != nil {
		return nil, err
	}
	d, done, err := a.Stores.Use(store, write)
	if err != nil {
		return nil, err
	}
	return &view{d, store, ns, c.Who, c.May(all, "datastore", store, string(ns)), done}, nil
}

// enterGroup is enter for work on one group.
func (a *api) enterGroup(c *rest.Call, store string, ns catalog.Namespace, g catalog.Group, all, owned access.Privilege, write bool) (*view, error) {
	v, err := a.enter(c, store, ns, all, owned, write)
	if err != nil {
		return nil, err
	}
	if err := v.owns(g); err != nil {
		v.done()
		return nil, err
	}
	return v, nil
}

// owns fails unless the caller may work on a group, which he has to own if he
// may not do so on all.
func (v *view) owns(g catalog.Group) error {
	if v.all {
		return nil
	}
	owner, err := v.Owner(v.ns, g)
	if err != nil {
		return missing(err)
	}
	if !v.who.Owns(access.AuthID(owner)) {
		return refuse("backup owner check failed (%s != %s)", v.who, owner)
	}
	return nil
}

// sees tells whether the caller sees what belongs to owner.
func (v *view) sees(owner string) bool { return v.all || v.who.Owns(access.AuthID(owner)) }

// dir is the directory of a snapshot, which a real server names in messages.
func (v *view) dir(s catalog.Snapshot) string { return path.Join(v.Dir, v.ns.Path(), s.Path()) }

// refuse refuses with the words of a real server.
func refuse(format string, args ...any) error {
	return upgrade.Errorf(http.StatusBadRequest, format, args...)
}

// What a real server says of files that are not there.
const (
	enoent  = "ENOENT: No such file or directory"
	osError = "No such file or directory (os error 2)"
)

// missing says of what is not there what a real server says.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(enoent)
	}
	return err
}

// locked says of a snapshot that is in use what a real server says.
func (v *view) locked(s catalog.Snapshot, why string) error {
	return refuse("unable to acquire lock on snapshot directory %q - %s", v.dir(s), why)
}
