package accounts

import (
	"context"
	"errors"
	"net/http"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A token is one as PBS shows it, never with its secret.
type token struct {
	ID      access.AuthID `json:"tokenid"`
	Name    string        `json:"token-name,omitempty"`
	Comment string        `json:"comment,omitempty"`
	Enable  *bool         `json:"enable,omitempty"` // left out: true
	Expire  int64         `json:"expire,omitempty"`
}

func shownToken(t access.Token) token {
	return token{ID: t.ID, Comment: t.Comment, Enable: enable(t.Disabled), Expire: t.Expire}
}

func (a *api) tokens(_ context.Context, c *rest.Call) (any, error) {
	id := upgrade.Parsed(c.Params, "userid", parseUser)
	if err := c.Err(); err != nil {
		return nil, err
	}
	list := []token{}
	for _, t := range a.Tokens(id) {
		shown := shownToken(t)
		shown.Name = t.ID.TokenName()
		list = append(list, shown)
	}
	return a.withUsersDigest(list), nil
}

// tokenID reads which token the path names.
func tokenID(c *rest.Call) access.AuthID {
	user := upgrade.Parsed(c.Params, "userid", parseUser)
	return upgrade.Parsed(c.Params, "token-name", func(name string) (access.AuthID, error) {
		return access.ParseAuthID(string(user) + "!" + name)
	})
}

func (a *api) token(_ context.Context, c *rest.Call) (any, error) {
	id := tokenID(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	t, err := a.Token(id)
	if err != nil {
		return nil, err
	}
	return a.withUsersDigest(shownToken(t)), nil
}

// secret is what whoever made a token is told once: also of one that is a draft
// until there is a quorum, since nobody can tell the secret later.
func secret(id access.AuthID, name, value string, err error) (any, error) {
	told := map[string]any{name: value}
	if name == "value" {
		told["tokenid"] = string(id)
	}
	var kept interface{ Draft() uint64 }
	if errors.As(err, &kept) {
		told["draft"], told["note"] = kept.Draft(), err.Error()
		return told, nil
	}
	if err != nil {
		return nil, err
	}
	return told, nil
}

func (a *api) addToken(ctx context.Context, c *rest.Call) (any, error) {
	t := access.Token{
		ID:       tokenID(c),
		Comment:  value(text(c, "comment")),
		Disabled: c.Has("enable") && !c.Bool("enable"),
		Expire:   value(expire("expire", c)),
	}
	digest := value(text(c, "digest"))
	if err := c.Err(); err != nil {
		return nil, err
	}
	if t.ID.Realm() == access.RealmNode {
		return nil, upgrade.Errorf(http.StatusBadRequest, "%s is the account of a node: it says what that node may read, and nobody logs in with it; make a user in the realm pbs", t.ID.User())
	}
	v, err := a.AddToken(ctx, t, digest)
	return secret(t.ID, "value", v, err)
}

func (a *api) changeToken(ctx context.Context, c *rest.Call) (any, error) {
	id := tokenID(c)
	change := access.TokenChange{
		Comment: text(c, "comment"),
		Enable:  upgrade.Maybe(c.Params, "enable", c.Bool),
		Expire:  expire("expire", c),
		Digest:  value(text(c, "digest")),
	}
	for _, name := range c.Texts("delete") {
		if name != "comment" {
			c.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
		none := ""
		change.Comment = &none
	}
	regenerate := c.Bool("regenerate")
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := a.ChangeToken(ctx, id, change); err != nil || !regenerate {
		return nil, err
	}
	v, err := a.RegenerateToken(ctx, id, "")
	return secret(id, "secret", v, err)
}

func (a *api) removeToken(ctx context.Context, c *rest.Call) (any, error) {
	id, digest := tokenID(c), value(text(c, "digest"))
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.RemoveToken(ctx, id, digest)
}
