package tier

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/ahead"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/queue"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A forecast adds up what work on the bucket is going to take. The bucket is asked
// nothing for it: it knows what the work knows when it begins. Bytes are those of
// objects, as a [bucket.Meter] counts them.
type forecast struct {
	prices.Use
	t     *Tier
	head  layout.Head
	owner int64 // bytes of the owner's object
	roots uint64
}

// Bytes that a chunk takes beside itself: in an index object, and in an index file
// of a bundle; and what a root says of an object that it names.
const (
	indexRow  = 42
	bundleRow = 33
	rootRow   = 180
	rootHead  = 620
)

func (t *Tier) forecast() *forecast {
	f := &forecast{Use: prices.Use{Requests: map[string]int64{}}, t: t, head: t.store.Newest()}
	body, err := layout.EncodeOwner(layout.Owner{Store: t.state.Store, Node: t.cfg.Node, Epoch: 1, Until: time.Now().UTC().Round(0), Secret: strings.Repeat("x", 26)})
	if err == nil {
		f.owner = int64(len(body))
	}
	t.mu.Lock()
	sure := t.sure
	t.mu.Unlock()
	if !sure { // it becomes ours first, and what there is is looked at
		f.get(1, f.owner)
		f.put(1, f.owner)
		if f.Requests["list"]++; f.head.Seq.Epoch == 0 {
			f.Requests["list"]++
		}
	}
	return f
}

func (f *forecast) get(n, bytes int64) { f.Requests["get"] += n; f.In += bytes }
func (f *forecast) put(n, bytes int64) { f.Requests["put"] += n; f.Out += bytes }

// check is the question whether the bucket is ours still.
func (f *forecast) check() { f.get(1, f.owner) }

// commit is a root, with so many objects that it names first.
func (f *forecast) commit(objects, bytes int64) {
	f.roots++
	named := objects + int64(len(f.head.Index)+len(f.head.Bundles)+len(f.head.Dead))
	f.put(objects+1, bytes+rootHead+named*rootRow)
	f.check()
	if f.head.Seq.N+f.roots > 30 && f.t.cfg.Bucket.Lock().IsZero() {
		f.Requests["delete"]++ // that of an old one
	}
}

// done is what was added up, without what is nothing.
func (f *forecast) done() prices.Use {
	for class, n := range f.Requests {
		if n == 0 {
			delete(f.Requests, class)
		}
	}
	return f.Use
}

// tells is what the bucket is to be told of files: at once, and when chunks that
// leave the disk by then have arrived.
type tells struct {
	now, gone, later     int // files
	nowBytes, laterBytes int64
}

// any tells whether the next root says something of files.
func (n tells) any() bool { return n.now+n.gone > 0 }

// bundles is how many objects that takes.
func (n tells) bundles() int64 { return min(1, int64(n.now)) }

// tells looks at the files of snapshots as [Tier.mirror] does, and changes nothing.
// leaves tells of a snapshot whose chunks are not all in the bucket whether they will be.
func (t *Tier) tells(ctx context.Context, leaves func(catalog.Snapshot) bool) (n tells, err error) {
	m, err := t.newMirror(ctx)
	if err != nil {
		return n, err
	}
	m.put = func(name string, content []byte) error {
		n.now, n.nowBytes = n.now+1, n.nowBytes+packed(name, int64(len(content)))
		return nil
	}
	m.remove = func(string) error { n.gone++; return nil }
	m.arrived = func(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot, names []string) (bool, error) {
		there, err := t.arrived(ctx, ns, s, names)
		if err != nil || there || !leaves(s) {
			return there, err
		}
		for _, name := range append(names, manifestName) {
			if info, err := t.cfg.FS.Stat(path.Join(t.cfg.Dir, ns.Path(), s.Path(), name)); err == nil {
				n.later, n.laterBytes = n.later+1, n.laterBytes+packed(name, info.Size())
			}
		}
		return false, nil
	}
	if err := m.run(ctx); err != nil {
		return n, err
	}
	waiting, err := t.cfg.FS.ReadDir(t.cfg.at("files")) // they were told before, and no root names them
	if err == nil && len(waiting) > 0 {
		n.now += len(waiting)
	}
	return n, nil
}

// packed is about what a file takes in a bundle: digests do not compress, and the
// offsets beside them do.
func packed(name string, size int64) int64 {
	switch {
	case strings.HasSuffix(name, ".fidx"):
		return max(size-4096, 0) + 100
	case strings.HasSuffix(name, ".didx"):
		return max(size-4096, 0)*bundleRow/40 + 100
	}
	return size/2 + 40
}

// ForecastOffload says what [Tier.Offload] is going to take.
func (t *Tier) ForecastOffload(ctx context.Context, opt OffloadOptions) (prices.Use, error) {
	f := t.forecast()
	told, err := t.tells(ctx, func(s catalog.Snapshot) bool { return time.Since(time.Unix(s.Time, 0)) >= opt.After })
	if err != nil {
		return f.done(), err
	}
	packs, rows, bytes, twice, err := t.leaving(ctx, opt.After)
	if err != nil {
		return f.done(), err
	}
	if twice { // who owns the bucket is asked before one of the two may go
		f.check()
	}
	waiting, size, err := t.waiting()
	if err != nil {
		return f.done(), err
	}
	f.put(int64(waiting.ready)+packs, size+bytes)
	fresh := min(1, packs+int64(waiting.ready+waiting.done))
	for n := packs; n > commitEvery; n -= commitEvery { // roots on the way
		f.commit(1, commitEvery*indexRow*rows/max(packs, 1))
	}
	if fresh > 0 || told.any() {
		f.commit(fresh+told.bundles(), rows*indexRow+told.nowBytes)
	}
	if told.later > 0 && packs > 0 {
		f.commit(1, told.laterBytes)
	}
	return f.done(), nil
}

// commitEvery is after how many packs an offload writes a root; see package cloud.
const commitEvery = 1024

// leaving is what an offload builds packs of: how many, of how many chunks; and whether
// some of what is old enough is in the bucket already.
func (t *Tier) leaving(ctx context.Context, after time.Duration) (packs, rows, bytes int64, twice bool, err error) {
	f, err := t.format()
	if err != nil {
		return 0, 0, 0, false, err
	}
	now := time.Now()
	entries, err := t.store.Local().Entries(ctx, func(i pack.Info) bool {
		seen := t.store.Seen(i.Number)
		return after <= 0 || !seen.IsZero() && now.Sub(seen) >= after
	})
	w := layout.Filling{Sealed: f.KeyID != "", Limit: f.PackBytes}
	for _, e := range entries {
		if t.store.Confirmed(e.Digest) {
			twice = true
		} else {
			w.Add(int(e.Bytes))
		}
	}
	return w.Packs, w.Chunks, w.Bytes(), twice, err
}

// format is what the store was made with, as the disk has it.
func (t *Tier) format() (f layout.Format, err error) {
	body, err := disk.ReadFile(t.cfg.FS, t.cfg.at("format.json"), 1<<20)
	if err == nil {
		err = json.Unmarshal(body, &f)
	}
	if err != nil {
		err = fmt.Errorf("format of %s: %w", t.cfg.Dir, err)
	}
	return f, err
}

// ForecastRoots says what so many roots take, each with one object that it names, of
// which some name so many chunks, packs and files together.
func (t *Tier) ForecastRoots(n, chunks int64) prices.Use {
	f := t.forecast()
	for i := range n {
		f.commit(1, 0)
		if i%2 == 0 { // an index object now, a bundle later
			f.head.Index = append(f.head.Index[:len(f.head.Index):len(f.head.Index)], layout.Object{})
		}
	}
	f.Out += chunks * (indexRow + bundleRow)
	return f.done()
}

// A line is how many packs are on their way.
type line struct{ ready, done int }

func (t *Tier) waiting() (n line, bytes int64, err error) {
	files, err := t.cfg.FS.ReadDir(t.cfg.at("upload"))
	for _, file := range files {
		switch name := file.Name(); {
		case strings.HasSuffix(name, queue.Done):
			n.done++
		case strings.HasSuffix(name, queue.Ready):
			n.ready++
			if info, err := t.cfg.FS.Stat(t.cfg.at(path.Join("upload", strings.TrimSuffix(name, queue.Ready)+".pack"))); err == nil {
				bytes += info.Size()
			}
		}
	}
	return n, bytes, err
}

// ForecastCollect says what [Tier.Collect] is going to take after that plan.
func (t *Tier) ForecastCollect(ctx context.Context, plan gc.Plan) (prices.Use, error) {
	f := t.forecast()
	told, err := t.tells(ctx, func(catalog.Snapshot) bool { return false })
	if err != nil {
		return f.done(), err
	}
	infos := map[uint32]pack.Info{}
	for _, i := range t.store.Packs() {
		infos[i.Number] = i
	}
	now, grace := time.Now(), cmp.Or(t.cfg.Grace, 7*24*time.Hour)
	due, stones, list := int64(0), false, t.cfg.Provider.Prices()
	for _, p := range plan.Packs {
		info, remote := infos[p.Pack]
		if !remote || p.Pack%2 == 0 || p.Method == pack.Keep {
			continue
		}
		held := list.Held(t.cfg.Bucket.Lock().Held(info.Created, f.head.Locked), info.Created)
		switch {
		case p.Live == 0:
			stones = true
			if grace < time.Second && !now.Before(held) {
				due++
			}
		case list.Compact(prices.Pack{Age: now.Sub(info.Created), Live: p.LiveBytes, Dead: p.DeadBytes}):
			f.home(&plan, p, info.Bytes) // it is buried when what lives is in the bucket again
		}
	}
	f.relock(now)
	if told.any() || stones {
		f.commit(told.bundles(), told.nowBytes)
	}
	for _, g := range f.head.Dead {
		if !g.Deleted && now.Sub(g.Since) >= grace && !now.Before(g.Held) {
			due++
		}
	}
	if due > 0 {
		f.check()
		f.Requests["delete"] += (due + 999) / 1000
		f.commit(0, 0)
	}
	return f.done(), nil
}

// Garbage tells of each pack in the bucket with something in it that nothing needs:
// how much that is, and how old the object.
func (t *Tier) Garbage(each func(bytes int64, age time.Duration)) error {
	usage, err := t.store.Measure(t.store.Condemned())
	for _, i := range t.store.Packs() {
		if u := usage[i.Number]; i.Number%2 == 1 && u.DeadBytes > 0 {
			each(u.DeadBytes, time.Since(i.Created))
		}
	}
	return err
}

// relock adds the locks that are renewed.
func (f *forecast) relock(now time.Time) {
	if f.t.cfg.Bucket.Lock().Due(now, f.head.Locked) {
		f.put(int64(len(f.head.Keys())+f.t.store.Stats().Packs), 0)
		f.commit(0, 0)
	}
}

// readGap is what is read in vain rather than with another request; see package cloud.
const readGap = 512 << 10

// home is what it takes to read what lives in a pack. What is known of its holes is
// how many chunks they have: they count as if all chunks of the pack had one length.
// length is that of the pack, in which chunks may lie with room between them.
func (f *forecast) home(plan *gc.Plan, p gc.PackPlan, length int64) {
	all, most := p.LiveBytes+p.DeadBytes, int64(p.Live+p.Dead)
	if 10*p.LiveBytes <= 6*all {
		most = readGap / (all / most)
	}
	stretches, within := plan.Holes(p, most)
	bytes := float64(p.LiveBytes + within*p.DeadBytes/int64(p.Dead))
	f.get(stretches, int64(bytes*max(1, float64(length-96*int64(p.Live+p.Dead)-8192)/float64(all))))
}

// ForecastAudit says what [Tier.Audit] is going to take if nothing is wrong.
func (t *Tier) ForecastAudit() prices.Use {
	f := t.forecast()
	h := &f.head
	f.check()
	f.put(2, 12) // something at either end
	objects := int64(t.store.Stats().Packs + len(h.Index) + len(h.Bundles) + 4)
	if objects += int64(min(h.Seq.N, 30)); !t.cfg.Bucket.Lock().IsZero() {
		objects += int64(h.Seq.N - min(h.Seq.N, 30))
	}
	for _, g := range h.Dead {
		if !g.Deleted {
			objects++
		}
	}
	f.Requests["list"] += (objects + 999) / 1000
	f.Requests["delete"]++
	f.get(1, t.size("format.json"))
	if h.Seq.N > 0 {
		f.get(1, max(t.size("meta/head")-34, 0))
	}
	named, bytes := append(append([]layout.Object{}, h.Index...), h.Bundles...), int64(0)
	for _, o := range named {
		bytes += o.Size
	}
	if n := int64(len(named)); n > 0 { // three of them, which take turns
		f.get(min(3, n), bytes*min(3, n)/n)
	}
	return f.done()
}

// size is that of a file here; 0 if there is none.
func (t *Tier) size(name string) int64 {
	info, err := t.cfg.FS.Stat(t.cfg.at(name))
	if err != nil {
		return 0
	}
	return info.Size()
}

// ForecastRefresh says what [Tier.Refresh] is going to take if nobody else has
// written to the bucket.
func (t *Tier) ForecastRefresh() prices.Use {
	f := &forecast{Use: prices.Use{Requests: map[string]int64{}}, t: t, head: t.store.Newest()}
	f.Requests["list"]++
	for _, o := range append(append([]layout.Object{}, f.head.Index...), f.head.Bundles...) {
		if _, err := t.cfg.FS.Stat(t.cfg.at("meta/" + strings.ReplaceAll(o.Key, "/", "-"))); err != nil {
			f.get(1, o.Size)
		}
	}
	return f.done()
}

// ForecastRead says what it takes to read, once and past the cache, all that some
// snapshots name, as a verification does.
func (t *Tier) ForecastRead(ctx context.Context, snapshots iter.Seq2[catalog.Namespace, catalog.Snapshot]) (prices.Use, error) {
	f := &forecast{Use: prices.Use{Requests: map[string]int64{}}, t: t}
	seen, wants := map[chunks.Digest]bool{}, []ahead.Want(nil)
	read := func() {
		for _, run := range ahead.Stretches(wants, readGap) {
			last := run[len(run)-1]
			f.get(1, last.Off+last.N-run[0].Off)
		}
		wants = nil
	}
	for ns, snap := range snapshots {
		names, err := t.d.Tree.Files(ns, snap)
		if err := errors.Join(err, ctx.Err()); err != nil {
			return f.done(), err
		}
		for _, name := range names {
			x, err := t.d.Tree.ReadIndex(ns, snap, name)
			if err != nil {
				continue // a blob, or the verification says what is wrong with it
			}
			for _, d := range x.All() {
				if w, in := t.store.Find(d); in && !seen[d] {
					seen[d], wants = true, append(wants, w)
				}
			}
		}
		if len(wants) >= readRound {
			read()
		}
	}
	read()
	return f.done(), nil
}

// readRound is how many chunks a verification reads together; see package verify.
const readRound = 8192
