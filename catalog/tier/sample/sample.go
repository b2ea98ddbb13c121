// Package sample reads a little of what a datastore has in its bucket.
//
// To read all of it costs what a restore of all of it costs. An audit, which is
// a listing, finds packs that are gone; a sample finds what a listing does not
// show: bytes that changed, a key that does not open them any more, reads that
// are refused. Each stretch is some chunks that lie together, and one request.
// Read is what snapshots need, whatever the cache has of it.
package sample

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// Options say what is read. The zero value of an optional field means its
// default.
type Options struct {
	Namespace catalog.Namespace
	Depth     int                                         // levels below Namespace; negative: all
	Only      func(catalog.Namespace, catalog.Group) bool // default: all groups

	Stretches int                   // requests, about; default 16, or with MaxBytes as many as they allow
	MaxBytes  int64                 // that are read from the bucket at most; default: no bound
	Cost      Cost                  // needed for MaxBytes
	Chunks    int                   // of a stretch; default 4
	Random    *rand.Rand            // default: another one each time
	Bad       func(text string)     // told of each chunk that is damaged or missing; default: nobody
	Progress  func(done, total int) // default: nobody
}

// A Cost says what it takes to read chunks that lie in the bucket.
type Cost func([]chunks.Digest) (requests, bytes int64)

// A Stretch is some chunks that lie together.
type Stretch struct {
	Snapshot catalog.Snapshot
	Digests  []chunks.Digest
}

// A Choice is what a sample is going to read.
type Choice struct {
	Snapshots       int // to choose from
	Stretches       []Stretch
	Requests, Bytes int64 // by Cost
}

// A Report says what was read.
type Report struct {
	Snapshots int   `json:"snapshots"` // to choose from
	Stretches int   `json:"stretches"`
	Chunks    int   `json:"chunks"`
	Bytes     int64 `json:"bytes"`
	Damaged   int   `json:"damaged"` // they are denied from then on, so that whoever has them stores them again
	Missing   int   `json:"missing"`

	Gone []chunks.Digest `json:"-"` // those that are missing
}

// Bad is how many chunks were not as they should be.
func (r Report) Bad() int { return r.Damaged + r.Missing }

// Choose chooses stretches by chance, as far as their chunks are in the bucket. The
// bucket is asked nothing.
func Choose(ctx context.Context, d *catalog.Datastore, opt Options) (c Choice, err error) {
	if opt.Stretches == 0 && opt.MaxBytes > 0 {
		opt.Stretches = maxStretches
	}
	if opt.Stretches == 0 {
		opt.Stretches = 16
	}
	if opt.Chunks == 0 {
		opt.Chunks = 4
	}
	if opt.Random == nil {
		opt.Random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if opt.Cost == nil {
		opt.Cost = func([]chunks.Digest) (int64, int64) { return 0, 0 }
	}
	list, err := d.List(ctx, catalog.ListOptions{Namespace: opt.Namespace, Depth: opt.Depth})
	if err != nil {
		return c, err
	}
	var from []catalog.Info
	for _, i := range list {
		if i.Finished() && (opt.Only == nil || opt.Only(i.Namespace, i.Snapshot().Group)) {
			from = append(from, i)
		}
	}
	c.Snapshots = len(from)
	seen := map[chunks.Digest]bool{}
	// Some of what is chosen is on the disk still, or was chosen before, or costs more
	// than is left: after some tries more the sample is as large as it gets.
	for vain := 0; len(from) > 0 && len(c.Stretches) < opt.Stretches && vain < 8*min(opt.Stretches, 16) && ctx.Err() == nil; {
		i := from[opt.Random.IntN(len(from))]
		ds, err := choose(d, i, opt, seen)
		if err != nil {
			return c, fmt.Errorf("sample of %s: %w", i.Snapshot(), err)
		}
		requests, bytes := opt.Cost(ds)
		if len(ds) == 0 || opt.MaxBytes > 0 && c.Bytes+bytes > opt.MaxBytes {
			vain++
			continue
		}
		vain = 0
		c.Stretches = append(c.Stretches, Stretch{i.Snapshot(), ds})
		c.Requests, c.Bytes = c.Requests+requests, c.Bytes+bytes
	}
	return c, ctx.Err()
}

// maxStretches is as many as anybody reads: with 16 MiB each they are 1.5 TiB.
const maxStretches = 100_000

// Run reads what [Choose] chooses.
func Run(ctx context.Context, d *catalog.Datastore, opt Options) (Report, error) {
	c, err := Choose(ctx, d, opt)
	if err != nil {
		return Report{Snapshots: c.Snapshots}, err
	}
	return c.Run(ctx, d, opt)
}

// Run reads what was chosen. It fails when the bucket cannot be read at all; chunks
// that are damaged are no error but in the report.
func (c Choice) Run(ctx context.Context, d *catalog.Datastore, opt Options) (r Report, err error) {
	r.Snapshots = c.Snapshots
	for _, s := range c.Stretches {
		r.Stretches++
		if err := Read(ctx, d, s.Digests, opt.Bad, &r); err != nil {
			return r, fmt.Errorf("sample of %s: %w", s.Snapshot, err)
		}
		if opt.Progress != nil {
			opt.Progress(r.Stretches, len(c.Stretches))
		}
	}
	return r, ctx.Err()
}

// choose returns chunks of a snapshot that follow each other in an index and lie
// in one pack of the bucket; none if there are none where it looked.
func choose(d *catalog.Datastore, i catalog.Info, opt Options, seen map[chunks.Digest]bool) (ds []chunks.Digest, err error) {
	var indexes []string
	for _, f := range i.Files {
		if roots.IsIndex(f.Name) {
			indexes = append(indexes, f.Name)
		}
	}
	if len(indexes) == 0 {
		return nil, nil
	}
	x, err := d.ReadIndex(i.Namespace, i.Snapshot(), indexes[opt.Random.IntN(len(indexes))])
	if err != nil || x.Len() == 0 {
		return nil, err
	}
	at, in := opt.Random.IntN(x.Len()), uint32(0)
	for n := at; n < min(at+64, x.Len()) && len(ds) < opt.Chunks; n++ {
		c := x.Digest(n)
		ref, held := d.Chunks().Locate(c)
		if !held || !remote(ref) || seen[c] {
			continue // what is missing altogether is the business of a full verification
		}
		if len(ds) > 0 && ref.Pack != in {
			break
		}
		in, seen[c] = ref.Pack, true
		ds = append(ds, c)
	}
	return ds, nil
}

// remote tells whether a place is in the bucket; see package cloud.
func remote(r pack.Ref) bool { return r.Pack%2 == 1 }

// Read reads chunks and compares each with its name, or, if it is encrypted by a
// client, with its sums. bad may be nil.
func Read(ctx context.Context, d *catalog.Datastore, ds []chunks.Digest, bad func(string), r *Report) error {
	var mu sync.Mutex // of what follows, and of r
	var failed error
	err := d.Bulk().GetMany(ctx, ds, func(c chunks.Digest, b chunks.Blob, err error) error {
		if err == nil {
			err = b.Verify(c, nil)
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			r.Chunks, r.Bytes = r.Chunks+1, r.Bytes+int64(len(b))
			return nil
		case errors.Is(err, chunks.ErrCorrupt):
			r.Damaged++
			if ref, held := d.Chunks().Locate(c); held {
				failed = errors.Join(failed, d.Chunks().Quarantine(ref))
			}
		case errors.Is(err, chunks.ErrMissing):
			r.Missing, r.Gone = r.Missing+1, append(r.Gone, c)
		default:
			return err // the bucket, not the chunk
		}
		if bad != nil {
			bad(fmt.Sprintf("chunk %s: %v", c.Short(), err))
		}
		return nil
	})
	return errors.Join(err, failed)
}
