package remotes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// nodes returns the IDs of the nodes that may use a remote: those before, this one, and
// those that a call names.
func (a *api) nodes(c *rest.Call, before []string) ([]string, error) {
	all := append(slices.Clone(before), a.Vault.Self())
	for _, name := range c.Texts("node") {
		id, err := a.Vault.Find(name)
		if err != nil {
			return nil, upgrade.Errorf(http.StatusBadRequest, "node: %w", err)
		}
		all = append(all, id)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// share lets more nodes use a remote: they get its record, with the password sealed to
// each.
func (a *api) share(ctx context.Context, c *rest.Call) (any, error) {
	r, _, err := a.find(c)
	if err != nil {
		return nil, err
	}
	password, err := a.Vault.Password(r)
	if err != nil {
		return nil, upgrade.Errorf(http.StatusBadRequest, "%w", err)
	}
	if r.Nodes, err = a.nodes(c, r.Nodes); err != nil {
		return nil, err
	}
	if r.Sealed, err = a.Vault.Seal(a.Vault.Self(), password); err != nil {
		return nil, err
	}
	for _, id := range r.Shared(a.Vault.Self()) {
		if other, is := a.Vault.Settings(id).State().Remote(r.Name); is && (other.Host != r.Host || other.AuthID != r.AuthID) {
			return nil, upgrade.Errorf(http.StatusBadRequest, "node %s has another remote '%s': that of %s at %s", a.Vault.Name(id), r.Name, other.AuthID, other.Host)
		}
	}
	err = a.Settings.Update(ctx, func(s *settings.State) error {
		for i := range s.Remotes {
			if s.Remotes[i].Name == r.Name {
				s.Remotes[i].Nodes, s.Remotes[i].Sealed = r.Nodes, r.Sealed
				return nil
			}
		}
		return noSuch(r.Name)
	})
	if err != nil {
		return nil, err
	}
	return nil, a.give(ctx, r, password)
}

// give brings a remote of this node to the others that may use it. Without a password
// they keep the one that they have.
func (a *api) give(ctx context.Context, r settings.Remote, password string) error {
	var errs []error
	for _, id := range r.Shared(a.Vault.Self()) {
		if err := a.giveOne(ctx, id, r, password); err != nil {
			errs = append(errs, fmt.Errorf("node %s does not know it yet: %w", a.Vault.Name(id), err))
		}
	}
	return errors.Join(errs...)
}

func (a *api) giveOne(ctx context.Context, id string, r settings.Remote, password string) error {
	r.Sealed = nil
	if password != "" {
		var err error
		if r.Sealed, err = a.Vault.Seal(id, password); err != nil {
			return err
		}
	}
	return a.Vault.Settings(id).Update(ctx, func(s *settings.State) error {
		for i := range s.Remotes {
			if s.Remotes[i].Name == r.Name {
				if r.Sealed == nil {
					r.Sealed = s.Remotes[i].Sealed
				}
				s.Remotes[i] = r
				return nil
			}
		}
		if r.Sealed != nil {
			s.Remotes = append(s.Remotes, r)
		}
		return nil
	})
}

// told warns of remotes that are the same user of the same server: two jobs that push
// with them get in each other's way (features row 62).
func (a *api) told(r settings.Remote) any {
	var same []string
	for _, o := range a.Settings.State().Remotes {
		if o.Name != r.Name && o.SameUser(r) {
			same = append(same, o.Name)
		}
	}
	if len(same) == 0 {
		return nil
	}
	return map[string]string{"warning": fmt.Sprintf("%s is also the user of remote %s: jobs that push to one datastore as the same user may skip, or with remove-vanished remove, what the other pushes", r.AuthID, strings.Join(same, ", "))}
}

// remove takes a remote, and its password, back from all nodes that may use it, or
// from those that a call names: where a job uses it, from none.
func (a *api) remove(ctx context.Context, c *rest.Call) (any, error) {
	digest, self := optional(c.Params, "digest"), a.Vault.Self()
	r, state, err := a.find(c)
	if err == nil {
		err = settings.CheckDigest(state.Remotes, digest)
	}
	if err != nil {
		return nil, err
	}
	from := append(r.Shared(self), self)
	if c.Has("node") {
		if from, err = a.named(c, r); err != nil {
			return nil, err
		}
	}
	for _, id := range from {
		if err := a.unused(id, r.Name); err != nil {
			return nil, err
		}
	}
	left := r
	left.Nodes = slices.DeleteFunc(append(r.Shared(self), self), func(id string) bool { return slices.Contains(from, id) })
	slices.Sort(left.Nodes)
	for _, id := range from { // this node last: if it fails, it can be tried again
		if err := a.removeAt(ctx, id, r); err != nil {
			return nil, fmt.Errorf("node %s still has it: %w", a.Vault.Name(id), err)
		}
	}
	if !slices.Contains(from, self) {
		if err := a.giveOne(ctx, self, left, ""); err != nil {
			return nil, err
		}
	}
	return nil, a.give(ctx, left, "")
}

// named returns the nodes that a call names, each of which may use a remote; this one
// last.
func (a *api) named(c *rest.Call, r settings.Remote) (ids []string, err error) {
	self, mine := a.Vault.Self(), false
	for _, name := range c.Texts("node") {
		id, err := a.Vault.Find(name)
		switch {
		case err != nil:
			return nil, upgrade.Errorf(http.StatusBadRequest, "node: %w", err)
		case id == self:
			mine = true
		case !slices.Contains(r.Nodes, id):
			return nil, upgrade.Errorf(http.StatusBadRequest, "node: %s may not use remote '%s'", name, r.Name)
		case !slices.Contains(ids, id):
			ids = append(ids, id)
		}
	}
	if mine {
		ids = append(ids, self)
	}
	return ids, nil
}

// unused fails if a job of a node uses a remote.
func (a *api) unused(id, remote string) error {
	for _, j := range a.Vault.Settings(id).State().SyncJobs {
		if j.Remote != remote {
			continue
		}
		at := ""
		if id != a.Vault.Self() {
			at = " of node " + a.Vault.Name(id)
		}
		return upgrade.Errorf(http.StatusBadRequest, "parameter verification failed - 'name': remote '%s' is used by sync job '%s' (datastore '%s')%s", remote, j.ID, j.Store, at)
	}
	return nil
}

// removeAt takes a remote back from a node, if it is that one.
func (a *api) removeAt(ctx context.Context, id string, r settings.Remote) error {
	err := a.Vault.Settings(id).Update(ctx, func(s *settings.State) error {
		s.Remotes = slices.DeleteFunc(s.Remotes, func(o settings.Remote) bool { return o.Name == r.Name && o.SameUser(r) })
		return nil
	})
	if err == nil && id == a.Vault.Self() {
		err = a.Secrets.Set(ctx, map[string]string{SecretOf(r.Name): ""})
	}
	return err
}
