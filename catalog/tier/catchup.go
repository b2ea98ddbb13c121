package tier

import (
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog"
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
	now := map[string]told.File{}
	came, err := t.bringBack(ctx, now, func(name string) bool { _, had := before[name]; return !had })
	if err != nil {
		return err
	}
	if came > 0 {
		t.unnamed = nil
		t.cfg.Log.Warn("the disk of this datastore is older than its bucket: snapshots that it did not know were read from there", "snapshots", came)
	}
	if t.store.Stats().Doubt != "" { // there may be more
		return nil
	}
	return t.reconcile(before, now)
}

// bringBack writes files of the bucket that are wanted and not here, manifests last:
// with one, a snapshot is there. It returns how many of these came, and puts all files
// into now that the next root does not forget.
func (t *Tier) bringBack(ctx context.Context, now map[string]told.File, wanted func(name string) bool) (snapshots int, err error) {
	var r Refreshed
	manifests := map[string][]byte{}
	err = t.store.EachFile(ctx, func(name string, content []byte) error {
		if !filename.Belong(name) || t.drops(name) {
			return ctx.Err()
		}
		now[name] = told.Of(content)
		switch {
		case !wanted(name):
			return ctx.Err()
		case path.Base(name) == filename.Manifest:
			manifests[name] = content
			return nil
		}
		return t.bring(name, content, nil, &r)
	})
	before := r.Written
	for name, content := range manifests {
		if err == nil {
			err = t.bring(name, content, nil, &r)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("read snapshots from the bucket: %w", err)
	}
	return r.Written - before, nil
}

// Forgets implements what [catalog.Above] says of it.
func (t *Tier) Forgets(ns catalog.Namespace, s catalog.Snapshot) error { return t.forgotten.Add(ns, s) }

// complete makes sure that all snapshots are here before chunks are collected that none
// needs: why says why the bucket cannot be asked for those that are gone, if it cannot.
func (t *Tier) complete(ctx context.Context, why error, dry bool) error {
	if why == nil && !dry {
		_, err := t.mirror(ctx)
		return err
	}
	m, err := t.newMirror(ctx)
	if err != nil {
		return err
	}
	m.Put = func(string, []byte) error { return nil }
	m.Remove = func(string) error { return nil }
	m.Arrived = func(context.Context, catalog.Namespace, catalog.Snapshot, []string) (bool, error) { return false, nil }
	if err := m.Run(ctx); err != nil || len(m.Lost) == 0 || dry {
		return err
	}
	return fmt.Errorf("%d files of snapshots are gone from the disk, %s first, and the bucket cannot be asked for them: nothing is collected: %w", len(m.Lost), m.Lost[0], why)
}

// restore brings back files that are gone from the disk, and that nobody removed.
func (t *Tier) restore(ctx context.Context, lost []string) error {
	came, err := t.bringBack(ctx, map[string]told.File{}, func(name string) bool { _, is := slices.BinarySearch(lost, name); return is })
	if err == nil {
		t.unnamed = nil
		t.cfg.Log.Warn("files of snapshots were gone from the disk, and nobody had removed them: they were read from the bucket", "files", len(lost), "snapshots", came, "first", lost[0])
	}
	return err
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
