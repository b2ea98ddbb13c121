package content

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// GC is how the garbage collection of a datastore stands: what the last one
// did, and when the next one begins (§7.3).
type GC struct {
	stores.GCStatus
	Store    string `json:"store"`
	Schedule string `json:"schedule,omitempty"`
	NextRun  int64  `json:"next-run,omitempty"`
	LastEnd  int64  `json:"last-run-endtime,omitempty"`
	LastRun  string `json:"last-run-state,omitempty"`
	Duration *int64 `json:"duration,omitempty"` // of the last run in seconds
}

// GCOf returns how the garbage collection of a datastore stands.
func GCOf(set *stores.Set, store string) (GC, error) {
	status, err := set.GCStatus(store)
	if err != nil {
		return GC{}, err
	}
	g := GC{GCStatus: status, Store: store}
	sched, err := set.GCSchedule(store)
	if err != nil {
		return g, nil // it has just been made
	}
	g.Schedule = sched.Event
	if !sched.Next.IsZero() {
		g.NextRun = sched.Next.Unix()
	}
	if sched.Last != nil && !sched.End.IsZero() {
		g.LastEnd, g.LastRun = sched.End.Unix(), sched.State
		took := int64(sched.End.Sub(sched.Last.Time()) / time.Second)
		g.Duration = &took
	}
	return g, nil
}

func (a *api) gcStatus(_ context.Context, c *rest.Call) (any, error) {
	store := c.Store()
	if err := c.Err(); err != nil {
		return nil, err
	}
	g, err := GCOf(a.Stores, store)
	return g, err
}

func (a *api) startGC(_ context.Context, c *rest.Call) (any, error) {
	store := c.Store()
	if err := c.Err(); err != nil {
		return nil, err
	}
	u, err := a.Stores.StartGC(store, string(c.Who))
	return u, err
}

// verify begins to verify a snapshot, a group or a namespace.
func (a *api) verify(_ context.Context, c *rest.Call) (any, error) {
	store := c.Store()
	v := stores.Verify{Namespace: c.Namespace(), MaxDepth: maxDepth(c.Params)}
	v.IgnoreVerified = !c.Has("ignore-verified") || c.Bool("ignore-verified")
	if c.Has("outdated-after") {
		v.OutdatedAfter = int(c.Int("outdated-after", 0, math.MaxInt32))
	}
	if c.Has("verify-threads") {
		v.Threads = int(c.Int("verify-threads", 1, 32))
	}
	typ, id, at := c.Has("backup-type"), c.Has("backup-id"), c.Has("backup-time")
	switch {
	case typ && id && at:
		s := c.Snapshot()
		v.Snapshot = &s
	case typ && id:
		g := c.Group()
		v.Group = &g
	}
	w, err := a.enter(c, store, v.Namespace, verify, backup, false)
	if err != nil {
		return nil, err
	}
	defer w.done()
	switch {
	case v.Snapshot != nil:
		err = w.owns(v.Snapshot.Group)
	case v.Group != nil:
		err = w.owns(*v.Group)
	case typ || id || at:
		err = errors.New("parameters do not specify a backup group or snapshot")
	default:
		v.Only = chosen(c, w, verify, backup)
	}
	if err != nil {
		return nil, err
	}
	u, err := a.Stores.StartVerify(store, string(c.Who), v)
	return u, err
}

// chosen tells which groups of which namespaces the caller may work on: those
// where a privilege for all holds, and his own where he has the other.
func chosen(c *rest.Call, v *view, all, owned access.Privilege) func(catalog.Namespace, catalog.Group) bool {
	store, d := v.store, v.Datastore
	return func(ns catalog.Namespace, g catalog.Group) bool {
		switch {
		case c.May(all, "datastore", store, string(ns)):
			return true
		case !c.May(owned, "datastore", store, string(ns)):
			return false
		}
		owner, err := d.Owner(ns, g)
		return err == nil && c.Who.Owns(access.AuthID(owner))
	}
}

func maxDepth(p *upgrade.Params) *int {
	return upgrade.Maybe(p, "max-depth", func(name string) int { return int(p.Int(name, 0, naming.MaxDepth)) })
}

// A prunedItem is what becomes of a snapshot.
type prunedItem struct {
	Type      naming.Type `json:"backup-type"`
	ID        string      `json:"backup-id"`
	Time      int64       `json:"backup-time"`
	Keep      bool        `json:"keep"`
	Protected bool        `json:"protected"`
}

// Keep reads the options that say how many backups are kept.
func Keep(p *upgrade.Params) (k catalog.Keep) {
	for name, field := range map[string]*int{
		"keep-last": &k.Last, "keep-hourly": &k.Hourly, "keep-daily": &k.Daily,
		"keep-weekly": &k.Weekly, "keep-monthly": &k.Monthly, "keep-yearly": &k.Yearly,
	} {
		if p.Has(name) {
			*field = int(p.Int(name, 1, math.MaxInt32))
		}
	}
	return k
}

// prune prunes a group, at once or as a task.
func (a *api) prune(ctx context.Context, c *rest.Call) (any, error) {
	store, ns, g := c.Store(), c.Namespace(), c.Group()
	p := stores.Prune{Namespace: ns, Group: &g, Keep: Keep(c.Params), DryRun: c.Bool("dry-run")}
	task := c.Bool("use-task")
	v, err := a.enterGroup(c, store, ns, g, modify, prune, !p.DryRun)
	if err != nil {
		return nil, err
	}
	defer v.done()
	if there, err := v.Snapshots(ctx, ns, g); err != nil || len(there) == 0 {
		if _, err := v.Owner(ns, g); err != nil {
			return nil, missing(err)
		}
	}
	if task {
		u, err := a.Stores.StartPrune(store, string(c.Who), p)
		return u, err
	}
	list, err := a.Stores.Prune(ctx, store, string(c.Who), p)
	if err != nil {
		return nil, err
	}
	items := make([]prunedItem, len(list))
	for i, r := range list {
		items[i] = prunedItem{r.Type, r.ID, r.Time, r.Keep, r.Protected}
	}
	return items, nil
}

// pruneDatastore begins to prune the groups of a namespace.
func (a *api) pruneDatastore(_ context.Context, c *rest.Call) (any, error) {
	store := c.Store()
	p := stores.Prune{Namespace: c.Namespace(), MaxDepth: maxDepth(c.Params), Keep: Keep(c.Params), DryRun: c.Bool("dry-run")}
	v, err := a.enter(c, store, p.Namespace, modify, prune, !p.DryRun)
	if err != nil {
		return nil, err
	}
	defer v.done()
	p.Only = chosen(c, v, modify, prune)
	u, err := a.Stores.StartPrune(store, string(c.Who), p)
	return u, err
}
