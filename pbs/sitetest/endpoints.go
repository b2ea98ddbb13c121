package sitetest

import (
	"context"
	"errors"
	"net/http"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// endpoints are those without which no client gets as far as a session.
func (s *Site) endpoints() []rest.Endpoint {
	return []rest.Endpoint{
		{Method: http.MethodPost, Path: "/access/ticket", Need: rest.World, Handle: s.ticket},
		{Method: http.MethodGet, Path: "/version", Handle: version},
		{Method: http.MethodGet, Path: "/admin/datastore/{store}/snapshots", Handle: s.snapshots},
	}
}

func (s *Site) ticket(ctx context.Context, c *rest.Call) (any, error) {
	l := access.Login{User: c.Text("username"), Password: c.Text("password"), Source: c.Request.RemoteAddr}
	if err := c.Err(); err != nil {
		return nil, err
	}
	t, err := s.Access.Login(ctx, l)
	if err != nil {
		return nil, err
	}
	return map[string]string{"username": string(t.User), "ticket": t.Text, "CSRFPreventionToken": t.CSRF}, nil
}

func version(context.Context, *rest.Call) (any, error) {
	return map[string]string{"version": "3.2", "release": "4", "repoid": "holdfast"}, nil
}

func (s *Site) snapshots(ctx context.Context, c *rest.Call) (any, error) {
	store, ns := c.Store(), c.Namespace()
	if err := c.Err(); err != nil {
		return nil, err
	}
	d, err := s.Stores.Get(store)
	if err != nil {
		return nil, err
	}
	if ok, err := d.HasNamespace(ns); err != nil || !ok {
		return nil, errors.Join(err, errors.New("ENOENT: No such file or directory"))
	}
	all, err := d.List(ctx, catalog.ListOptions{Namespace: ns})
	if err != nil {
		return nil, err
	}
	infos := []catalog.Info{}
	for _, i := range all {
		typ, id := c.Texts("backup-type"), c.Texts("backup-id")
		if (len(typ) == 0 || typ[0] == string(i.Type)) && (len(id) == 0 || id[0] == i.ID) {
			infos = append(infos, i)
		}
	}
	return infos, nil
}
