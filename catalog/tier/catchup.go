package tier

import (
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog/tier/filename"
	"github.com/holdfast-mesh/holdfast/catalog/tier/told"
)

// adds reports whether the next root names a file.
func (t *Tier) adds(name string) bool {
	keep, _ := t.store.Pending().Waits(name)
	return keep
}

// drops reports whether the next root forgets a file.
func (t *Tier) drops(name string) bool {
	keep, waits := t.store.Pending().Waits(name)
	return waits && !keep
}

// noted notes that the files here are those of the newest root that is known, which
// is ours or was read, unless not all of it could be read. The caller holds work.
func (t *Tier) noted() error {
	if t.store.Stats().Doubt != "" {
		return nil
	}
	newest := t.store.Newest().Seq
	t.mu.Lock()
	same := t.state.Root == newest
	t.state.Root, t.caught = newest, true
	t.mu.Unlock()
	if same {
		return nil
	}
	return t.saveState()
}

// older reports whether the bucket has a root of which the files here are not, as far
// as is known, or what it was told of is not known for sure.
func (t *Tier) older() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.Root.Less(t.store.Newest().Seq) || !t.caught && t.store.Pending().Lost() > 0
}

// catchUp brings snapshots here that the bucket has and this disk never had: it was
// put back to an older state, and what the node has told the bucket since is in
// newer roots only. Without it a collection takes their chunks for garbage. What was
// removed here since the bucket was told of it stays removed, and of what the bucket
// has no more it is told again. The caller holds work.
func (t *Tier) catchUp(ctx context.Context) error {
	before, err := told.Read(t.cfg.FS, t.cfg.at(mirrorFile))
	if err != nil {
		return err
	}
	if before != nil && !t.older() {
		return nil
	}
	now, manifests := map[string]told.File{}, map[string][]byte{}
	var r Refreshed
	err = t.store.EachFile(ctx, func(name string, content []byte) error {
		if _, had := before[name]; !filename.Belong(name) || t.drops(name) {
			return ctx.Err()
		} else if now[name] = told.Of(content); had {
			return ctx.Err()
		}
		if path.Base(name) == filename.Manifest {
			manifests[name] = content
			return nil
		}
		return t.bring(name, content, before, &r)
	})
	if err != nil {
		return fmt.Errorf("read which snapshots the bucket has: %w", err)
	}
	written := r.Written
	for name, content := range manifests { // last: with it, a snapshot is there
		if err := t.bring(name, content, before, &r); err != nil {
			return err
		}
	}
	if came := r.Written - written; came > 0 {
		t.unnamed = nil
		t.cfg.Log.Warn("the disk of this datastore is older than its bucket: snapshots that it did not know were read from there", "snapshots", came)
	}
	if t.store.Stats().Doubt != "" { // there may be more
		return nil
	}
	return t.reconcile(before, now)
}

// reconcile notes what the bucket was told of: what it has now, and not what it has no
// more, unless that is on its way.
func (t *Tier) reconcile(before, now map[string]told.File) error {
	var again []string
	for name, is := range before {
		if _, has := now[name]; has || t.adds(name) {
			now[name] = is
		} else if path.Base(name) == filename.Manifest && !t.drops(name) {
			again = append(again, name)
		}
	}
	if len(again) > 0 {
		slices.Sort(again)
		t.cfg.Log.Warn("the bucket does not have snapshots any more of which it had been told; it is told again, if their chunks are there", "snapshots", len(again), "first", path.Dir(again[0]))
	}
	if err := t.saveTold(now); err != nil {
		return err
	}
	return t.noted()
}
