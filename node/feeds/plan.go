package feeds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
)

// A Site is what this node holds and runs.
type Site interface {
	// Stores are all datastores that are set up, and how they are.
	Stores() []facts.Kept
	// List returns the finished snapshots of a datastore: of one group, or all.
	List(ctx context.Context, store string, only *Group) ([]catalog.Info, error)
	// Sum is that of what is signed of a manifest.
	Sum(store string, i catalog.Info) ([32]byte, error)
	// Removed are the snapshots that were removed on purpose, of late.
	Removed(store string) ([]catalog.Trashed, error)
	// Ended are the tasks that are remembered, newest end first.
	Ended() []jobs.Info
}

// A Group is one in a namespace.
type Group struct {
	Namespace catalog.Namespace
	Group     catalog.Group
}

func (g Group) facts() facts.Group {
	return facts.Group{Namespace: string(g.Namespace), Type: string(g.Group.Type), ID: g.Group.ID}
}

// A snapshot is one of a datastore.
type snapshot struct {
	store string
	group facts.Group
	time  int64
}

// pending is what has to be looked at.
type pending struct {
	all    bool
	stores bool // how datastores are
	runs   []jobs.Info
	groups map[string]map[Group]bool // by datastore
}

func (p pending) none() bool { return !p.all && !p.stores && len(p.runs) == 0 && len(p.groups) == 0 }

// Changed says that a snapshot of a group has come, has gone, or was verified.
func (f *Feeds) Changed(store string, ns catalog.Namespace, g catalog.Group) {
	f.mu.Lock()
	if f.pending.groups == nil {
		f.pending.groups = map[string]map[Group]bool{}
	}
	if f.pending.groups[store] == nil {
		f.pending.groups[store] = map[Group]bool{}
	}
	f.pending.groups[store][Group{ns, g}] = true
	f.mu.Unlock()
	f.wake()
}

// Pulled says, before [Feeds.Changed] is called, from which node a snapshot
// comes.
func (f *Feeds) Pulled(store string, ns catalog.Namespace, s catalog.Snapshot, from string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulled[snapshot{store, Group{ns, s.Group}.facts(), s.Time}] = from
}

// Ended says that a task has ended.
func (f *Feeds) Ended(i jobs.Info) {
	if quiet(i) {
		return
	}
	f.mu.Lock()
	f.pending.runs = append(f.pending.runs, i)
	f.mu.Unlock()
	f.wake()
}

// quiet tells whether nobody but this node cares that a task has ended.
func quiet(i jobs.Info) bool { return i.UPID.Type == "reader" }

func (f *Feeds) everything() {
	f.mu.Lock()
	f.pending.all = true
	f.mu.Unlock()
	f.wake()
}

func (f *Feeds) wake() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// plan returns what has to be said of what is pending.
func (f *Feeds) plan(ctx context.Context, todo pending) (all []facts.Fact, err error) {
	said := f.model.Stores(f.self)
	is := f.site.Stores()
	if todo.all || todo.stores {
		all = append(diffStores(said, is), diffAlarms(f.model.Alarms(f.self), f.cfg.Alarms())...)
	}
	for _, s := range is {
		f.mu.Lock()
		whole := todo.all || !f.seen[s.Store]
		f.seen[s.Store] = s.State == ""
		f.mu.Unlock()
		switch {
		case s.State != "": // what is in it cannot be known; it is compared when it is back
		case whole:
			more, e := f.compare(ctx, s.Store, nil)
			all, err = append(all, more...), errors.Join(err, e)
		default:
			for g := range todo.groups[s.Store] {
				more, e := f.compare(ctx, s.Store, &g)
				all, err = append(all, more...), errors.Join(err, e)
			}
		}
	}
	if todo.all {
		all = append(all, newestRuns(f.lastRuns(), f.site.Ended())...)
	} else {
		all = append(all, runs(f.lastRuns(), todo.runs)...)
	}
	return all, err
}

// compare returns what has to be said of a datastore, or of a group in it.
func (f *Feeds) compare(ctx context.Context, store string, only *Group) ([]facts.Fact, error) {
	listed, err := f.site.List(ctx, store, only)
	if err != nil {
		f.mu.Lock()
		f.seen[store] = false
		f.mu.Unlock()
		return nil, fmt.Errorf("list datastore %s: %w", store, err)
	}
	said := f.model.Snapshots(f.self, store)
	if only != nil {
		said = slices.DeleteFunc(said, func(h facts.Held) bool { return h.Group != only.facts() })
	}
	return diff(store, said, listed, f.describe, func() (map[snapshot]time.Time, error) { return f.removed(store) })
}

// removed returns when snapshots of a datastore were removed on purpose.
func (f *Feeds) removed(store string) (map[snapshot]time.Time, error) {
	list, err := f.site.Removed(store)
	all := map[snapshot]time.Time{}
	for _, t := range list {
		key := snapshot{store, Group{t.Namespace, t.Snapshot.Group}.facts(), t.Snapshot.Time}
		if t.Removed.After(all[key]) {
			all[key] = t.Removed
		}
	}
	if err != nil {
		f.cfg.Log.Warn("some of what was removed is not said to be, and copies of it stay", "store", store, "err", err)
	}
	return all, nil
}

// describe is what there is to say of a snapshot that is new here.
func (f *Feeds) describe(n facts.Snapshot, i catalog.Info) (facts.Added, error) {
	sum, err := f.site.Sum(n.Store, i)
	key := snapshot{n.Store, n.Group, n.Time}
	f.mu.Lock()
	from := f.pulled[key]
	delete(f.pulled, key)
	f.mu.Unlock()
	if from == "" {
		from = f.before(key, sum)
	}
	encrypted := slices.ContainsFunc(i.Files, func(x catalog.File) bool { return x.CryptMode == manifest.Encrypt })
	return facts.Added{Snapshot: n, Size: *i.Size, Manifest: sum, Encrypted: encrypted, From: from}, err
}

// before returns from which node a snapshot came of which nobody has just told
// where it came from: as this node has said before, or, if it is new here, from
// the node that a client sent it to.
func (f *Feeds) before(n snapshot, sum [32]byte) (from string) {
	for _, h := range f.model.Copies(sum) {
		switch {
		case h.Origin == f.self && h.Store == n.store:
			return h.From
		case h.Origin != f.self && h.From == "" && sum != [32]byte{}:
			from = NodeID(h.Origin)
		}
	}
	return from
}

// removedOnPurpose is why others may remove their copies, too.
const removedOnPurpose = "removed"

// diff returns what has to be said so that a feed, which says what is held,
// says what is listed. It is a function of what it is given.
func diff(store string, said []facts.Held, listed []catalog.Info, describe func(facts.Snapshot, catalog.Info) (facts.Added, error), removed func() (map[snapshot]time.Time, error)) (all []facts.Fact, err error) {
	known := map[snapshot]facts.Copy{}
	for _, h := range said {
		for _, c := range h.Copies {
			known[snapshot{store, h.Group, c.Time}] = c
		}
	}
	for _, i := range slices.Backward(listed) { // oldest first
		if !i.Finished() {
			continue
		}
		n := facts.Snapshot{Store: store, Group: Group{i.Namespace, i.Snapshot().Group}.facts(), Time: i.Time}
		key := snapshot{store, n.Group, i.Time}
		c, is := known[key]
		delete(known, key)
		if !is || c.Size != *i.Size || c.Verified != 0 && i.Verification == nil {
			added, e := describe(n, i)
			if e != nil {
				err = errors.Join(err, e)
				continue
			}
			all, c = append(all, added), facts.Copy{}
		}
		if v, due := verified(n, c, i.Verification); due {
			all = append(all, v)
		}
	}
	if len(known) == 0 {
		return all, err
	}
	when, e := removed()
	err = errors.Join(err, e)
	gone := make([]facts.Fact, 0, len(known))
	for key, c := range known {
		p := facts.Pruned{Snapshot: facts.Snapshot{Store: store, Group: key.group, Time: key.time}}
		if at, is := when[key]; is && at.Unix() >= c.Added { // else it was removed, had again, and lost
			p.Why = removedOnPurpose
		}
		gone = append(gone, p)
	}
	slices.SortFunc(gone, func(a, b facts.Fact) int {
		x, y := a.(facts.Pruned).Snapshot, b.(facts.Pruned).Snapshot
		return cmp.Or(cmp.Compare(x.Group.String(), y.Group.String()), cmp.Compare(x.Time, y.Time))
	})
	return append(all, gone...), err
}

// verified returns what a verification has found, if that was not said.
func verified(n facts.Snapshot, c facts.Copy, v *manifest.VerifyState) (facts.Verified, bool) {
	if v == nil {
		return facts.Verified{}, false
	}
	ok := v.State == "ok"
	began := int64(0)
	if u, err := jobs.ParseUPID(v.UPID); err == nil {
		began = u.Start
	}
	return facts.Verified{Snapshot: n, OK: ok}, c.Verified == 0 || c.Damaged == ok || began > c.Verified
}

// diffStores returns what has to be said of datastores as such.
func diffStores(said []facts.StoreView, is []facts.Kept) (all []facts.Fact) {
	for _, s := range is {
		at := slices.IndexFunc(said, func(v facts.StoreView) bool { return v.Store == s.Store })
		if at < 0 || worthSaying(said[at].Kept, s) {
			all = append(all, s)
		}
	}
	for _, v := range said {
		if !slices.ContainsFunc(is, func(k facts.Kept) bool { return k.Store == v.Store }) {
			all = append(all, facts.Dropped{Store: v.Store})
		}
	}
	return all
}

// diffAlarms returns what has to be said of alarms.
func diffAlarms(said, is []facts.Alarm) (all []facts.Fact) {
	for _, a := range is {
		if !slices.Contains(said, a) {
			all = append(all, a)
		}
	}
	for _, a := range said {
		if !slices.ContainsFunc(is, func(b facts.Alarm) bool { return a.Key == b.Key }) {
			all = append(all, facts.Alarm{Key: a.Key})
		}
	}
	return all
}

// worthSaying tells whether a datastore is not as was said. Free space counts
// if it has changed by a hundredth of the disk.
func worthSaying(said, is facts.Kept) bool {
	moved := max(said.Free, is.Free) - min(said.Free, is.Free)
	return said.Size != is.Size || said.Damaged != is.Damaged || said.State != is.State || moved > is.Size/100
}

// lastRuns are the runs that were said last, by kind and what they were on.
func (f *Feeds) lastRuns() map[[2]string]facts.Run {
	all := map[[2]string]facts.Run{}
	for _, n := range f.model.Nodes() {
		if n.Origin == f.self {
			for _, r := range n.Last {
				all[[2]string{r.Of, r.Job}] = r
			}
		}
	}
	return all
}

// restEvery is how often it is worth saying that the same work went well again:
// what runs every minute would fill the feeds of all.
const restEvery = 10 * time.Minute

// runs returns what is worth saying of runs that have just ended.
func runs(said map[[2]string]facts.Run, tasks []jobs.Info) (all []facts.Fact) {
	for _, i := range tasks {
		run := ended(i)
		if last, is := said[[2]string{run.Of, run.Job}]; !is || !last.OK || !run.OK || i.End.Sub(last.Ended) >= restEvery {
			all = append(all, run)
		}
	}
	return all
}

// newestRuns returns the last run of each kind that was not said, oldest first.
func newestRuns(said map[[2]string]facts.Run, tasks []jobs.Info) (all []facts.Fact) {
	done := map[[2]string]bool{}
	for _, i := range tasks {
		if i.State == jobs.Running || quiet(i) {
			continue
		}
		run := ended(i)
		key := [2]string{run.Of, run.Job}
		if !done[key] && said[key].ID != run.Run {
			all = append(all, run)
		}
		done[key] = true
	}
	slices.Reverse(all)
	return all
}

// ended is what is said of a task.
func ended(i jobs.Info) facts.RunEnded {
	return facts.RunEnded{
		Run: clean(i.UPID.String()), Job: clean(i.UPID.ID), Of: clean(i.UPID.Type),
		OK: i.State == jobs.OK || i.State == jobs.Warning, Text: i.Status(),
	}
}
