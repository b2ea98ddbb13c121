package pulls

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/mesh/record"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/vouch"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// An Origin is where a client sent a snapshot to.
type Origin struct {
	Node  string // ID
	Store string
	Snap  wire.Snapshot // as it is called there
}

// sums are what signs and checks what encrypted chunks are, by datastore.
type sums struct {
	mu      sync.Mutex
	keepers map[string]kept
	todo    map[group]bool // groups of which something has changed
	wake    chan struct{}
}

type kept struct {
	of *catalog.Datastore
	*vouch.Keeper
}

// A group is one of a datastore.
type group struct {
	store string
	ns    naming.Namespace
	group naming.Group
}

// keeper returns the signed sums of a datastore, nil if this node has no key.
func (p *Pulls) keeper(name string, d *catalog.Datastore) *vouch.Keeper {
	if p.cfg.Key == nil || p.cfg.Origins == nil {
		return nil
	}
	p.sums.mu.Lock()
	defer p.sums.mu.Unlock()
	if k := p.sums.keepers[name]; k.of == d {
		return k.Keeper
	}
	k, err := vouch.New(vouch.Config{Local: d, Key: p.cfg.Key, Believe: p.believe, Log: p.cfg.Log})
	if err != nil {
		p.cfg.Log.Warn("nothing is signed of a datastore", "store", name, "err", err)
		return nil
	}
	p.sums.keepers[name] = kept{d, k}
	return k
}

// origins are the nodes to which a client sent the snapshot with a manifest.
func (p *Pulls) origins(m *manifest.Manifest) ([]Origin, error) {
	text, err := m.Canonical()
	if err != nil {
		return nil, err
	}
	return p.cfg.Origins(sha256.Sum256(text)), nil
}

var errNotOrigin = errors.New("who signed it is not known as the node that a client sent the snapshot to")

// believe says why the node with a key is not the origin of a snapshot.
func (p *Pulls) believe(key [32]byte, m *manifest.Manifest) error {
	all, err := p.origins(m)
	if err != nil {
		return err
	}
	if id := record.Key(key).NodeID(); !slices.ContainsFunc(all, func(o Origin) bool { return o.Node == id }) {
		return errNotOrigin
	}
	return nil
}

// vouched returns the signed sums that go along with a snapshot which another
// node pulls. A snapshot that came from another node has those of its origin, or
// none.
func (p *Pulls) vouched(ctx context.Context, store string, ns naming.Namespace, s naming.Snapshot) ([]vouch.File, error) {
	d, done, err := p.cfg.Stores.Use(store, false)
	if err != nil {
		return nil, err
	}
	defer done()
	k := p.keeper(store, d)
	if k == nil {
		return nil, nil
	}
	m, err := d.Manifest(ns, s)
	if err != nil || !slices.ContainsFunc(m.Files, vouch.Needs) {
		return nil, err
	}
	all, err := p.origins(m)
	if err != nil {
		return nil, err
	}
	if len(all) > 0 && !slices.ContainsFunc(all, func(o Origin) bool { return o.Node == p.cfg.Self }) {
		return nil, nil
	}
	return k.Files(ctx, ns, s)
}

// The feed that tells of a new snapshot may be on its way: while a snapshot is young,
// its origin is waited for.
const (
	young     = 2 * time.Minute
	hearing   = 15 * time.Second
	hearEvery = 250 * time.Millisecond
)

// awaitOrigins is origins that waits a while for those of a snapshot which was made
// just now.
func (p *Pulls) awaitOrigins(ctx context.Context, m *manifest.Manifest) (all []Origin, err error) {
	began := time.Now()
	for {
		all, err = p.origins(m)
		if err != nil || len(all) > 0 || time.Since(began) >= hearing || time.Since(time.Unix(m.Snapshot().Time, 0)) > young {
			return all, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(hearEvery):
		}
	}
}

// askOrigin returns what the origin of a snapshot signs, when who gave the
// snapshot had nothing that counts. known is false if no node of the cluster is
// the origin: it was removed, or the snapshot is from before there were feeds.
func (p *Pulls) askOrigin(ctx context.Context, m *manifest.Manifest) (files []vouch.File, known bool, err error) {
	all, err := p.awaitOrigins(ctx, m)
	if err != nil || len(all) == 0 {
		return nil, false, err
	}
	for _, o := range all {
		if o.Node == p.cfg.Self {
			var list []vouch.File
			if list, err = p.vouched(ctx, o.Store, o.Snap.Namespace, o.Snap.Snapshot); err == nil && len(list) > 0 {
				return list, true, nil
			}
			continue
		}
		node, is := p.cfg.Member(o.Node)
		if !is {
			continue
		}
		c, cerr := p.client(node, o.Store, p.in)
		if cerr != nil {
			return nil, true, cerr
		}
		err = c.Files(ctx, []wire.Snapshot{o.Snap}, func(_ int, all []wire.File) error {
			for _, f := range all {
				if vouch.Is(f.Name) {
					files = append(files, vouch.File{Name: f.Name, Blob: f.Data})
				}
			}
			return nil
		})
		c.Close()
		if err == nil && len(files) > 0 {
			return files, true, nil
		}
		err = fmt.Errorf("%s, where a client sent it, has signed nothing: %w", node.Name, errors.Join(err, vouch.ErrUnsigned))
	}
	return nil, true, err
}

// Changed says that a snapshot of a group has come, has gone, or was verified: of
// the newest one that a client sent here, what its chunks are is signed, so that
// nobody who pulls it has to wait for that.
func (p *Pulls) Changed(store string, ns naming.Namespace, g naming.Group) {
	if p.cfg.Key == nil || len(p.cfg.Members()) < 2 {
		return
	}
	p.sums.mu.Lock()
	p.sums.todo[group{store, ns, g}] = true
	p.sums.mu.Unlock()
	select {
	case p.sums.wake <- struct{}{}:
	default:
	}
}

// sign signs what has come, until ctx is done, and every day what was here before.
func (p *Pulls) sign(ctx context.Context) error {
	next := time.NewTimer(healFirst)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.sums.wake:
			p.signNew(ctx)
		case <-next.C:
			p.signOld(ctx)
			next.Reset(healEvery)
		}
	}
}

// signNew signs what has come.
func (p *Pulls) signNew(ctx context.Context) {
	p.sums.mu.Lock()
	todo := p.sums.todo
	p.sums.todo = map[group]bool{}
	p.sums.mu.Unlock()
	for g := range todo {
		if err := p.signNewest(ctx, g); err != nil && ctx.Err() == nil {
			p.cfg.Log.Debug("what the chunks of a snapshot are is signed when somebody pulls it", "store", g.store, "group", g.group, "err", err)
		}
	}
}

// signOld signs what is here of clients and was never signed, as of the time before
// this node had others: the oldest of each group first, since the next ones share
// most chunks with it. It leaves the disk to others for half of the time.
func (p *Pulls) signOld(ctx context.Context) {
	if p.cfg.Key == nil || len(p.cfg.Members()) < 2 {
		return
	}
	for _, s := range p.cfg.Settings.State().Datastores {
		all, err := p.list(ctx, s.Name)
		if err != nil {
			continue // it is not in service
		}
		slices.SortFunc(all, func(a, b catalog.Info) int { return cmp.Compare(a.Time, b.Time) })
		for _, i := range all {
			began := time.Now()
			if _, err := p.vouched(ctx, s.Name, i.Namespace, i.Snapshot()); err != nil && ctx.Err() == nil {
				p.cfg.Log.Debug("what the chunks of a snapshot are is signed when somebody pulls it", "store", s.Name, "snapshot", i.Snapshot(), "err", err)
			}
			p.signNew(ctx) // nobody waits for what is old
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Since(began)):
			}
		}
	}
}

func (p *Pulls) list(ctx context.Context, store string) ([]catalog.Info, error) {
	d, done, err := p.cfg.Stores.Use(store, false)
	if err != nil {
		return nil, err
	}
	defer done()
	return d.List(ctx, catalog.ListOptions{Depth: -1})
}

func (p *Pulls) signNewest(ctx context.Context, g group) error {
	d, done, err := p.cfg.Stores.Use(g.store, false)
	if err != nil {
		return err
	}
	defer done()
	list, err := d.Snapshots(ctx, g.ns, g.group)
	if err != nil || len(list) == 0 {
		return err
	}
	_, err = p.vouched(ctx, g.store, g.ns, list[0]) // newest first
	return err
}

// sweep removes what was signed of snapshots that are gone, and what jobs have left
// that are.
func (p *Pulls) sweep(ctx context.Context, store string) {
	d, done, err := p.cfg.Stores.Use(store, true)
	if err != nil {
		return
	}
	defer done()
	p.tidy(store, d)
	if k := p.keeper(store, d); k != nil {
		if _, err := k.Sweep(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Log.Warn("signed sums of snapshots that are gone stay", "store", store, "err", err)
		}
	}
}

// prove has a pull check what encrypted chunks are, and tells where its snapshots
// come from.
func (p *Pulls) prove(c *replication.Config, j settings.SyncJob, m Member, d *catalog.Datastore) {
	if k := p.keeper(j.Store, d); k != nil {
		c.Sums, c.Origin = k, p.askOrigin
	}
	if p.cfg.Pulled != nil && m.ID != "" {
		c.Pulled = func(ns naming.Namespace, s naming.Snapshot) { p.cfg.Pulled(j.Store, ns, s, m.ID) }
	}
}
