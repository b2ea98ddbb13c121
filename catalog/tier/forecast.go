package tier

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier/filename"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/ahead"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/meta"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/queue"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
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
}

// Bytes that a chunk takes beside itself: in an index object, and in an index file
// of a bundle.
const (
	indexRow  = 42
	bundleRow = 33
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

// commit is a root, which names an index object and a bundle of so many bytes first, if
// they are not 0. Small ones are written again with them when there are too many.
func (f *forecast) commit(index, bundle int64) {
	f.head.Seq.N++
	f.head.Node, f.head.Created = f.t.cfg.Node, time.Now().UTC()
	f.names(&f.head.Index, layout.IndexKey(f.head.Seq, emptyTag), index, true)
	f.names(&f.head.Bundles, layout.BundleKey(f.head.Seq, emptyTag), bundle, false)
	f.put(1, f.rootSize())
	if f.head.Seq.N == 1 && !f.t.cfg.Bucket.Lock().IsZero() {
		f.Requests["head"]++ // whether what came first was locked
	}
	f.check()
	if f.head.Seq.N > 30 && f.t.cfg.Bucket.Lock().IsZero() {
		f.Requests["delete"]++ // that of an old one
	}
}

// emptyTag is as long as what tells names of objects apart.
var emptyTag = strings.Repeat("A", 26)

// names adds an object to those that a root names; always: also for the sake of those
// that are too many.
func (f *forecast) names(list *[]layout.Object, key string, size int64, always bool) {
	k := meta.Mergeable(*list)
	if size == 0 && (k == 0 || !always) {
		return
	}
	at := len(*list) - k
	if k > 0 && !always {
		size = f.together((*list)[at:], size)
	} else {
		for _, o := range (*list)[at:] {
			size += o.Size
		}
	}
	*list = append((*list)[:at:at], layout.Object{Key: key, Size: size, Sum: layout.SumOf(nil), Items: 100})
	f.put(1, size)
}

// together is about what bundles and one more take as one. Files of one archive lie side
// by side in it, and what is the same in them packs to nothing: what remains of
// all but the longest are the digests of chunks that were new, as the index objects of
// that time tell.
func (f *forecast) together(bundles []layout.Object, size int64) int64 {
	since := strings.TrimPrefix(bundles[0].Key, layout.BundleDir)
	more := int64(0)
	for _, o := range f.head.Index {
		if strings.TrimPrefix(o.Key, layout.IndexDir) >= since {
			more += o.Size * (bundleRow - 1) / indexRow
		}
	}
	for _, o := range bundles {
		size, more = max(size, o.Size), more+100
	}
	return size + more
}

// buries has the next root name so many dead packs.
func (f *forecast) buries(n int) {
	f.head.Dead = slices.Clip(f.head.Dead)
	for range n {
		f.head.Dead = append(f.head.Dead, layout.Tombstone{Since: time.Now().UTC().Truncate(time.Second)})
	}
}

// rootSize is how long the root is by now.
func (f *forecast) rootSize() int64 {
	body, err := layout.SignRoot(&f.head, make(ed25519.PrivateKey, ed25519.PrivateKeySize))
	if err != nil {
		return 0
	}
	if f.t.Encrypted() {
		body = seal.NewKey().Seal("", body)
	}
	return int64(len(body))
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
	now, later           int // files
	nowBytes, laterBytes int64
	gone                 []string
}

// any tells whether the next root says something of files.
func (n tells) any() bool { return n.now+len(n.gone) > 0 }

// removes has the next root name files that are no more.
func (f *forecast) removes(names []string) {
	if len(f.head.Bundles) > 0 {
		f.head.Removed = append(slices.Clip(f.head.Removed), names...)
	}
}

// tells looks at the files of snapshots as [Tier.mirror] does, and changes nothing.
// leaves tells of a snapshot whose chunks are not all in the bucket whether they will be.
func (t *Tier) tells(ctx context.Context, leaves func(catalog.Snapshot) bool) (n tells, err error) {
	m, err := t.newMirror(ctx)
	if err != nil {
		return n, err
	}
	m.Put = func(name string, content []byte) error {
		n.now, n.nowBytes = n.now+1, n.nowBytes+packed(name, int64(len(content)))
		return nil
	}
	m.Remove = func(name string) error { n.gone = append(n.gone, name); return nil }
	m.Arrived = func(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot, names []string) (bool, error) {
		there, err := t.arrived(ctx, ns, s, names, nil)
		if err != nil || there || !leaves(s) {
			return there, err
		}
		for _, name := range append(names, filename.Manifest) {
			if info, err := t.cfg.FS.Stat(path.Join(t.cfg.Dir, ns.Path(), s.Path(), name)); err == nil {
				n.later, n.laterBytes = n.later+1, n.laterBytes+packed(name, info.Size())
			}
		}
		return false, nil
	}
	if err := m.Run(ctx); err != nil {
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
	line, err := t.waiting()
	if err != nil {
		return f.done(), err
	}
	l, err := t.leaving(ctx, opt.After, line.chunks)
	if err != nil {
		return f.done(), err
	}
	if l.proved { // before copies go because the bucket has them
		f.check()
	}
	f.put(line.ready+l.packs, line.bytes+l.bytes)
	f.Requests["head"] += line.done // whether they are there still
	ready, later := t.graves(func(d chunks.Digest) bool { return l.goes[d] || line.chunks[d] })
	for n := l.packs; n > commitEvery; n -= commitEvery { // roots on the way
		f.commit(commitEvery*indexRow*l.rows/max(l.packs, 1), 0)
		l.rows -= commitEvery * l.rows / max(l.packs, 1)
	}
	rows := l.rows + int64(len(line.chunks))
	f.removes(told.gone)
	f.buries(ready)
	if rows > 0 || told.any() || ready > 0 {
		f.commit(rows*indexRow, told.nowBytes)
	}
	f.buries(later)
	if told.later > 0 && rows > 0 || later > 0 {
		f.commit(0, told.laterBytes)
	}
	return f.done(), nil
}

// graves counts packs that the next root buries, and those that the one behind it
// does, when what was brought home from them has arrived in the bucket again.
func (t *Tier) graves(arrives func(chunks.Digest) bool) (ready, later int) {
	local := t.store.Local()
	for _, home := range t.store.Graves() {
		here, goes := 0, 0
		for _, d := range home {
			if !t.store.Confirmed(d) && local.Known(d) {
				if here++; arrives(d) {
					goes++
				}
			}
		}
		switch {
		case here == 0:
			ready++
		case here == goes:
			later++
		}
	}
	return ready, later
}

// commitEvery is after how many packs an offload writes a root; see package cloud.
const commitEvery = 1024

// A leaving is what an offload builds packs of.
type leaving struct {
	packs, rows, bytes int64
	goes               map[chunks.Digest]bool
	proved             bool // some of what is on the disk is in the bucket as well
}

func (t *Tier) leaving(ctx context.Context, after time.Duration, busy map[chunks.Digest]bool) (l leaving, err error) {
	f, err := t.format()
	if err != nil {
		return l, err
	}
	now := time.Now()
	entries, err := t.store.Local().Entries(ctx, func(i pack.Info) bool {
		seen := t.store.Seen(i.Number)
		return after <= 0 || !seen.IsZero() && now.Sub(seen) >= after
	})
	w := layout.Filling{Sealed: f.KeyID != "", Limit: f.PackBytes}
	l.goes = map[chunks.Digest]bool{}
	for _, e := range entries {
		switch {
		case t.store.Confirmed(e.Digest):
			l.proved = true
		case !busy[e.Digest]: // else a pack that waits has it
			w.Add(int(e.Bytes))
			l.goes[e.Digest] = true
		}
	}
	l.packs, l.rows, l.bytes = w.Packs, w.Chunks, w.Bytes()
	return l, err
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

// ForecastRoots says what so many roots take, each with one object that it names: index
// objects of so many chunks, and bundles with so many bytes of files, in turns. Before
// them comes the root of what the bucket was not told of yet.
func (t *Tier) ForecastRoots(ctx context.Context, n, chunks, files int64) (prices.Use, error) {
	f := t.forecast()
	told, err := t.tells(ctx, func(catalog.Snapshot) bool { return false })
	ready, _ := t.graves(nobody)
	f.removes(told.gone)
	f.buries(ready)
	if told.any() || ready > 0 {
		f.commit(0, told.nowBytes)
	}
	for i := range n {
		if i%2 == 0 && chunks > 0 {
			f.commit(max(1, 2*chunks*indexRow/(n+1)), 0)
		} else {
			f.commit(0, max(1, 2*files/(n+1)))
		}
	}
	return f.done(), err
}

func nobody(chunks.Digest) bool { return false }

// A line is what is on its way.
type line struct {
	ready, done int64 // packs
	bytes       int64 // of those that have to be sent
	chunks      map[chunks.Digest]bool
}

func (t *Tier) waiting() (n line, err error) {
	n.chunks = map[chunks.Digest]bool{}
	q := queue.Queue{FS: t.cfg.FS, Dir: t.cfg.at("upload")}
	packs, err := q.Waiting()
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	for id, state := range packs {
		p, err := q.Rows(id, state)
		if err != nil {
			continue // it is packed anew
		}
		for _, row := range p.Rows {
			n.chunks[row.Digest] = true
		}
		if state == queue.Done {
			n.done++
			continue
		}
		n.ready, n.bytes = n.ready+1, n.bytes+p.Size
	}
	return n, err
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
	due, stones, list := int64(0), 0, t.cfg.Provider.Prices()
	for _, p := range plan.Packs {
		info, remote := infos[p.Pack]
		if !remote || p.Pack%2 == 0 || p.Method == pack.Keep {
			continue
		}
		held := list.Held(t.cfg.Bucket.Lock().Held(info.Created, f.head.Locked), info.Created)
		switch {
		case p.Live == 0:
			stones++
			if grace < time.Second && !now.Before(held) {
				due++
			}
		case list.Compact(prices.Pack{Age: now.Sub(info.Created), Live: p.LiveBytes, Dead: p.DeadBytes}):
			f.home(&plan, p, info.Bytes) // it is buried when what lives is in the bucket again
		}
	}
	ready, _ := t.graves(nobody)
	old := f.head.Dead
	f.removes(told.gone)
	f.buries(stones + ready)
	if f.relock(now) || told.any() || stones+ready > 0 {
		f.commit(0, told.nowBytes)
	}
	for _, g := range old {
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

// relock adds the locks that are renewed, which the next root says.
func (f *forecast) relock(now time.Time) bool {
	p := f.t.cfg.Bucket.Lock()
	if !p.Due(now, p.Last(f.head.Locked, f.head.LockDays)) {
		return false
	}
	keys := len(f.head.Keys())
	if _, err := f.t.cfg.FS.Stat(f.t.cfg.at("meta/" + layout.FormatCopyKey)); err == nil {
		keys++
	}
	f.put(int64(keys+f.t.store.Stats().Packs), 0)
	f.head.Locked, f.head.LockDays = now.UTC().Truncate(time.Second), p.Days
	return true
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
	for _, o := range t.store.Looks() { // some small ones, which take turns
		if o.Key == layout.FormatCopyKey {
			o.Size = t.size("format.json")
		}
		f.get(1, o.Size)
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

// Cost is what it takes to read chunks of the bucket together, past the cache.
func (t *Tier) Cost(ds []chunks.Digest) (requests, bytes int64) {
	var wants []ahead.Want
	for _, d := range ds {
		if w, in := t.store.Find(d); in {
			wants = append(wants, w)
		}
	}
	for _, run := range ahead.Stretches(wants, readGap) {
		last := run[len(run)-1]
		requests, bytes = requests+1, bytes+last.Off+last.N-run[0].Off
	}
	return requests, bytes
}

// readRound is how many chunks a verification reads together; see package verify.
const readRound = 8192
