// Package trash has the endpoints about removed snapshots, which a Proxmox
// Backup Server does not have. They are below /holdfast, as all that is ours.
package trash

import (
	"context"
	"net/http"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Stores finds a datastore by its name.
type Stores interface {
	Get(name string) (*catalog.Datastore, error)
}

// Endpoints returns the endpoints that answer about the datastores in s. To
// take back what was removed needs what removing it needs; to empty the trash before
// its delay is left to whoever has the machine, root@pam on its socket: the delay is
// there to outlast a stolen account.
func Endpoints(s Stores) []rest.Endpoint {
	const path = "/holdfast/datastore/{store}/trash"
	a := api{s}
	return []rest.Endpoint{
		{Method: http.MethodGet, Path: path, Handle: a.list},
		{Method: http.MethodPost, Path: path, Handle: a.undo},
		{Method: http.MethodDelete, Path: path, Handle: a.empty},
	}
}

type api struct{ Stores }

// list returns what the caller could take back or may know of.
func (a api) list(_ context.Context, c *rest.Call) (any, error) {
	store := c.Store()
	if err := c.Err(); err != nil {
		return nil, err
	}
	const any = access.PrivDatastoreAudit | access.PrivDatastoreModify | access.PrivDatastorePrune
	if !c.MayBelow(any, "datastore", store) {
		return nil, c.Require(any, "datastore", store)
	}
	d, err := a.Get(store)
	if err != nil {
		return nil, err
	}
	all, err := d.Trash()
	if err != nil && len(all) == 0 {
		return nil, err
	}
	list := []catalog.Trashed{}
	for _, t := range all {
		if allowed(c, store, t, access.PrivDatastoreAudit|access.PrivDatastoreModify) {
			list = append(list, t)
		}
	}
	return list, nil
}

// allowed tells whether the caller has one of the privileges, or Datastore.Prune
// and owns what was removed.
func allowed(c *rest.Call, store string, t catalog.Trashed, any access.Privilege) bool {
	path := []string{"datastore", store, string(t.Namespace)}
	return c.May(any, path...) || c.May(access.PrivDatastorePrune, path...) && c.Who.Owns(access.AuthID(t.Owner))
}

// undo takes a snapshot back.
func (a api) undo(ctx context.Context, c *rest.Call) (any, error) {
	store, ns, s := c.Store(), c.Namespace(), c.Snapshot()
	if err := c.Err(); err != nil {
		return nil, err
	}
	const any = access.PrivDatastoreModify | access.PrivDatastorePrune
	if err := c.Require(any, "datastore", store, string(ns)); err != nil {
		return nil, err
	}
	d, err := a.Get(store)
	if err != nil {
		return nil, err
	}
	if !c.May(access.PrivDatastoreModify, "datastore", store, string(ns)) && !owns(d, c, ns, s) {
		return nil, c.Require(access.PrivDatastoreModify, "datastore", store, string(ns))
	}
	return nil, d.Undo(ctx, ns, s)
}

// owns tells whether the caller owns the group of a removed snapshot, or did
// when there was one.
func owns(d *catalog.Datastore, c *rest.Call, ns catalog.Namespace, s catalog.Snapshot) bool {
	if owner, err := d.Owner(ns, s.Group); err == nil {
		return c.Who.Owns(access.AuthID(owner))
	}
	all, _ := d.Trash() // what can be read of it
	for _, t := range all {
		if t.Namespace == ns && t.Snapshot == s {
			return c.Who.Owns(access.AuthID(t.Owner))
		}
	}
	return false
}

// Emptied says what emptying the trash has done.
type Emptied struct {
	Removed int `json:"removed"`        // snapshots
	Kept    int `json:"kept,omitempty"` // those that are guarded, or in use
}

// empty removes what is in the trash for good, but for what a policy keeps there.
func (a api) empty(ctx context.Context, c *rest.Call) (any, error) {
	store := c.Store()
	if err := c.Err(); err != nil {
		return nil, err
	}
	if c.Who != access.Root {
		return nil, upgrade.Errorf(http.StatusForbidden, "only root@pam on the machine itself empties the trash before its delay")
	}
	d, err := a.Get(store)
	if err != nil {
		return nil, err
	}
	n, err := d.EmptyTrash(ctx, true)
	left, _ := d.Trash()
	return Emptied{n, len(left)}, err
}
