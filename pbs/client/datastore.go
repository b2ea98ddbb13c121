package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

// A Version is that of a server.
type Version struct {
	Version string `json:"version"` // "3.2"
	Release string `json:"release"` // "4"
	RepoID  string `json:"repoid"`  // of the build
}

// String returns "3.2.4".
func (v Version) String() string {
	if v.Release == "" {
		return v.Version
	}
	return v.Version + "." + v.Release
}

// Version returns the version of the server.
func (c *Client) Version(ctx context.Context) (Version, error) {
	v, err := wire.Call[Version](ctx, c.server, wire.Request{Method: "GET", Path: wire.Base + "/version"})
	return v, during("ask for the version", err)
}

// A Status says how full a datastore is, in bytes. All are zero for users that
// may not know.
type Status struct {
	Total uint64 `json:"total"`
	Used  uint64 `json:"used"`
	Avail uint64 `json:"avail"`
}

// Status returns how full the datastore is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	s, err := wire.Call[Status](ctx, c.server, c.request("GET", "status", nil))
	return s, during("ask for the status of "+c.cfg.Repository.Store, err)
}

// A Store is a datastore of the server.
type Store struct {
	Name        string `json:"store"`
	Comment     string `json:"comment"`
	Maintenance string `json:"maintenance"` // why it cannot be used now; "" if it can
}

// Stores lists the datastores that the user may see.
func (c *Client) Stores(ctx context.Context) ([]Store, error) {
	all, err := wire.Call[[]Store](ctx, c.server, wire.Request{Method: "GET", Path: wire.Base + "/admin/datastore"})
	return all, during("list the datastores", err)
}

// Namespaces lists the namespaces in parent, itself included, down to maxDepth
// levels below it; -1 means all.
func (c *Client) Namespaces(ctx context.Context, parent naming.Namespace, maxDepth int) ([]naming.Namespace, error) {
	q := url.Values{}
	if parent != "" {
		q.Set("parent", string(parent))
	}
	if maxDepth >= 0 {
		q.Set("max-depth", strconv.Itoa(min(maxDepth, naming.MaxDepth)))
	}
	items, err := wire.Call[[]struct {
		Namespace naming.Namespace `json:"ns"`
	}](ctx, c.server, c.request("GET", "namespace", q))
	if err != nil {
		return nil, during("list the namespaces", err)
	}
	all := make([]naming.Namespace, 0, len(items))
	for _, i := range items {
		all = append(all, i.Namespace)
	}
	return all, nil
}

// CreateNamespace creates a namespace, whose parent must exist. It is no error
// if it exists.
func (c *Client) CreateNamespace(ctx context.Context, ns naming.Namespace) error {
	parent, ok := ns.Parent()
	if !ok {
		return nil // the root is always there
	}
	parts := ns.Components()
	r := c.request("POST", "namespace", nil)
	r.Body, r.Kind = encode(map[string]string{"parent": string(parent), "name": parts[len(parts)-1]}), wire.JSON
	_, err := wire.Call[any](ctx, c.server, r)
	return during(fmt.Sprintf("create namespace %s", ns), err)
}

// DeleteNamespace deletes a namespace and those below it. Where groups are in
// them it fails, unless deleteGroups says that they go as well; protected
// snapshots stay then, and it fails in the end.
func (c *Client) DeleteNamespace(ctx context.Context, ns naming.Namespace, deleteGroups bool) error {
	q := url.Values{"ns": {string(ns)}}
	if deleteGroups {
		q.Set("delete-groups", "true")
	}
	r := c.request("DELETE", "namespace", q)
	r.Patient = true
	_, err := wire.Call[any](ctx, c.server, r)
	return during(fmt.Sprintf("delete namespace %s", ns), err)
}

// request returns a call that concerns the datastore.
func (c *Client) request(method, what string, q url.Values) wire.Request {
	return wire.Request{Method: method, Path: wire.Base + "/admin/datastore/" + c.cfg.Repository.Store + "/" + what, Query: q}
}

// during says what an error hindered.
func during(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// encode returns v as JSON for the body of a request. What is passed always
// has one.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("client: no JSON of %T: %v", v, err))
	}
	return text
}
