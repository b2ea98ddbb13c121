package offload

import (
	"context"
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
	var want pack.Set
	lacking, longest := map[chunks.Digest]bool{}, int64(0)
	for _, g := range pl.Groups {
		archives := map[string]int{} // chunks; of one archive the indexes are much the same, and written once
		for _, f := range g.Fetch {
			if err := o.lacks(ctx, g, f, &want, lacking, archives); err != nil {
				return nil, err
			}
		}
		for _, n := range archives {
			longest += int64(n)
		}
	}
	f, err := loads(ctx, o.cfg.From, &want, !o.cfg.To.Encrypted())
	if err != nil {
		return nil, err
	}
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
func (o *Offloader) lacks(ctx context.Context, g plan.GroupPlan, f plan.Fetch, want *pack.Set, lacking map[chunks.Digest]bool, archives map[string]int) error {
	r := &run{Offloader: o}
	s, err := r.open(ctx, g, catalog.Snapshot{Group: g.Group, Time: f.Time})
	if err != nil {
		return nil // it has just gone, or the run says what is wrong with it
	}
	defer s.Close()
	for name, x := range s.index {
		archives[name] = max(archives[name], x.Len())
		ds := make([]chunks.Digest, 0, x.Len())
		for _, d := range x.All() {
			ds = append(ds, d)
		}
		missing, err := o.cfg.To.Datastore().Chunks().Missing(ctx, ds)
		if err != nil {
			return err
		}
		o.cfg.From.Local().LocateMany(missing, func(i int, ref pack.Ref, held bool) {
			if held {
				want.Add(ref)
			} else {
				lacking[missing[i]] = true
			}
		})
	}
	return ctx.Err()
}

// forecast is what a freight takes: each pack a request, each batch a root with what
// it names and a look at some chunks of it, and each flush a root with the files of
// its snapshots.
func (o *Offloader) forecast(ctx context.Context, f freight, snapshots int) (prices.Use, error) {
	if snapshots == 0 { // what the bucket was not told of is told all the same
		return o.cfg.To.ForecastRoots(ctx, 0, 0, 0)
	}
	batches := (f.bytes + o.cfg.BatchBytes - 1) / o.cfg.BatchBytes
	flushes := max(1, batches, int64((snapshots+maxOpen-1)/maxOpen))
	u, err := o.cfg.To.ForecastRoots(ctx, batches+flushes, int64(f.chunks), f.files)
	u.Requests["put"] += int64(f.packs)
	u.Requests["get"] += batches
	u.Out += f.length
	if f.chunks > 0 {
		u.In += batches * min(readBack, int64(f.chunks)) * (f.bytes/int64(f.chunks) + layout.FrameSize(o.cfg.To.Encrypted(), 0))
	}
	return u, err
}

func use(made tier.Requests, in, out int64) prices.Use {
	return prices.Use{Requests: made, In: in, Out: out}
}
