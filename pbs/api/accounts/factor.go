package accounts

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// The second factors there are, which are their own IDs: a user has at most
// one authenticator, and recovery keys only beside it.
const (
	totp     = "totp"
	recovery = "recovery"
)

// A shownFactor is a second factor as PBS shows it.
type shownFactor struct {
	ID          string `json:"id"`
	Type        string `json:"type"`
	Description string `json:"description"`
	Created     int64  `json:"created"`
	Enable      bool   `json:"enable"`
}

// shownFactors returns the second factors of a user.
func (a *api) shownFactors(id access.AuthID) []shownFactor {
	f, found := a.State().SecondFactors[id]
	if !found {
		return []shownFactor{}
	}
	return []shownFactor{
		{totp, totp, "authenticator", 0, true},
		{recovery, recovery, fmt.Sprintf("%d keys left", len(f.RecoveryLeft())), 0, len(f.RecoveryLeft()) > 0},
	}
}

func (a *api) factors(_ context.Context, c *rest.Call) (any, error) {
	type item struct {
		User    access.AuthID `json:"userid"`
		Locked  bool          `json:"totp-locked,omitempty"`
		Entries []shownFactor `json:"entries"`
	}
	list := []item{}
	for _, u := range a.Users(c.Who) {
		if f, found := a.State().SecondFactors[u.ID]; found {
			list = append(list, item{u.ID, f.Locked(), a.shownFactors(u.ID)})
		}
	}
	return list, nil
}

func (a *api) factor(_ context.Context, c *rest.Call) (any, error) {
	id := upgrade.Parsed(c.Params, "userid", parseUser)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return a.shownFactors(id), nil
}

func (a *api) oneFactor(_ context.Context, c *rest.Call) (any, error) {
	id, name := upgrade.Parsed(c.Params, "userid", parseUser), c.Text("id")
	if err := c.Err(); err != nil {
		return nil, err
	}
	for _, f := range a.shownFactors(id) {
		if f.ID == name {
			return f, nil
		}
	}
	return nil, noFactor(id, name)
}

func noFactor(id access.AuthID, name string) error {
	return upgrade.Errorf(http.StatusNotFound, "user '%s' has no second factor '%s'", id, name)
}

// addFactor sets an authenticator up, or makes recovery keys anew. The keys are
// shown this once.
func (a *api) addFactor(ctx context.Context, c *rest.Call) (any, error) {
	id, kind := upgrade.Parsed(c.Params, "userid", parseUser), c.Text("type")
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := a.confirm(ctx, c, "password"); err != nil {
		return nil, err
	}
	var keys []string
	var err error
	switch kind {
	case totp:
		uri, code := upgrade.Parsed(c.Params, "totp", secretOf), c.Text("value")
		if err := c.Err(); err != nil {
			return nil, err
		}
		keys, err = a.SetTOTP(ctx, id, uri, code)
	case recovery:
		keys, err = a.NewRecoveryKeys(ctx, id)
	default:
		return nil, upgrade.Errorf(http.StatusNotImplemented, "second factors of type '%s' are not offered here: use totp or recovery", kind)
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{"id": kind, "recovery": keys}, nil
}

// secretOf reads the secret in what the QR code of an authenticator says.
func secretOf(uri string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "otpauth" || u.Host != totp || u.Query().Get("secret") == "" {
		return "", upgrade.Errorf(http.StatusBadRequest, "it is not an otpauth://totp/ URI with a secret")
	}
	return u.Query().Get("secret"), nil
}

func (a *api) removeFactor(ctx context.Context, c *rest.Call) (any, error) {
	id, name := upgrade.Parsed(c.Params, "userid", parseUser), c.Text("id")
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := a.confirm(ctx, c, "password"); err != nil {
		return nil, err
	}
	if _, found := a.State().SecondFactors[id]; !found || name != totp {
		return nil, noFactor(id, name)
	}
	return nil, a.RemoveTOTP(ctx, id)
}

func (a *api) unlockFactor(ctx context.Context, c *rest.Call) (any, error) {
	id := upgrade.Parsed(c.Params, "userid", parseUser)
	if err := c.Err(); err != nil {
		return nil, err
	}
	locked := a.State().SecondFactors[id]
	if err := a.UnlockTOTP(ctx, id); err != nil {
		return nil, err
	}
	return locked.Locked(), nil
}
