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
