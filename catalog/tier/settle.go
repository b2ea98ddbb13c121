package tier

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier/filename"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A chunk leaves the disk only when a root that counts names a snapshot which needs it.
// Its pack has been named by a root before that one; whoever takes the bucket over
// between the two does not have the snapshot, and collects the chunk as garbage. The
// copy here is then the only one.
//
// Whether the disk still has a chunk is asked of it, and nothing else remembers what
// has not left: a crash changes nothing, and the next offload goes on.

// settle takes off the disk what may go by now. The caller holds work, and the bucket
// has confirmed all that it was told.
func (t *Tier) settle(ctx context.Context, relieve bool) (int, error) {
	n, err := t.store.Settle(ctx, t.named, t.d.Collector().Relocate)
	if err != nil || !relieve || !errors.Is(t.d.Room(), chunks.ErrNoSpace) {
		return n, err
	}
	if err := t.ahead(true); err != nil { // before any of them goes
		return n, err
	}
	more, err := t.store.Settle(ctx, t.unclaimed, t.d.Collector().Relocate)
	return n + more, err
}

func (t *Tier) ahead(is bool) error {
	t.mu.Lock()
	was := t.state.Ahead
	t.state.Ahead = is
	t.mu.Unlock()
	if was == is {
		return nil
	}
	return t.saveState()
}

// Relieve implements [catalog.Above]: everything goes to the bucket, and if that is not
// enough, chunks that no snapshot needs yet leave the disk as well. See Finished.
func (t *Tier) Relieve(ctx context.Context) error {
	_, err := t.Offload(ctx, OffloadOptions{relieve: true})
	return err
}

// Finished is called when a snapshot is whole, and not acknowledged yet. If chunks left
// the disk before their snapshots were there, the bucket is told of the snapshot now:
// one that another owner would not know of must not be promised to anybody.
func (t *Tier) Finished(ctx context.Context) error {
	t.mu.Lock()
	ahead := t.state.Ahead
	t.mu.Unlock()
	if !ahead {
		return nil
	}
	m, err := t.Publish(ctx)
	switch {
	case errors.Is(err, cloud.ErrFenced), errors.Is(err, cloud.ErrOwned), errors.Is(err, cloud.ErrReadOnly):
		return fmt.Errorf("chunks of this snapshot are in the bucket only, and that is not ours any more: %w", err)
	case err != nil:
		t.cfg.Log.Warn("the disk was full, and chunks of a snapshot are in the bucket only, which could not be told of the snapshot yet: the next offload tells it", "err", err)
		return nil
	}
	if _, writers := t.d.Active(); writers <= 1 && m.Waiting == 0 { // the one that has ended
		return t.ahead(false)
	}
	return nil
}

// each calls fn with the digests of the index files of a snapshot here; one that is
// gone has none.
func (t *Tier) each(ns catalog.Namespace, s catalog.Snapshot, fn func(chunks.Digest)) error {
	names, err := t.d.Tree.Files(ns, s)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".fidx") && !strings.HasSuffix(name, ".didx") {
			continue
		}
		x, err := t.d.Tree.ReadIndex(ns, s, name)
		if err != nil {
			return err
		}
		for _, d := range x.All() {
			fn(d)
		}
	}
	return nil
}

// named returns those entries whose chunks a snapshot needs that the bucket was told
// of. Snapshots that it was told of just now come first, and mostly that is all. What
// was in none of them before is looked for in those that are new only.
func (t *Tier) named(ctx context.Context, entries []pack.Entry) (named []pack.Entry, err error) {
	both := &pack.Set{}
	defer func() {
		t.mu.Lock()
		t.both = both
		t.mu.Unlock()
	}()
	if len(entries) == 0 {
		return nil, nil
	}
	told, err := t.readTold(ctx)
	if err != nil {
		return nil, err
	}
	want, open := map[chunks.Digest]bool{}, 0 // true: not found in any; open: of these, not looked for in older ones
	for _, e := range entries {
		if want[e.Digest] = true; !t.unnamed[e.Digest] {
			open++
		}
	}
	var manifests []string
	for name := range told {
		if path.Base(name) == filename.Manifest {
			manifests = append(manifests, name)
		}
	}
	slices.SortFunc(manifests, func(a, b string) int {
		if t.fresh[a] != t.fresh[b] {
			if t.fresh[a] {
				return -1
			}
			return 1
		}
		return strings.Compare(path.Base(path.Dir(b)), path.Base(path.Dir(a))) // the newest first
	})
	for _, name := range manifests {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if open == 0 && !t.fresh[name] {
			break
		}
		ns, rest := filename.Space(name)
		s, _, ok := filename.Snapshot(rest)
		if !ok {
			continue
		}
		err := t.each(ns, s, func(d chunks.Digest) {
			if want[d] {
				if want[d] = false; !t.unnamed[d] {
					open--
				}
			}
		})
		if err != nil { // removed just now, or damaged here: what needs it stays
			t.cfg.Log.Debug("a snapshot lets nothing leave the disk: it cannot be read", "snapshot", name, "err", err)
		}
	}
	t.fresh, t.unnamed = map[string]bool{}, map[chunks.Digest]bool{}
	for _, e := range entries {
		if want[e.Digest] {
			t.unnamed[e.Digest] = true
			both.Add(e.Ref)
		} else {
			named = append(named, e)
		}
	}
	return named, nil
}

// unclaimed returns those entries whose chunks no snapshot here needs of which the
// bucket has not been told.
func (t *Tier) unclaimed(ctx context.Context, entries []pack.Entry) ([]pack.Entry, error) {
	m, err := t.newMirror(ctx)
	if err != nil {
		return nil, err
	}
	claimed := map[chunks.Digest]bool{}
	m.Put = func(string, []byte) error { return nil }
	m.Remove = func(string) error { return nil }
	m.Arrived = func(_ context.Context, ns catalog.Namespace, s catalog.Snapshot, _ []string) (bool, error) {
		return false, t.each(ns, s, func(d chunks.Digest) { claimed[d] = true })
	}
	if err := m.Run(ctx); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e pack.Entry) bool { return claimed[e.Digest] }), nil
}
