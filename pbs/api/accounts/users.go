package accounts

import (
	"context"
	"math"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A user is one as PBS shows it.
type user struct {
	ID        access.AuthID `json:"userid"`
	Comment   string        `json:"comment,omitempty"`
	FirstName string        `json:"firstname,omitempty"`
	LastName  string        `json:"lastname,omitempty"`
	Email     string        `json:"email,omitempty"`
	Enable    *bool         `json:"enable,omitempty"` // left out: true
	Expire    int64         `json:"expire,omitempty"`
	Tokens    []token       `json:"tokens,omitempty"`
}

func shownUser(u access.User) user {
	return user{u.ID, u.Comment, u.FirstName, u.LastName, u.Email, enable(u.Disabled), u.Expire, nil}
}

func enable(disabled bool) *bool {
	if !disabled {
		return nil
	}
	no := false
	return &no
}

// withUsersDigest adds what a change has to name if it is to be refused after
// somebody else's.
func (a *api) withUsersDigest(data any) rest.Answer {
	return rest.Answer{Data: data, Beside: map[string]any{"digest": a.State().UsersDigest()}}
}

func (a *api) users(_ context.Context, c *rest.Call) (any, error) {
	tokens := c.Bool("include_tokens")
	if err := c.Err(); err != nil {
		return nil, err
	}
	list := []user{}
	for _, u := range a.Users(c.Who) {
		shown := shownUser(u)
		if tokens {
			for _, t := range a.Tokens(u.ID) {
				shown.Tokens = append(shown.Tokens, shownToken(t))
			}
		}
		list = append(list, shown)
	}
	return a.withUsersDigest(list), nil
}

func (a *api) user(_ context.Context, c *rest.Call) (any, error) {
	id := upgrade.Parsed(c.Params, "userid", parseUser)
	if err := c.Err(); err != nil {
		return nil, err
	}
	u, err := a.User(id)
	if err != nil {
		return nil, err
	}
	return a.withUsersDigest(shownUser(u)), nil
}

// text reads a parameter that may be missing.
func text(c *rest.Call, name string) *string { return upgrade.Maybe(c.Params, name, c.Text) }

func expire(name string, c *rest.Call) *int64 {
	return upgrade.Maybe(c.Params, name, func(name string) int64 { return c.Int(name, 0, math.MaxInt64) })
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (a *api) addUser(ctx context.Context, c *rest.Call) (any, error) {
	u := access.User{
		ID:        upgrade.Parsed(c.Params, "userid", parseUser),
		Comment:   value(text(c, "comment")),
		FirstName: value(text(c, "firstname")),
		LastName:  value(text(c, "lastname")),
		Email:     value(text(c, "email")),
		Disabled:  c.Has("enable") && !c.Bool("enable"),
		Expire:    value(expire("expire", c)),
	}
	password := value(text(c, "password"))
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.AddUser(ctx, u, password)
}

func (a *api) changeUser(ctx context.Context, c *rest.Call) (any, error) {
	id := upgrade.Parsed(c.Params, "userid", parseUser)
	change := access.UserChange{
		Comment:   text(c, "comment"),
		FirstName: text(c, "firstname"),
		LastName:  text(c, "lastname"),
		Email:     text(c, "email"),
		Enable:    upgrade.Maybe(c.Params, "enable", c.Bool),
		Expire:    expire("expire", c),
		Digest:    value(text(c, "digest")),
	}
	password := text(c, "password")
	for _, name := range c.Texts("delete") {
		none := ""
		switch name {
		case "comment":
			change.Comment = &none
		case "firstname":
			change.FirstName = &none
		case "lastname":
			change.LastName = &none
		case "email":
			change.Email = &none
		default:
			c.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	// Nobody gives himself back what an administrator took.
	if id == c.Who && (change.Enable != nil || change.Expire != nil) {
		if err := c.Require(access.PrivPermissionsModify, "access", "users"); err != nil {
			return nil, err
		}
	}
	if password != nil {
		if err := a.confirm(ctx, c, "confirmation-password"); err != nil {
			return nil, err
		}
		if err := a.SetPassword(ctx, id, *password); err != nil {
			return nil, err
		}
	}
	return nil, a.ChangeUser(ctx, id, change)
}

func (a *api) removeUser(ctx context.Context, c *rest.Call) (any, error) {
	id, digest := upgrade.Parsed(c.Params, "userid", parseUser), value(text(c, "digest"))
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.RemoveUser(ctx, id, digest)
}
