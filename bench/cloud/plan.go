package main

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
)

// order is an index of the chunks, in the order in which they were backed up.
func (b *bench) order() (chunks.Index, error) {
	var x chunks.DynamicBuilder
	for _, c := range b.chunks {
		if err := x.Append(x.End()+int64(len(c.Blob)), c.Digest); err != nil {
			return nil, err
		}
	}
	return x.Finish(chunks.NewUUID(), time.Unix(1, 0))
}

// planned is a restore as a client of the protocol does it, which asks for one
// chunk after the other, some at a time, from a store that was told the order.
func (b *bench) planned(ctx context.Context, st *cloud.Store, x chunks.Index) error {
	p := st.Plan(x)
	defer p.Close()
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range inFlight {
		g.Go(func() error {
			var buf []byte
			for i := int(next.Add(1) - 1); i < x.Len(); i = int(next.Add(1) - 1) {
				blob, err := p.Get(ctx, i, buf)
				if err != nil {
					return err
				}
				buf = blob[:0]
			}
			return nil
		})
	}
	return g.Wait()
}
