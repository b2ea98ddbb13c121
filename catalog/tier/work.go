package tier

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/tier/order"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// Requests are those that a piece of work made, by class, as far as nothing else
// used the same account meanwhile.
type Requests map[string]int64

// Counting returns what tells the requests made since it was called.
func (t *Tier) Counting() func() Requests {
	before := t.cfg.Bucket.Account().Stats().Requests
	return func() Requests {
		made := Requests{}
		for class, n := range t.cfg.Bucket.Account().Stats().Requests {
			if n > before[class] {
				made[class] = n - before[class]
			}
		}
		return made
	}
}

// OffloadOptions say what goes to the bucket.
type OffloadOptions struct {
	After    time.Duration // only what has been on the disk for so long; 0: everything
	relieve  bool          // the disk is full: chunks of backups in the making leave it too
	Progress func(cloud.OffloadReport)
}

// An OffloadReport says what an offload did.
type OffloadReport struct {
	cloud.OffloadReport
	Mirror   Mirrored `json:"snapshots"`
	Requests Requests `json:"requests"`
}

// Offload moves chunks that are old enough to the bucket, and then the files of
// snapshots whose chunks are all there. Only when the bucket has confirmed these do
// their chunks leave the disk: see settle.go. It may be cut off at any moment.
func (t *Tier) Offload(ctx context.Context, opt OffloadOptions) (r OffloadReport, err error) {
	t.work.Lock()
	defer t.work.Unlock()
	made := t.Counting()
	defer func() { r.Requests = made(); t.ended(err) }()
	if err := t.own(ctx); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.noted()) }()
	// What was removed goes before packs that it needed are named as dead.
	before, err := t.mirror(ctx)
	if err != nil {
		return r, err
	}
	sorted := func(ctx context.Context, all []pack.Entry) error { return order.Sort(ctx, t.d.Tree, all) }
	r.OffloadReport, err = t.store.Offload(ctx, cloud.OffloadOptions{
		After: opt.After, Order: sorted, Switchover: t.d.Collector().Relocate, Progress: opt.Progress,
	})
	if err != nil {
		return r, err
	}
	if r.Mirror, err = t.mirror(ctx); err != nil {
		return r, err
	}
	r.Mirror.Added, r.Mirror.Written, r.Mirror.Removed = r.Mirror.Added+before.Added, r.Mirror.Written+before.Written, r.Mirror.Removed+before.Removed
	if err = t.store.Flush(ctx, t.d.Collector().Relocate); err == nil {
		r.Evicted, err = t.settle(ctx, opt.relieve)
	}
	r.Root = t.store.Stats().Root
	return r, err
}

// A CollectReport says what a garbage collection did.
type CollectReport struct {
	gc.Report
	Deleted  int      `json:"deleted-objects"`
	Requests Requests `json:"requests"`
}

// Collect collects garbage here and in the bucket. While the bucket cannot be
// reached, only what is here is collected, and that is an error.
func (t *Tier) Collect(ctx context.Context, opt gc.Options) (r CollectReport, err error) {
	t.work.Lock()
	defer t.work.Unlock()
	made := t.Counting()
	defer func() { r.Requests = made(); t.ended(err) }()
	owned := t.own(ctx)
	switch {
	case owned == nil:
		defer func() { err = errors.Join(err, t.noted()) }()
	case t.older(): // what it has would be taken for garbage
		return r, owned
	}
	if err := t.complete(ctx, owned, opt.DryRun); err != nil {
		return r, err
	}
	if !opt.DryRun { // what cannot be made sure of stays
		owned = cmp.Or(owned, t.store.Secure(ctx))
	}
	if r.Report, err = t.d.Collect(ctx, opt); err != nil || opt.DryRun {
		return r, err
	}
	if owned != nil {
		return r, owned
	}
	if _, err := t.mirror(ctx); err != nil {
		return r, err
	}
	r.Deleted, err = t.store.Sweep(ctx)
	return r, err
}

// Rescue stores anew what this machine still has of packs that are lost, or dead packs of
// the bucket have. It asks nothing if none is known to be.
func (t *Tier) Rescue(ctx context.Context) (err error) {
	if t.Stats().Lost == 0 || t.Writable() != nil {
		return nil
	}
	t.work.Lock()
	defer t.work.Unlock()
	defer func() { t.disown(err) }()
	if err := t.own(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.noted()) }()
	return t.store.Secure(ctx)
}

// Audit compares the bucket with what should be in it, and removes what nothing
// names. See [cloud.Store.Audit].
func (t *Tier) Audit(ctx context.Context) (r cloud.AuditReport, made Requests, err error) {
	t.work.Lock()
	defer t.work.Unlock()
	count := t.Counting()
	defer func() { made = count(); t.ended(err) }()
	if err := t.own(ctx); err != nil {
		return r, nil, err
	}
	defer func() { err = errors.Join(err, t.noted()) }()
	if err := t.store.GoOn(ctx, true); err != nil { // index objects are written anew, if packs have said all
		return r, nil, err
	}
	r, err = t.store.Audit(ctx, cloud.AuditOptions{DeleteOrphans: true})
	return r, nil, err
}
