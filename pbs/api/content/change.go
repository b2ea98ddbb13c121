package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// forget moves a snapshot to the trash.
func (a *api) forget(ctx context.Context, c *rest.Call) (any, error) {
	store, ns, s := c.Store(), c.Namespace(), c.Snapshot()
	v, err := a.enterGroup(c, store, ns, s.Group, modify, prune, true)
	if err != nil {
		return nil, err
	}
	defer v.done()
	err = v.Forget(ctx, ns, s)
	switch {
	case errors.Is(err, catalog.ErrProtected):
		return nil, refuse("cannot remove protected snapshot")
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("unable to open snapshot directory %q for locking - %s", v.dir(s), enoent)
	case errors.Is(err, catalog.ErrBusy):
		return nil, v.locked(s, "possibly running or in use")
	}
	return nil, err
}

// A removal is what a removal of groups came to [4.x].
type removal struct {
	Groups    int `json:"removed-groups"`
	Protected int `json:"protected-snapshots"`
	Snapshots int `json:"removed-snapshots"`
}

const partially = "group only partially deleted due to protected snapshots"

// forgetGroup moves the snapshots of a group to the trash.
func (a *api) forgetGroup(ctx context.Context, c *rest.Call) (any, error) {
	store, ns, g := c.Store(), c.Namespace(), c.Group()
	strict := !c.Has("error-on-protected") || c.Bool("error-on-protected")
	v, err := a.enterGroup(c, store, ns, g, modify, prune, true)
	if err != nil {
		return nil, err
	}
	defer v.done()
	before, err := v.Snapshots(ctx, ns, g)
	if err != nil {
		return nil, missing(err)
	}
	removed, err := v.ForgetGroup(ctx, ns, g)
	r := removal{Snapshots: removed}
	switch {
	case err == nil:
		r.Groups = 1
		return r, nil
	case errors.Is(err, catalog.ErrProtected) && strict:
		return nil, refuse(partially)
	case errors.Is(err, catalog.ErrProtected):
		r.Protected = len(before) - removed
		return r, nil
	case errors.Is(err, catalog.ErrBusy) && removed == 0:
		return nil, fmt.Errorf("unable to acquire lock on backup group directory %q - possibly running or in use", v.Dir+"/"+g.String())
	}
	return nil, missing(err)
}

// createNamespace makes a namespace below one that is there.
func (a *api) createNamespace(_ context.Context, c *rest.Call) (any, error) {
	store, parent := c.Store(), c.NamespaceIn("parent")
	name := upgrade.Parsed(c.Params, "name", func(text string) (string, error) { return text, naming.CheckComponent(text) })
	v, err := a.enter(c, store, parent, modify, 0, true)
	if err != nil {
		return nil, err
	}
	defer v.done()
	ns, err := parent.Child(name)
	if err != nil {
		return nil, err
	}
	if there, err := v.HasNamespace(parent); err != nil {
		return nil, err
	} else if !there {
		return nil, fmt.Errorf("cannot create new namespace, parent %s doesn't already exists", parent)
	}
	return ns, v.CreateNamespace(ns)
}

// removeNamespace removes a namespace and those below it. One that is not
// there is no error, as with a real server.
func (a *api) removeNamespace(ctx context.Context, c *rest.Call) (any, error) {
	store, ns, groups := c.Store(), c.Namespace(), c.Bool("delete-groups")
	strict := !c.Has("error-on-protected") || c.Bool("error-on-protected")
	parent, below := ns.Parent()
	v, err := a.enter(c, store, parent, modify, 0, true)
	if err != nil {
		return nil, err
	}
	defer v.done()
	if !below {
		return nil, refuse("cannot delete root namespace!")
	}
	if there, err := v.HasNamespace(ns); err != nil || !there {
		return nil, err
	}
	all, err := v.List(ctx, catalog.ListOptions{Namespace: ns, Depth: -1})
	if err != nil {
		return nil, err
	}
	if len(all) > 0 && !groups {
		return nil, refuse("only partially deleted due to existing groups but `delete-groups` not true ")
	}
	err = v.RemoveNamespace(ctx, ns, groups)
	if errors.Is(err, catalog.ErrProtected) {
		if strict {
			return nil, refuse(partially)
		}
		err = nil
	}
	if err != nil || !c.Has("error-on-protected") {
		return nil, err
	}
	return v.removal(ctx, ns, all)
}

// removal compares what was in a namespace with what is left.
func (v *view) removal(ctx context.Context, ns catalog.Namespace, before []catalog.Info) (removal, error) {
	var after []catalog.Info
	there, err := v.HasNamespace(ns)
	if err == nil && there {
		after, err = v.List(ctx, catalog.ListOptions{Namespace: ns, Depth: -1})
	}
	return removal{
		Groups: distinctGroups(before) - distinctGroups(after), Protected: len(after), Snapshots: len(before) - len(after),
	}, err
}

// distinctGroups counts the groups of snapshots that are sorted by them.
func distinctGroups(list []catalog.Info) (n int) {
	for i, info := range list {
		if i == 0 || info.Namespace != list[i-1].Namespace || info.Snapshot().Group != list[i-1].Snapshot().Group {
			n++
		}
	}
	return n
}

// notes returns what somebody wrote about a snapshot.
func (a *api) notes(_ context.Context, c *rest.Call) (any, error) {
	store, ns, s := c.Store(), c.Namespace(), c.Snapshot()
	v, err := a.enterGroup(c, store, ns, s.Group, audit, backup, false)
	if err != nil {
		return nil, err
	}
	defer v.done()
	m, err := v.Manifest(ns, s)
	if err != nil {
		return nil, v.noManifest(s, err)
	}
	return m.Notes(), nil
}

func (v *view) noManifest(s catalog.Snapshot, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unable to load blob '%q' - %s", v.dir(s)+"/index.json.blob", osError)
	}
	return err
}

// setNotes changes them.
func (a *api) setNotes(_ context.Context, c *rest.Call) (any, error) {
	store, ns, s, text := c.Store(), c.Namespace(), c.Snapshot(), c.Text("notes")
	v, err := a.enterGroup(c, store, ns, s.Group, modify, backup, true)
	if err != nil {
		return nil, err
	}
	defer v.done()
	if err := v.SetNotes(ns, s, text); err != nil {
		return nil, fmt.Errorf("unable to update manifest blob - %w", v.noManifest(s, err))
	}
	return nil, nil
}

// groupNotes returns what somebody wrote about a group.
func (a *api) groupNotes(_ context.Context, c *rest.Call) (any, error) {
	store, ns, g := c.Store(), c.Namespace(), c.Group()
	v, err := a.enterGroup(c, store, ns, g, audit, backup, false)
	if err != nil {
		return nil, err
	}
	defer v.done()
	text, err := v.GroupNotes(ns, g)
	return text, err
}

// setGroupNotes changes them.
func (a *api) setGroupNotes(_ context.Context, c *rest.Call) (any, error) {
	store, ns, g, text := c.Store(), c.Namespace(), c.Group(), c.Text("notes")
	v, err := a.enterGroup(c, store, ns, g, modify, backup, true)
	if err != nil {
		return nil, err
	}
	defer v.done()
	return nil, missing(v.SetGroupNotes(ns, g, text))
}

// protected tells whether a snapshot is protected; of one that is not there,
// that it is not, as a real server does.
func (a *api) protected(_ context.Context, c *rest.Call) (any, error) {
	store, ns, s := c.Store(), c.Namespace(), c.Snapshot()
	v, err := a.enterGroup(c, store, ns, s.Group, audit, backup, false)
	if err != nil {
		return nil, err
	}
	defer v.done()
	on, err := v.Protected(ns, s)
	return on, err
}

// setProtected protects a snapshot, or does so no longer.
func (a *api) setProtected(_ context.Context, c *rest.Call) (any, error) {
	store, ns, s := c.Store(), c.Namespace(), c.Snapshot()
	c.Text("protected") // is required
	on := c.Bool("protected")
	v, err := a.enterGroup(c, store, ns, s.Group, modify, backup, true)
	if err != nil {
		return nil, err
	}
	defer v.done()
	err = v.SetProtected(ns, s, on)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("unable to open snapshot directory %q for locking - %s", v.dir(s), enoent)
	case errors.Is(err, catalog.ErrBusy):
		return nil, v.locked(s, "possibly running or in use")
	}
	return nil, err
}

// changeOwner gives a group to somebody else.
func (a *api) changeOwner(_ context.Context, c *rest.Call) (any, error) {
	store, ns, g := c.Store(), c.Namespace(), c.Group()
	next := upgrade.Parsed(c.Params, "new-owner", access.ParseAuthID)
	v, err := a.enter(c, store, ns, modify, backup, true)
	if err != nil {
		return nil, err
	}
	defer v.done()
	owner, err := v.Owner(ns, g)
	if err != nil {
		return nil, missing(err)
	}
	if !v.all && !mayGive(c.Who, access.AuthID(owner), next) {
		return nil, upgrade.Errorf(http.StatusUnauthorized, "%s does not have permission to change owner of backup group '%s' to %s", c.Who, g, next)
	}
	if !a.Accounts.Active(next) {
		kind := "user"
		if next.IsToken() {
			kind = "token"
		}
		return nil, fmt.Errorf("%s '%s' is inactive or non-existent", kind, next)
	}
	return nil, v.SetOwner(ns, g, string(next))
}

// mayGive tells whether somebody who has to own a group may give it away: a
// user to a token of his, and back.
func mayGive(who, owner, next access.AuthID) bool {
	return !who.IsToken() && owner.User() == who && next.User() == who && (owner.IsToken() || next.IsToken())
}

// maxLog is the longest log of a client, as it is stored.
const maxLog = 16<<20 + 64

// uploadLog stores the log of the client that made a snapshot.
func (a *api) uploadLog(_ context.Context, c *rest.Call) (any, error) {
	store, ns, s := c.Store(), c.Namespace(), c.Snapshot()
	v, err := a.enterGroup(c, store, ns, s.Group, 0, backup, true)
	if err != nil {
		return nil, err
	}
	defer v.done()
	names, err := v.Files(ns, s)
	if err != nil {
		return nil, missing(err)
	}
	for _, n := range names {
		if n == "client.log.blob" {
			return nil, errHasLog
		}
	}
	b, err := io.ReadAll(io.LimitReader(c.Request.Body, maxLog+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the log: %w", err)
	case len(b) > maxLog:
		return nil, fmt.Errorf("the log has more than %d bytes", maxLog)
	}
	err = v.AddLog(ns, s, chunks.Blob(b))
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, errHasLog
	case errors.Is(err, fs.ErrNotExist):
		return nil, missing(err)
	}
	return nil, err
}

var errHasLog = refuse("backup already contains a log.")
