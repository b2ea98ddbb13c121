package client

import (
	"context"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

// trash returns a call about the trash of the datastore. Only Holdfast has one.
func (c *Client) trash(method string) wire.Request {
	return wire.Request{Method: method, Path: wire.Base + "/holdfast/datastore/" + c.cfg.Repository.Store + "/trash"}
}

// Trash lists the removed snapshots that can be taken back, newest removal
// first. It fails at a server that has no trash, as PBS has none.
func (c *Client) Trash(ctx context.Context) ([]catalog.Trashed, error) {
	all, err := wire.Call[[]catalog.Trashed](ctx, c.server, c.trash("GET"))
	if err == nil {
		err = c.checkNames(len(all), func(i int) error { return all[i].Snapshot.Check() })
	}
	return all, during("list the trash of "+c.cfg.Repository.Store, err)
}

// Undo takes a snapshot back from the trash.
func (c *Client) Undo(ctx context.Context, ns naming.Namespace, s naming.Snapshot) error {
	r := c.trash("POST")
	r.Body, r.Kind = []byte(of(ns, s).Encode()), wire.Form
	_, err := wire.Call[any](ctx, c.server, r)
	return during(fmt.Sprintf("take %s back from the trash", s), err)
}
