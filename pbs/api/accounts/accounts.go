// Package accounts has the endpoints below /access: logging in, users, API
// tokens, roles, the access control list, and the second factor (PBS protocol
// notes §1.2, §7.1, §7.2).
package accounts

import (
	"context"
	"net/http"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// api answers the endpoints.
type api struct{ *access.Service }

const usersPath = "/access/users"

// Who may see and change accounts; people may do so with their own.
var (
	mayAudit  = rest.Any(access.PrivSysAudit, usersPath)
	mayModify = rest.Any(access.PrivPermissionsModify, usersPath)
)

// Endpoints returns the endpoints that answer about the accounts of s.
func Endpoints(s *access.Service) []rest.Endpoint {
	a := &api{s}
	const user = usersPath + "/{userid}"
	const token = user + "/token/{token-name}"
	get, post, put, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	return []rest.Endpoint{
		{Method: post, Path: "/access/ticket", Need: rest.World, Handle: a.login},
		{Method: put, Path: "/access/password", Handle: a.changePassword},
		{Method: get, Path: "/access/domains", Need: rest.World, Handle: a.realms},
		{Method: get, Path: "/access/roles", Handle: a.roles},
		{Method: get, Path: "/access/permissions", Handle: a.permissions},
		{Method: get, Path: "/access/acl", Handle: a.acl},
		{Method: put, Path: "/access/acl", Handle: a.changeACL},

		{Method: get, Path: usersPath, Handle: a.users},
		{Method: post, Path: usersPath, Need: mayModify, Handle: a.addUser},
		{Method: get, Path: user, Need: mayAudit.OrSelf("userid"), Handle: a.user},
		{Method: put, Path: user, Need: mayModify.OrSelf("userid"), Handle: a.changeUser},
		{Method: del, Path: user, Need: mayModify, Handle: a.removeUser},
		{Method: put, Path: user + "/unlock-tfa", Need: mayModify, Handle: a.unlockFactor},

		{Method: get, Path: user + "/token", Need: mayAudit.OrSelf("userid"), Handle: a.tokens},
		{Method: get, Path: token, Need: mayAudit.OrSelf("userid"), Handle: a.token},
		{Method: post, Path: token, Need: mayModify.OrSelf("userid"), Handle: a.addToken},
		{Method: put, Path: token, Need: mayModify.OrSelf("userid"), Handle: a.changeToken},
		{Method: del, Path: token, Need: mayModify.OrSelf("userid"), Handle: a.removeToken},

		{Method: get, Path: "/access/tfa", Handle: a.factors},
		{Method: get, Path: "/access/tfa/{userid}", Need: mayAudit.OrSelf("userid"), Handle: a.factor},
		{Method: post, Path: "/access/tfa/{userid}", Need: mayModify.OrSelf("userid"), Handle: a.addFactor},
		{Method: get, Path: "/access/tfa/{userid}/{id}", Need: mayAudit.OrSelf("userid"), Handle: a.oneFactor},
		{Method: del, Path: "/access/tfa/{userid}/{id}", Need: mayModify.OrSelf("userid"), Handle: a.removeFactor},
	}
}

// login gives a ticket for a password.
func (a *api) login(ctx context.Context, c *rest.Call) (any, error) {
	l := access.Login{User: c.Text("username"), Password: c.Text("password"), Source: c.Source()}
	if c.Has("tfa-challenge") {
		l.Challenge = c.Text("tfa-challenge")
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	t, err := a.Login(ctx, l)
	if err != nil {
		return nil, err
	}
	csrf := t.CSRF
	if t.Challenge {
		csrf = "invalid" // a client must not take a challenge for a ticket
	}
	return map[string]string{"username": string(t.User), "ticket": t.Text, "CSRFPreventionToken": csrf}, nil
}

// confirm asks for the caller's own password, so that a stolen ticket is not
// enough. Root, who comes over the local socket, has none.
func (a *api) confirm(ctx context.Context, c *rest.Call, param string) error {
	if c.Who == access.Root {
		return nil
	}
	if !c.Has(param) {
		return upgrade.Errorf(http.StatusUnauthorized, "missing password")
	}
	return a.ConfirmPassword(ctx, c.Who.User(), c.Text(param), c.Source())
}

// changePassword changes the caller's password, or somebody's.
func (a *api) changePassword(ctx context.Context, c *rest.Call) (any, error) {
	id := upgrade.Parsed(c.Params, "userid", parseUser)
	password := c.Text("password")
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := a.confirm(ctx, c, "confirmation-password"); err != nil {
		return nil, err
	}
	if id != c.Who {
		if err := c.Require(access.PrivPermissionsModify, "access", "users"); err != nil {
			return nil, err
		}
	}
	return nil, a.SetPassword(ctx, id, password)
}

func (a *api) realms(context.Context, *rest.Call) (any, error) {
	list := []map[string]any{}
	for _, r := range access.Realms() {
		item := map[string]any{"realm": r.ID, "type": r.Type, "comment": r.Comment}
		if r.Default {
			item["default"] = true
		}
		list = append(list, item)
	}
	return rest.Answer{Data: list, Beside: map[string]any{"digest": access.RealmsDigest()}}, nil
}

func (a *api) roles(context.Context, *rest.Call) (any, error) {
	type role struct {
		ID      string   `json:"roleid"`
		Privs   []string `json:"privs"`
		Comment string   `json:"comment"`
	}
	list := []role{}
	for _, r := range access.Roles() {
		list = append(list, role{r.ID, append([]string{}, r.Privileges.Names()...), r.Comment})
	}
	return list, nil
}

// parseUser reads the name of a user who is no token.
func parseUser(s string) (access.AuthID, error) {
	id, err := access.ParseAuthID(s)
	if err == nil && id.IsToken() {
		err = upgrade.Errorf(http.StatusBadRequest, "value does not match the regex pattern")
	}
	return id, err
}
