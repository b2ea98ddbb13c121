// Package remotes has the endpoints about servers outside the cluster that this
// node may read from: /config/remote as Proxmox Backup Server has it (PBS protocol
// notes §7.5). Passwords are never returned.
package remotes

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/secrets"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Config says what the endpoints work on. Every field is required.
type Config struct {
	Settings settings.Store
	Secrets  *secrets.Secrets // where passwords were kept before there was a Vault
	Vault    Vault
}

// A Vault seals passwords to the nodes that may use them.
type Vault interface {
	Self() string                            // the ID of this node
	Find(node string) (id string, err error) // by name or ID
	Name(id string) string
	Settings(id string) settings.Store // of a node
	Seal(id, password string) ([]byte, error)
	Password(r settings.Remote) (string, error) // of a remote of this node
}

type api struct{ Config }

// SecretOf returns where the password of a remote was kept.
func SecretOf(remote string) string { return "remote/" + remote }

// Endpoints returns the endpoints.
func Endpoints(cfg Config) []rest.Endpoint {
	a := &api{cfg}
	get, post, put, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	const all, one, acl = "/config/remote", "/config/remote/{name}", "/remote/{name}"
	sees, changes := rest.Any(access.PrivRemoteAudit, acl), rest.Any(access.PrivRemoteModify, acl)
	reads := rest.Any(access.PrivRemoteRead, acl+"/{store}")
	return []rest.Endpoint{
		{Method: get, Path: all, Handle: a.list},
		{Method: post, Path: all, Need: rest.Any(access.PrivRemoteModify, "/remote"), Handle: a.add},
		{Method: get, Path: one, Need: sees, Handle: a.show},
		{Method: put, Path: one, Need: changes, Handle: a.change},
		{Method: del, Path: one, Need: changes, Handle: a.remove},
		{Method: put, Path: "/holdfast/remotes/{name}/share", Need: changes, Handle: a.share},
		{Method: get, Path: one + "/scan", Need: sees, Handle: a.scan},
		{Method: get, Path: one + "/scan/{store}/namespaces", Need: reads, Handle: a.namespaces},
		{Method: get, Path: one + "/scan/{store}/groups", Need: reads, Handle: a.groups},
	}
}

func withDigest(data any, digest string) rest.Answer {
	return rest.Answer{Data: data, Beside: map[string]any{"digest": digest}}
}

func optional(p *upgrade.Params, name string) string {
	if !p.Has(name) {
		return ""
	}
	return p.Text(name)
}

func nameOf(c *rest.Call) string { return upgrade.Parsed(c.Params, "name", upgrade.ParseStore) }

func noSuch(name string) error {
	return upgrade.Errorf(http.StatusBadRequest, "no such remote '%s'", name)
}

func (a *api) list(_ context.Context, c *rest.Call) (any, error) {
	all := a.Settings.State().Remotes
	list := []settings.Remote{}
	for _, r := range all {
		if c.May(access.PrivRemoteAudit, "remote", r.Name) {
			list = append(list, a.shown(r))
		}
	}
	return withDigest(list, settings.Digest(all)), nil
}

// shown is what may be seen of a remote: not its password, sealed or not. One that
// only this node may use is shown as a PBS shows it.
func (a *api) shown(r settings.Remote) settings.Remote {
	r.Sealed = nil
	if len(r.Nodes) < 2 {
		r.Nodes = nil
	}
	r.Nodes = slices.Clone(r.Nodes)
	for i, id := range r.Nodes {
		r.Nodes[i] = a.Vault.Name(id)
	}
	return r
}

func (a *api) find(c *rest.Call) (settings.Remote, *settings.State, error) {
	name, state := nameOf(c), a.Settings.State()
	if err := c.Err(); err != nil {
		return settings.Remote{}, nil, err
	}
	r, is := state.Remote(name)
	if !is {
		return r, state, noSuch(name)
	}
	return r, state, nil
}

func (a *api) show(_ context.Context, c *rest.Call) (any, error) {
	r, state, err := a.find(c)
	if err != nil {
		return nil, err
	}
	return withDigest(a.shown(r), settings.Digest(state.Remotes)), nil
}

// line reads text without control characters.
func line(text string) (string, error) {
	if text == "" || len(text) > 1024 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errors.New("value does not match the regex pattern")
	}
	return text, nil
}

func authID(text string) (string, error) { return text, naming.CheckAuthID(text) }

func fingerprint(text string) (string, error) {
	f, err := chunks.ParseFingerprint(text)
	return f.String(), err
}

// set sets what came, and takes back what is to be deleted.
func set(p *upgrade.Params, r *settings.Remote) {
	for _, name := range p.Texts("delete") {
		switch name {
		case "comment":
			r.Comment = ""
		case "fingerprint":
			r.Fingerprint = ""
		case "port":
			r.Port = 0
		default:
			p.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
	}
	for name, field := range map[string]*string{"host": &r.Host, "comment": &r.Comment} {
		if p.Has(name) {
			*field = upgrade.Parsed(p, name, line)
		}
	}
	if p.Has("auth-id") {
		r.AuthID = upgrade.Parsed(p, "auth-id", authID)
	}
	if p.Has("fingerprint") {
		r.Fingerprint = upgrade.Parsed(p, "fingerprint", fingerprint)
	}
	if p.Has("port") {
		r.Port = int(p.Int("port", 1, 65535))
	}
}

// check says what is wrong with a remote as a whole.
func check(r settings.Remote) error {
	_, err := dial(r, "x", "scan")
	if err != nil {
		return upgrade.Errorf(http.StatusBadRequest, "remote '%s': %v", r.Name, err)
	}
	return nil
}

// dial returns a client, which does not connect yet.
func dial(r settings.Remote, password, store string) (*client.Client, error) {
	return client.New(client.Config{
		Repository: client.Repository{User: r.AuthID, Host: r.Host, Port: uint16(r.Port), Store: store}, Password: password, Fingerprint: r.Fingerprint,
	})
}

func (a *api) add(ctx context.Context, c *rest.Call) (any, error) {
	r, digest := settings.Remote{Name: nameOf(c)}, optional(c.Params, "digest")
	set(c.Params, &r)
	for _, name := range []string{"host", "auth-id"} {
		if !c.Has(name) {
			c.Fail(name, "parameter is missing and it is not optional.")
		}
	}
	password := upgrade.Parsed(c.Params, "password", line)
	if err := c.Err(); err != nil {
		return nil, err
	}
	state := a.Settings.State()
	exists := upgrade.Errorf(http.StatusBadRequest, "parameter verification failed - 'name': remote '%s' already exists.", r.Name)
	if _, there := state.Remote(r.Name); there {
		return nil, exists
	}
	if err := errors.Join(settings.CheckDigest(state.Remotes, digest), check(r)); err != nil {
		return nil, err
	}
	var err error
	if r.Nodes, err = a.nodes(c, nil); err != nil {
		return nil, err
	}
	if r.Sealed, err = a.Vault.Seal(a.Vault.Self(), password); err != nil {
		return nil, err
	}
	err = a.Settings.Update(ctx, func(s *settings.State) error {
		if _, there := s.Remote(r.Name); there {
			return exists
		}
		s.Remotes = append(s.Remotes, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.told(r), a.give(ctx, r, password)
}

func (a *api) change(ctx context.Context, c *rest.Call) (any, error) {
	name, digest, password := nameOf(c), optional(c.Params, "digest"), ""
	set(c.Params, &settings.Remote{})
	if c.Has("password") {
		password = upgrade.Parsed(c.Params, "password", line)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	var sealed []byte
	if password != "" {
		var err error
		if sealed, err = a.Vault.Seal(a.Vault.Self(), password); err != nil {
			return nil, err
		}
	}
	var now settings.Remote
	err := a.Settings.Update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.Remotes, digest); err != nil {
			return err
		}
		for i := range s.Remotes {
			if r := &s.Remotes[i]; r.Name == name {
				set(c.Params, r)
				if sealed != nil {
					r.Sealed = sealed
				}
				now = *r
				return errors.Join(c.Err(), check(now))
			}
		}
		return noSuch(name)
	})
	if err != nil {
		return nil, err
	}
	return a.told(now), a.give(ctx, now, password)
}

// connect returns a client of a datastore of a remote, as the job that reads it.
func (a *api) connect(c *rest.Call, store string) (*client.Client, error) {
	r, _, err := a.find(c)
	if err != nil {
		return nil, err
	}
	password, err := a.Vault.Password(r)
	if err != nil {
		return nil, err
	}
	return dial(r, password, store)
}

// A scanned is a datastore of a remote.
type scanned struct {
	Store       string `json:"store"`
	Comment     string `json:"comment,omitempty"`
	Maintenance string `json:"maintenance,omitempty"`
}

func (a *api) scan(ctx context.Context, c *rest.Call) (any, error) {
	server, err := a.connect(c, "scan")
	if err != nil {
		return nil, err
	}
	defer server.Close()
	all, err := server.Stores(ctx)
	if err != nil {
		return nil, err
	}
	list := []scanned{}
	for _, s := range all {
		list = append(list, scanned{s.Name, s.Comment, s.Maintenance})
	}
	return list, nil
}

func (a *api) namespaces(ctx context.Context, c *rest.Call) (any, error) {
	store := c.Store()
	server, err := a.connect(c, store)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	all, err := server.Namespaces(ctx, "", naming.MaxDepth)
	if err != nil {
		return nil, err
	}
	type item struct {
		NS naming.Namespace `json:"ns"`
	}
	list := []item{}
	for _, ns := range all {
		list = append(list, item{ns})
	}
	return list, nil
}

func (a *api) groups(ctx context.Context, c *rest.Call) (any, error) {
	store, ns := c.Store(), naming.Namespace("")
	if c.Has("namespace") {
		ns = upgrade.Parsed(c.Params, "namespace", naming.ParseNamespace)
	}
	server, err := a.connect(c, store)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	all, err := server.Groups(ctx, ns)
	if all == nil {
		all = []client.Group{}
	}
	return all, err
}
