package index

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
)

var errStop = errors.New("the caller has seen enough")

// All returns every digest that a lookup finds, in ascending order, and its
// place. Changes made meanwhile may be in it or not. Once the loop is over,
// failed says whether it ended early because ctx did, or a run could not be
// read or was damaged.
func (x *Index) All(ctx context.Context) (all iter.Seq2[chunks.Digest, Loc], failed func() error) {
	var err error
	all = func(yield func(chunks.Digest, Loc) bool) {
		err = x.scan(ctx, yield)
	}
	return all, func() error { return err }
}

func (x *Index) scan(ctx context.Context, yield func(chunks.Digest, Loc) bool) error {
	delta := x.snapshot()
	v := x.view.Load() // after the delta, as in find
	defer runtime.KeepAlive(v)
	sources := []source{&delta}
	for _, r := range v.runs {
		sources = append(sources, &runSource{r: r})
	}
	err := merge(ctx, sources, keepFirst, func(r *record) error {
		if !r.dead() && !yield(*r.digest(), r.loc()) {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// snapshot returns the records of the delta in ascending order, those of one
// digest newest first.
func (x *Index) snapshot() sliceSource {
	var recs sliceSource
	for i := range x.shards {
		t := x.shards[i].tables.Load()
		t.active.each(func(r *record) { recs = append(recs, r) })
		t.frozen.each(func(r *record) { recs = append(recs, r) })
	}
	slices.SortStableFunc(recs, func(a, b *record) int {
		return bytes.Compare(a[:chunks.DigestSize], b[:chunks.DigestSize])
	})
	return recs
}
