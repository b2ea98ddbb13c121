// Package thaw gets back what a rule of the bucket has moved into an archive: one
// request for each object, a pack of some thousand chunks at a time.
//
// It keeps no state: a listing tells which objects are archived, which of these
// are being restored, and which can be read. So it can be cut off anywhere and
// begun again, and asks for nothing twice.
package thaw

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
)

var tiers = [...]string{"Bulk", "Standard", "Expedited"}

// Tiers returns the ways to ask, the cheapest first.
func Tiers() []string { return tiers[:] }

// A Sum is of some objects.
type Sum struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (s *Sum) add(size int64) { s.Objects, s.Bytes = s.Objects+1, s.Bytes+size }

// A State says what of a bucket can be read.
type State struct {
	Readable  Sum            `json:"readable"`  // never archived
	Restored  Sum            `json:"restored"`  // archived, and there is a copy that can be read
	Restoring Sum            `json:"restoring"` // such a copy is being made
	Archived  map[string]Sum `json:"archived"`  // nobody has asked, by class
	keys      []string
}

// Look lists a bucket, a request for every 1,000 objects.
func Look(ctx context.Context, b *bucket.Bucket) (*State, error) {
	s := &State{Archived: map[string]Sum{}}
	err := b.ListRestoring(ctx, layout.Root, func(page []bucket.Info) error {
		for _, o := range page {
			s.add(o)
		}
		return nil
	})
	return s, err
}

func (s *State) add(o bucket.Info) {
	_, archived := prices.RetrievalOf(o.Class, "Bulk")
	switch {
	case !archived:
		s.Readable.add(o.Size)
	case o.Restoring:
		s.Restoring.add(o.Size)
	case o.Restored.After(time.Now()): // that is how long the copy is there
		s.Restored.add(o.Size)
	default:
		sum := s.Archived[o.Class]
		sum.add(o.Size)
		s.Archived[o.Class] = sum
		s.keys = append(s.keys, o.Key)
	}
}

// A Plan is what it takes to read all again.
type Plan struct {
	State
	Tier     string  `json:"tier"`
	Days     int     `json:"days"`     // the copies stay
	Requests int64   `json:"requests"` // to be made
	Hours    int     `json:"hours"`    // until all can usually be read
	Cost     float64 `json:"cost"`     // of the retrieval; USD, list prices of AWS
	PricesOf string  `json:"prices-of"`
}

// Plan says what it takes with a tier. It fails if that is not offered for one
// of the classes.
func (s *State) Plan(tier string, days int) (p Plan, err error) {
	p = Plan{State: *s, Tier: tier, Days: days, Requests: int64(len(s.keys)), PricesOf: prices.RetrievalsDate}
	for class, sum := range s.Archived {
		r, offered := prices.RetrievalOf(class, tier)
		if !offered {
			return p, fmt.Errorf("%d objects are in %s, for which %q is not offered", sum.Objects, class, tier)
		}
		p.Hours = max(p.Hours, r.Hours)
		p.Cost += r.Cost(sum.Objects, sum.Bytes)
	}
	return p, nil
}

// Asked says what was done.
type Asked struct {
	Now    int64 `json:"asked"`
	Before int64 `json:"asked-before"` // by somebody else meanwhile
}

// Ask asks for copies of all that is archived, as p says. done, if given, is told
// of progress, from several goroutines.
func Ask(ctx context.Context, b *bucket.Bucket, p Plan, done func(asked int64)) (Asked, error) {
	var now, before atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(b.Account().Conns())
	for _, key := range p.keys {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			asked, err := b.Restore(gctx, key, p.Days, p.Tier)
			switch {
			case err != nil:
				return err
			case !asked:
				before.Add(1)
				return nil
			}
			if n := now.Add(1); done != nil {
				done(n)
			}
			return nil
		})
	}
	err := g.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	return Asked{now.Load(), before.Load()}, err
}

// Manifest writes what is archived as S3 Batch Operations read it: a line of
// bucket and key for each object, the key as in a URL.
func (s *State) Manifest(w io.Writer, b *bucket.Bucket) error {
	_, _, name, prefix, _ := b.Place()
	out := csv.NewWriter(w)
	for _, key := range s.keys {
		if err := out.Write([]string{name, (&url.URL{Path: prefix + key}).EscapedPath()}); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
