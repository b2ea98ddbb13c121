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

	Stretches int                   // requests, about; default 16
	Chunks    int                   // of a stretch; default 4
	Random    *rand.Rand            // default: another one each time
	Bad       func(text string)     // told of each chunk that is damaged or missing; default: nobody
	Progress  func(done, total int) // default: nobody
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

// Run reads stretches of indexes that were chosen by chance, as far as their
// chunks are in the bucket. It fails when the bucket cannot be read at all; chunks
// that are damaged are no error but in the report.
func Run(ctx context.Context, d *catalog.Datastore, opt Options) (r Report, err error) {
	if opt.Stretches == 0 {
		opt.Stretches = 16
	}
	if opt.Chunks == 0 {
		opt.Chunks = 4
	}
	if opt.Random == nil {
		opt.Random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	list, err := d.List(ctx, catalog.ListOptions{Namespace: opt.Namespace, Depth: opt.Depth})
	if err != nil {
		return r, err
	}
	var from []catalog.Info
	for _, i := range list {
		if i.Finished() && (opt.Only == nil || opt.Only(i.Namespace, i.Snapshot().Group)) {
			from = append(from, i)
		}
	}
	r.Snapshots = len(from)
	seen := map[chunks.Digest]bool{}
	// Some of what is chosen is on the disk still, or was read before: after some
	// tries more the sample is as large as it gets.
	for try := 0; len(from) > 0 && r.Stretches < opt.Stretches && try < 8*opt.Stretches; try++ {
		i := from[opt.Random.IntN(len(from))]
		ds, err := choose(d, i, opt, seen)
		if err != nil {
			return r, fmt.Errorf("sample of %s: %w", i.Snapshot(), err)
		}
		if len(ds) == 0 {
			continue
		}
		r.Stretches++
		if err := Read(ctx, d, ds, opt.Bad, &r); err != nil {
			return r, fmt.Errorf("sample of %s: %w", i.Snapshot(), err)
		}
		if opt.Progress != nil {
			opt.Progress(r.Stretches, opt.Stretches)
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
