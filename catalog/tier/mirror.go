package tier

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier/mirror"
	"github.com/holdfast-mesh/holdfast/catalog/tier/told"
)

// Mirrored says what an offload did with the files of snapshots.
type Mirrored = mirror.Result

const mirrorFile = "mirror.json"

// newMirror is one that tells the bucket.
func (t *Tier) newMirror(ctx context.Context) (*mirror.Walk, error) {
	all, err := t.readTold(ctx)
	return &mirror.Walk{
		Tree: t.d.Tree, Told: all, Put: t.store.PutFile, Remove: t.store.RemoveFile, Arrived: t.arrived, Forgotten: &t.forgotten, Log: t.cfg.Log,
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
	err = m.Run(ctx)
	for _, name := range m.Added {
		t.fresh[name] = true
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

// arrived reports whether the bucket has every chunk of a snapshot.
func (t *Tier) arrived(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot, names []string) (bool, error) {
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
			if !t.store.Confirmed(d) {
				return false, nil
			}
		}
	}
	return true, nil
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
