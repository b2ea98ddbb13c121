package accounts

import (
	"context"
	"net/http"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// An entry is a line of the access control list as PBS shows it.
type entry struct {
	Path      string        `json:"path"`
	ID        access.AuthID `json:"ugid"`
	Kind      string        `json:"ugid_type"`
	Propagate bool          `json:"propagate"`
	Role      string        `json:"roleid"`
}

func (a *api) acl(_ context.Context, c *rest.Call) (any, error) {
	path, exact := value(text(c, "path")), c.Bool("exact")
	if err := c.Err(); err != nil {
		return nil, err
	}
	found, err := a.ACL(c.Who, path, exact)
	if err != nil {
		return nil, err
	}
	list := []entry{}
	for _, e := range found {
		list = append(list, entry{e.Path, e.ID, "user", e.Propagate, e.Role})
	}
	return rest.Answer{Data: list, Beside: map[string]any{"digest": a.State().ACLDigest()}}, nil
}

func (a *api) changeACL(ctx context.Context, c *rest.Call) (any, error) {
	change := access.ACLChange{
		ACLEntry: access.ACLEntry{
			Path: c.Text("path"),
			Role: upgrade.Parsed(c.Params, "role", func(id string) (string, error) {
				if _, err := access.ParseRole(id); err != nil {
					return "", upgrade.Errorf(http.StatusBadRequest, "value '%s' is not defined in the enumeration.", id)
				}
				return id, nil
			}),
			Propagate: !c.Has("propagate") || c.Bool("propagate"),
		},
		Delete: c.Bool("delete"),
		Digest: value(text(c, "digest")),
	}
	switch {
	case c.Has("group"):
		return nil, upgrade.Errorf(http.StatusBadRequest, "parameter verification failed - 'group': groups are not currently supported")
	default:
		change.ID = upgrade.Parsed(c.Params, "auth-id", access.ParseAuthID)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.ChangeACL(ctx, c.Who, change)
}

func (a *api) permissions(_ context.Context, c *rest.Call) (any, error) {
	id, path := c.Who, value(text(c, "path"))
	if c.Has("auth-id") {
		id = upgrade.Parsed(c.Params, "auth-id", access.ParseAuthID)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	return a.Permissions(c.Who, id, path)
}
