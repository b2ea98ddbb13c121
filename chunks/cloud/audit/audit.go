// Package audit compares what a bucket lists with what should be in it.
package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// A Report is what was found, and what was done about it.
type Report struct {
	Objects  int            `json:"objects"`
	Bytes    int64          `json:"bytes"`
	Missing  []format.ID    `json:"missing,omitempty"`  // packs
	Wrong    []format.ID    `json:"wrong,omitempty"`    // packs of another length
	Archived int            `json:"archived,omitempty"` // packs that are to be thawed before they can be read, as far as a listing says
	Classes  map[string]int `json:"classes"`            // objects by storage class
	Orphans  []string       `json:"orphans,omitempty"`  // objects that no root names, older than the grace
	Foreign  []string       `json:"foreign,omitempty"`  // objects of no form of ours: somebody else's, which stay
	Deleted  int            `json:"deleted"`
	Rescued  int            `json:"rescued"` // chunks of packs that are gone which this machine had still, or dead packs of the bucket

	Restored []string `json:"restored,omitempty"` // small objects that were gone or damaged, and were written anew
	Gone     []string `json:"gone,omitempty"`     // those that could not be
}

// A Pack should be in the bucket.
type Pack struct {
	ID   format.ID
	Size int64
}

// Gone asks for packs one by one, some at a time, and returns those that the bucket
// has not, or not as long as they should be. Before it says so of any, there is
// asked, once, whether the bucket is the right one at all.
func Gone(ctx context.Context, b *bucket.Bucket, packs []Pack, there func(context.Context) error) (map[format.ID]bool, error) {
	gone, bad := map[format.ID]bool{}, false
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, p := range packs {
		g.Go(func() error {
			info, err := b.Head(gctx, layout.PackKey(p.ID))
			if err != nil && !errors.Is(err, bucket.ErrNotFound) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			gone[p.ID] = err != nil || info.Size != p.Size
			bad = bad || gone[p.ID]
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if bad {
		if err := there(ctx); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// parallel is how many requests of a kind are made at a time.
const parallel = 8

// Named returns whether a key belongs to a store whose newest root is h, and to
// which the keys in keep belong as well; of the roots those that are not older
// than so many.
func Named(h layout.Head, keep []string, roots uint64) func(key string) bool {
	named := map[string]bool{layout.OwnerKey: true, layout.FormatCopyKey: true}
	for _, key := range keep {
		named[key] = true
	}
	for _, t := range h.Dead {
		named[layout.PackKey(t.Pack)] = true
	}
	return func(key string) bool {
		if name, is := strings.CutPrefix(key, layout.RootDir); is {
			seq, ok := layout.ParseSeq(name)
			return !ok || seq.N+roots > h.Seq.N // older ones had a lock when they were to go, or a bad day
		}
		return named[key]
	}
}

// Orphans returns what nothing names and is older than the grace, in order: of what has
// the form of ours. Another store may lie below this one, and its objects are not garbage.
func Orphans(found map[string]bucket.Info, named func(key string) bool, grace time.Duration) (keys []string) {
	for key, o := range found {
		if layout.Ours(key) && !named(key) && time.Since(o.Time) > grace {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Due returns the keys of dead packs that may be deleted, and notes in dead that they
// are: the grace is over, and so is what holds them.
func Due(dead []layout.Tombstone, grace time.Duration, now time.Time) (keys []string) {
	for i, t := range dead {
		if !t.Deleted && now.Sub(t.Since) >= grace && !now.Before(t.Held) {
			keys = append(keys, layout.PackKey(t.Pack))
			dead[i].Deleted, dead[i].Since = true, time.Time{}
		}
	}
	return keys
}

// Newer reports whether there are roots behind seq.
func Newer(found map[string]bucket.Info, seq layout.Seq) bool {
	for key := range found {
		if is, ok := layout.ParseSeq(strings.TrimPrefix(key, layout.RootDir)); ok && seq.Less(is) {
			return true
		}
	}
	return false
}

// Compare compares objects with packs. It fails if so much would be gone that the
// listing is not to be believed: more than one pack, and more than one in a hundred.
func Compare(found map[string]bucket.Info, packs []Pack) (r Report, err error) {
	r.Classes = map[string]int{}
	for key, o := range found {
		if !layout.Ours(key) {
			r.Foreign = append(r.Foreign, key)
			continue
		}
		r.Objects, r.Bytes = r.Objects+1, r.Bytes+o.Size
		r.Classes[o.Class]++
	}
	slices.Sort(r.Foreign)
	for _, p := range packs {
		o, ok := found[layout.PackKey(p.ID)]
		switch {
		case !ok:
			r.Missing = append(r.Missing, p.ID)
		case o.Size != p.Size:
			r.Wrong = append(r.Wrong, p.ID)
		}
		if _, archive := prices.RetrievalOf(o.Class, "Bulk"); archive {
			r.Archived++
		}
	}
	if gone := len(r.Missing) + len(r.Wrong); gone > 1 && gone*100 > len(packs) {
		err = fmt.Errorf("%w: %d of %d packs would be gone; nothing was put back or deleted", bucket.ErrListing, gone, len(packs))
	}
	return r, err
}
