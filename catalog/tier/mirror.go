package tier

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier/mirror"
	"github.com/holdfast-mesh/holdfast/catalog/tier/told"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/staging"
)

// Mirrored says what an offload did with the files of snapshots.
type Mirrored = mirror.Result

const mirrorFile = "mirror.json"

// newMirror is one that tells the bucket.
func (t *Tier) newMirror(ctx context.Context) (*mirror.Walk, error) {
	all, err := t.readTold(ctx)
	return &mirror.Walk{
		Tree: t.d.Tree, Told: all, Put: t.store.PutFile, Remove: t.store.RemoveFile, Forgotten: &t.forgotten, Log: t.cfg.Log,
		Arrived: func(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot, names []string) (bool, error) {
			return t.arrived(ctx, ns, s, names, nil)
		},
	}, err
}

// mirror tells the bucket what changed in the files of snapshots. It compares
// everything each time, so whatever was missed is found the next time. The
// caller holds work.
func (t *Tier) mirror(ctx context.Context) (Mirrored, error) {
	m, err := t.newMirror(ctx)
	if err != nil {
		return Mirrored{}, err
	}
	missing := map[chunks.Digest]bool{}
	m.Arrived = func(_ context.Context, ns catalog.Namespace, s catalog.Snapshot, names []string) (bool, error) {
		return t.arrived(ctx, ns, s, names, missing)
	}
	err = m.Run(ctx)
	for _, name := range m.Added {
		t.fresh[name] = true
	}
	if err == nil {
		err = t.exhume(ctx, missing)
		m.Result.Nowhere = len(missing)
		t.mu.Lock()
		t.nowhere = len(missing)
		t.mu.Unlock()
	}
	if len(m.Lost) > 0 && err == nil {
		err = t.restore(ctx, m.Lost)
	}
	if m.Dirty {
		err = errors.Join(err, t.saveTold(m.Told))
	}
	if err != nil {
		return m.Result, err
	}
	return m.Result, m.Done()
}

// arrived reports whether the bucket has every chunk of a snapshot. Those that are
// neither there nor on the disk go to missing, if that is not nil.
func (t *Tier) arrived(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot, names []string, missing map[chunks.Digest]bool) (bool, error) {
	there := true
	for _, name := range names {
		if !strings.HasSuffix(name, ".fidx") && !strings.HasSuffix(name, ".didx") {
			continue
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		x, err := t.d.Tree.ReadIndex(ns, s, name)
		if err != nil {
			t.cfg.Log.Warn("snapshot stays out of the bucket: an index cannot be read", "snapshot", path.Join(ns.Path(), s.Path()), "err", err)
			return false, nil
		}
		for _, d := range x.All() {
			switch {
			case t.store.Confirmed(d):
			case missing == nil:
				return false, nil
			case t.store.Local().Known(d):
				there = false
			default:
				there, missing[d] = false, true
			}
		}
	}
	return there, nil
}

// exhume stores anew what snapshots need that wait to be told of, and that another owner
// of the bucket named as dead in between, not knowing them: what the cache has still,
// and what is in packs that are dead. What is in none of them is lost, which is said
// once for each root. It leaves that in missing.
func (t *Tier) exhume(ctx context.Context, missing map[chunks.Digest]bool) error {
	kept, err := staging.Keep(ctx, t.cache, t.store.Local(), missing)
	if err != nil {
		return fmt.Errorf("keep what the cache has: %w", err)
	}
	if kept > 0 {
		t.cfg.Log.Warn("chunks that snapshots here need were on this machine only, in the cache, and are kept", "chunks", kept)
	}
	n, root := len(missing), t.store.Newest().Seq
	if n == 0 || t.sought == (search{root, n}) {
		return nil
	}
	if err := t.store.Exhume(ctx, missing); err != nil {
		return fmt.Errorf("look for chunks in dead packs: %w", err)
	}
	if t.sought = (search{root, len(missing)}); n > len(missing) {
		t.cfg.Log.Warn("chunks that snapshots here need were in dead packs of the bucket only, and are kept", "chunks", n-len(missing))
	}
	if len(missing) > 0 {
		t.cfg.Log.Error("chunks of snapshots that the bucket was not told of are neither on the disk nor in the bucket: back these up again", "chunks", len(missing))
	}
	return nil
}

// A search is of so many chunks, among what a root names as dead.
type search struct {
	root   layout.Seq
	chunks int
}

// readTold returns what the bucket was told of; if that is lost, what it has.
func (t *Tier) readTold(ctx context.Context) (map[string]told.File, error) {
	all, err := told.Read(t.cfg.FS, t.cfg.at(mirrorFile))
	if all != nil || err != nil {
		return all, err
	}
	all = map[string]told.File{}
	err = t.store.EachFile(ctx, func(name string, content []byte) error {
		all[name] = told.Of(content)
		return nil
	})
	return all, err
}

func (t *Tier) saveTold(all map[string]told.File) error {
	return told.Save(t.cfg.FS, t.cfg.at(mirrorFile), all)
}
