package client

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

// A Pruned says what became of one snapshot, or would in a dry run.
type Pruned struct {
	Namespace naming.Namespace `json:"ns"`
	Type      naming.Type      `json:"backup-type"`
	ID        string           `json:"backup-id"`
	Time      int64            `json:"backup-time"` // seconds since 1970
	Keep      bool             `json:"keep"`
	Protected bool             `json:"protected"`
}

// Snapshot returns which snapshot it is about.
func (p Pruned) Snapshot() naming.Snapshot {
	return naming.Snapshot{Group: naming.Group{Type: p.Type, ID: p.ID}, Time: p.Time}
}

// Prune deletes the snapshots of a group that keep does not keep, or says
// which, oldest first. PBS notes in a task's log what it could not delete, and
// does not fail. Without any rule all are kept.
func (c *Client) Prune(ctx context.Context, ns naming.Namespace, g naming.Group, keep retention.Keep, dryRun bool) ([]Pruned, error) {
	if err := keep.Check(); err != nil {
		return nil, err
	}
	r := c.request("POST", "prune", nil)
	r.Patient, r.Kind = true, wire.JSON
	r.Body = encode(struct {
		Type      naming.Type      `json:"backup-type"`
		ID        string           `json:"backup-id"`
		Namespace naming.Namespace `json:"ns,omitempty"`
		DryRun    bool             `json:"dry-run,omitempty"`
		retention.Keep
	}{g.Type, g.ID, ns, dryRun, keep})
	all, err := wire.Call[[]Pruned](ctx, c.server, r)
	if err == nil {
		err = c.checkNames(len(all), func(i int) error { return all[i].Snapshot().Check() })
	}
	return all, during(fmt.Sprintf("prune %s", g), err)
}

// GC starts a garbage collection and returns the UPID of its task, for
// [Client.Watch].
func (c *Client) GC(ctx context.Context) (upid string, err error) {
	upid, err = wire.Call[string](ctx, c.server, c.request("POST", "gc", nil))
	return upid, during("start garbage collection of "+c.cfg.Repository.Store, err)
}

// GCStatus returns what the last garbage collection found, as the server has
// it: its members differ between versions.
func (c *Client) GCStatus(ctx context.Context) (json.RawMessage, error) {
	s, err := wire.Call[json.RawMessage](ctx, c.server, c.request("GET", "gc", nil))
	return s, during("ask about garbage collection of "+c.cfg.Repository.Store, err)
}
