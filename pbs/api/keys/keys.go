// Package keys has the endpoints about the keys that sync jobs encrypt and decrypt
// with: /config/encryption-keys as Proxmox Backup Server has them (PBS protocol notes
// §7.11). A key is never returned. Who may use it, and PUT to let more nodes use it,
// is ours.
package keys

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/chunks"
	keyfile "github.com/holdfast-mesh/holdfast/chunks/keys"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// ErrNone says that there is no key of a name.
var ErrNone = errors.New("there is no key")

// Info is what may be known of a key.
type Info struct {
	ID          string   `json:"id"`
	KDF         string   `json:"kdf"`
	Fingerprint string   `json:"fingerprint"`
	Hint        string   `json:"hint,omitempty"`
	Comment     string   `json:"comment,omitempty"`
	Created     int64    `json:"created"`
	Modified    int64    `json:"modified"`
	ArchivedAt  int64    `json:"archived-at,omitempty"`
	Nodes       []string `json:"nodes"` // that may use it, by name
	Jobs        []string `json:"jobs"`  // that name it, as NODE:ID
}

// Options say more of a key that is added.
type Options struct {
	Hint, Comment string
	Nodes         []string // that may use it; none: this one
}

// A Ring keeps keys.
type Ring interface {
	List() []Info
	Add(ctx context.Context, name string, key *chunks.Key, o Options) error // nil: a new one
	Archive(ctx context.Context, name string, archive bool) error
	Share(ctx context.Context, name string, nodes []string) error
	Remove(ctx context.Context, name string) error
}

type api struct{ Ring }

// Endpoints returns the endpoints.
func Endpoints(r Ring) []rest.Endpoint {
	a := &api{r}
	get, post, put, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	const all, one, acl = "/config/encryption-keys", "/config/encryption-keys/{id}", "/system/encryption-keys"
	changes := rest.Any(access.PrivSysModify, acl+"/{id}")
	return []rest.Endpoint{
		{Method: get, Path: all, Handle: a.list},
		{Method: post, Path: all, Need: rest.Any(access.PrivSysModify, acl), Handle: a.add},
		{Method: post, Path: one, Need: changes, Handle: a.toggle},
		{Method: put, Path: one, Need: changes, Handle: a.share},
		{Method: del, Path: one, Need: changes, Handle: a.remove},
	}
}

// list returns the keys that the caller may look at; those that are archived only
// if they are asked for.
func (a *api) list(_ context.Context, c *rest.Call) (any, error) {
	old := c.Has("include-archived") && c.Bool("include-archived")
	if err := c.Err(); err != nil {
		return nil, err
	}
	list := []Info{}
	for _, k := range a.List() {
		may := c.May(access.PrivSysAudit, "system", "encryption-keys", k.ID) || c.May(access.PrivSysModify, "system", "encryption-keys", k.ID)
		if may && (old || k.ArchivedAt == 0) {
			list = append(list, k)
		}
	}
	return list, nil
}

func nameOf(c *rest.Call) string { return upgrade.Parsed(c.Params, "id", upgrade.ParseStore) }

// line reads a line of text.
func line(text string) (string, error) {
	if len([]rune(text)) > 128 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errors.New("value does not match the regex pattern")
	}
	return text, nil
}

// key reads a key file that has no passphrase.
func key(text string) (*chunks.Key, error) {
	f, err := keyfile.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	return f.Unlock(nil)
}

func (a *api) add(ctx context.Context, c *rest.Call) (any, error) {
	name, o := nameOf(c), Options{}
	for param, to := range map[string]*string{"hint": &o.Hint, "comment": &o.Comment} {
		if c.Has(param) {
			*to = upgrade.Parsed(c.Params, param, line)
		}
	}
	if c.Has("node") {
		o.Nodes = c.Texts("node")
	}
	var k *chunks.Key
	if c.Has("key") {
		k = upgrade.Parsed(c.Params, "key", key)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	for _, known := range a.List() {
		if known.ID == name {
			return nil, upgrade.Errorf(http.StatusBadRequest, "parameter verification failed - 'id': key '%s' already exists.", name)
		}
	}
	return nil, bad(a.Add(ctx, name, k, o))
}

// toggle archives a key, or takes that back; with archived it says which.
func (a *api) toggle(ctx context.Context, c *rest.Call) (any, error) {
	name := nameOf(c)
	var want *bool
	if c.Has("archived") {
		want = upgrade.Maybe(c.Params, "archived", c.Bool)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	if want == nil {
		for _, k := range a.List() {
			if now := k.ArchivedAt == 0; k.ID == name {
				want = &now
			}
		}
	}
	if want == nil {
		return nil, upgrade.Errorf(http.StatusBadRequest, "%v '%s'", ErrNone, name)
	}
	return nil, bad(a.Archive(ctx, name, *want))
}

func (a *api) share(ctx context.Context, c *rest.Call) (any, error) {
	name, nodes := nameOf(c), c.Texts("node")
	if len(nodes) == 0 {
		c.Fail("node", "parameter is missing and it is not optional.")
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, bad(a.Share(ctx, name, nodes))
}

func (a *api) remove(ctx context.Context, c *rest.Call) (any, error) {
	name := nameOf(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, bad(a.Remove(ctx, name))
}

// bad says that what was asked for cannot be done.
func bad(err error) error {
	if err == nil {
		return nil
	}
	return upgrade.Errorf(http.StatusBadRequest, "%w", err)
}
