package offload

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/staging"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/replication/plan"
)

// wholeShare is how much of a pack has to be wanted for it to go as it is: what is
// not wanted would be paid for until the pack is rewritten.
const wholeShare = 0.9

// A freight is what is to be sent, and how.
type freight struct {
	list          []staging.Load
	chunks        int
	bytes         int64 // as stored
	packs, wholes int   // of these, about
	length        int64 // of the packs
	files         int64 // bytes of the files of snapshots, about, as they are written
}

// packBytes is about how long packs are.
const packBytes = 64 << 20

// loads says how wanted entries of a datastore go: packs as they are, if that may
// be, and all the rest together, in the order in which it lies on the disk.
func loads(ctx context.Context, d *catalog.Datastore, want *pack.Set, asTheyAre bool) (f freight, err error) {
	s := d.Local()
	infos := map[uint32]pack.Info{}
	for _, i := range s.Packs() {
		infos[i.Number] = i
	}
	entries, err := s.Entries(ctx, func(i pack.Info) bool { return want.CountRow(i.Number) > 0 })
	if err != nil {
		return f, err
	}
	entries = slices.DeleteFunc(entries, func(e pack.Entry) bool { return !want.Has(e.Ref) })
	slices.SortStableFunc(entries, func(a, b pack.Entry) int { return int(int64(a.Ref.Pack) - int64(b.Ref.Pack)) })
	var rest []pack.Entry
	for len(entries) > 0 {
		n, bytes := 0, int64(0)
		for n < len(entries) && entries[n].Ref.Pack == entries[0].Ref.Pack {
			bytes += int64(entries[n].Bytes)
			n++
		}
		of := entries[:n]
		entries = entries[n:]
		f.chunks, f.bytes = f.chunks+n, f.bytes+bytes
		if is := infos[of[0].Ref.Pack]; asTheyAre && is.Sealed && float64(bytes) >= wholeShare*float64(is.Bytes) {
			f.list = append(f.list, staging.Load{Dir: d.Dir, Whole: is, From: s, Entries: of})
			f.packs, f.wholes, f.length = f.packs+1, f.wholes+1, f.length+is.Bytes
			continue
		}
		rest = append(rest, of...)
	}
	if len(rest) > 0 {
		f.list = append(f.list, staging.Load{From: s, Entries: rest})
		fill := layout.Filling{Sealed: !asTheyAre, Limit: packBytes}
		for _, e := range rest {
			fill.Add(int(e.Bytes))
		}
		f.packs, f.length = f.packs+int(fill.Packs), f.length+fill.Bytes()
	}
	return f, nil
}

// A back is what is read back of a batch.
type back struct {
	ds    []chunks.Digest
	bytes int64 // with what lies between them
}

// readBack is how many chunks of a batch are read back.
const readBack = 4

// back chooses chunks that lie side by side in a pack, so that one request reads them.
// Which they are is told by what is sent, so that the plan knows it too.
func (f freight) back(sealed bool) (b back) {
	type place struct {
		d          chunks.Digest
		pack       int64
		start, end int64
	}
	var all []place
	packs := int64(0)
	for _, l := range f.list {
		fill := layout.Filling{Sealed: sealed, Limit: packBytes}
		if l.Whole.Bytes > 0 {
			fill.Limit = 2 * l.Whole.Bytes
		}
		for _, e := range l.Entries {
			fill.Add(int(e.Bytes))
			all = append(all, place{e.Digest, packs + fill.Packs, fill.End() - layout.FrameSize(sealed, e.Bytes), fill.End()})
		}
		packs += fill.Packs
	}
	if len(all) == 0 {
		return b
	}
	from := int(binary.BigEndian.Uint64(all[0].d[:8]) % uint64(len(all)))
	to := from + 1
	for ; to < len(all) && to-from < readBack && all[to].pack == all[from].pack; to++ {
	}
	for ; from > 0 && to-from < readBack && all[from-1].pack == all[to-1].pack; from-- {
	}
	for _, p := range all[from:to] {
		b.ds = append(b.ds, p.d)
	}
	b.bytes = all[to-1].end - all[from].start
	return b
}

// A total is what all batches of a run come to.
type total struct {
	freight
	batches, back int64

	want    pack.Set // of all
	batch   pack.Set // that is not full yet
	content int64    // in it
}

// send adds the batch, as [run.send] sends it.
func (o *Offloader) send(ctx context.Context, t *total) error {
	if t.content == 0 {
		return nil
	}
	f, err := loads(ctx, o.cfg.From, &t.batch, !o.cfg.To.Encrypted())
	if err != nil {
		return err
	}
	t.batches, t.back = t.batches+1, t.back+f.back(o.cfg.To.Encrypted()).bytes
	t.chunks, t.bytes = t.chunks+f.chunks, t.bytes+f.bytes
	t.packs, t.wholes, t.length = t.packs+f.packs, t.wholes+f.wholes, t.length+f.length
	t.batch, t.content = pack.Set{}, 0
	return nil
}

// A Plan is what a run would do now.
type Plan struct {
	Job       string `json:"id"`
	Source    string `json:"source"` // filled in by who knows the names
	Snapshots int    `json:"snapshots"`
	Size      uint64 `json:"size"`  // of these, as their manifests say
	Bytes     int64  `json:"bytes"` // of chunks that the bucket lacks, as they are stored
	Chunks    int    `json:"chunks"`
	Lacking   int    `json:"lacking-chunks"` // that are not here either
	Packs     int    `json:"packs"`
	Whole     int    `json:"whole-packs"`

	Requests tier.Requests `json:"requests"`
	Read     int64         `json:"bytes-in"`  // to be read from the bucket
	Written  int64         `json:"bytes-out"` // to be written to it
	Once     *tier.Bill    `json:"cost,omitempty"`
	Monthly  *tier.Bill    `json:"monthly-cost,omitempty"`
	*plan.Plan
}

// Plan returns what Run would do now, and what that would cost. Nothing is
// changed, and the bucket is asked nothing.
func (o *Offloader) Plan(ctx context.Context, j Job) (*Plan, error) {
	pl, err := o.plan(ctx, j)
	if err != nil {
		return nil, err
	}
	p := &Plan{Job: j.ID, Plan: pl}
	p.Snapshots, p.Size = pl.Snapshots()
	var all total
	lacking, longest := map[chunks.Digest]bool{}, int64(0)
	for _, g := range pl.Groups {
		archives := map[string]int{} // chunks; of one archive the indexes are much the same, and written once
		for _, f := range g.Fetch {
			if err := o.lacks(ctx, g, f, &all, lacking, archives); err != nil {
				return nil, err
			}
		}
		for _, n := range archives {
			longest += int64(n)
		}
	}
	if err := o.send(ctx, &all); err != nil {
		return nil, err
	}
	f := &all
	p.Bytes, p.Chunks, p.Packs, p.Whole, p.Lacking = f.bytes, f.chunks, f.packs, f.wholes, len(lacking)
	f.files = max(longest, int64(f.chunks))*digestBytes + int64(p.Snapshots)*snapshotBytes
	u, err := o.forecast(ctx, f, p.Snapshots)
	if err != nil {
		return nil, err
	}
	p.Requests, p.Read, p.Written = u.Requests, u.In, u.Out
	p.Once, p.Monthly = o.cfg.To.Estimate(u, f.length, int64(p.Packs))
	return p, nil
}

// What the files of a snapshot take in a bundle: for each chunk in its indexes, and beside.
const (
	digestBytes   = 33
	snapshotBytes = 600
)

// lacks notes which chunks of a snapshot the bucket lacks, and how long its archives are.
func (o *Offloader) lacks(ctx context.Context, g plan.GroupPlan, f plan.Fetch, to *total, lacking map[chunks.Digest]bool, archives map[string]int) error {
	r := &run{Offloader: o}
	s, err := r.open(ctx, g, catalog.Snapshot{Group: g.Group, Time: f.Time})
	if err != nil {
		return nil // it has just gone, or the run says what is wrong with it
	}
	defer s.Close()
	missing := o.cfg.To.Datastore().Chunks().Missing
	for _, name := range slices.Sorted(maps.Keys(s.index)) {
		archives[name] = max(archives[name], s.index[name].Len())
		err := r.lacks(ctx, s.index[name], missing, func(d chunks.Digest, ref pack.Ref, held bool, size int64) {
			if !held {
				lacking[d] = true
			} else if to.want.Add(ref) {
				to.batch.Add(ref)
				to.content += size
			}
		}, func() error {
			if to.content < o.cfg.BatchBytes {
				return nil
			}
			return o.send(ctx, to)
		})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// forecast is what a freight takes: each pack a request, each batch a root with what
// it names and a look at some chunks of it, and each flush a root with the files of
// its snapshots.
func (o *Offloader) forecast(ctx context.Context, f *total, snapshots int) (prices.Use, error) {
	if snapshots == 0 { // what the bucket was not told of is told all the same
		return o.cfg.To.ForecastRoots(ctx, 0, 0, 0)
	}
	flushes := max(1, int64((snapshots+maxOpen-1)/maxOpen)) // what is full is sent before
	u, err := o.cfg.To.ForecastRoots(ctx, f.batches+flushes, int64(f.chunks), f.files)
	u.Requests["put"] += int64(f.packs)
	u.Requests["get"] += f.batches
	u.Out += f.length
	u.In += f.back
	return u, err
}

func use(made tier.Requests, in, out int64) prices.Use {
	return prices.Use{Requests: made, In: in, Out: out}
}
