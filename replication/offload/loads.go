package offload

import (
	"context"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/chunks"
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
	var restBytes int64
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
			f.packs, f.wholes = f.packs+1, f.wholes+1
			continue
		}
		rest, restBytes = append(rest, of...), restBytes+bytes
	}
	if len(rest) > 0 {
		f.list = append(f.list, staging.Load{From: s, Entries: rest})
		f.packs += int((restBytes + packBytes - 1) / packBytes)
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

	Requests tier.Requests `json:"requests"` // about
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
	lacking := map[chunks.Digest]bool{}
	for _, g := range pl.Groups {
		for _, f := range g.Fetch {
			if err := o.lacks(ctx, g, f, &want, lacking); err != nil {
				return nil, err
			}
		}
	}
	f, err := loads(ctx, o.cfg.From, &want, !o.cfg.To.Encrypted())
	if err != nil {
		return nil, err
	}
	p.Bytes, p.Chunks, p.Packs, p.Whole, p.Lacking = f.bytes, f.chunks, f.packs, f.wholes, len(lacking)
	p.Requests = o.requests(f, p.Snapshots)
	p.Once, p.Monthly = o.cfg.To.Estimate(use(p.Requests, 0, p.Bytes), p.Bytes, int64(p.Packs))
	return p, nil
}

// lacks notes which chunks of a snapshot the bucket lacks.
func (o *Offloader) lacks(ctx context.Context, g plan.GroupPlan, f plan.Fetch, want *pack.Set, lacking map[chunks.Digest]bool) error {
	r := &run{Offloader: o}
	s, err := r.open(ctx, g, catalog.Snapshot{Group: g.Group, Time: f.Time})
	if err != nil {
		return nil // it has just gone, or the run says what is wrong with it
	}
	defer s.Close()
	for _, x := range s.index {
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

// requests is what a freight takes: each pack one, each batch two roots with what
// they name, the question whether the bucket is ours still, and a look back.
func (o *Offloader) requests(f freight, snapshots int) tier.Requests {
	if snapshots == 0 {
		return tier.Requests{}
	}
	batches := max(1, (f.bytes+o.cfg.BatchBytes-1)/o.cfg.BatchBytes, int64((snapshots+maxOpen-1)/maxOpen))
	return tier.Requests{"put": int64(f.packs) + 4*batches, "get": 3 * batches, "delete": 2 * batches}
}

func use(made tier.Requests, in, out int64) prices.Use {
	return prices.Use{Requests: made, In: in, Out: out}
}
