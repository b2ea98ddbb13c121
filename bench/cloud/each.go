package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
)

// putEach uploads every chunk as an object, as a store without packs does. Like
// ours, it reads them from the disk.
func (b *bench) putEach(ctx context.Context, round int) error {
	return b.each(ctx, func(ctx context.Context, c chunktest.Chunk) error {
		blob, err := b.plain.Get(ctx, c.Digest, nil)
		if err == nil {
			_, err = b.b.PutBytes(ctx, fmt.Sprintf("each%d/%s", round, c.Digest), blob, bucket.PutOption{New: true})
		}
		return err
	})
}

// getEach reads every chunk with a request of its own.
func (b *bench) getEach(ctx context.Context) error {
	return b.each(ctx, func(ctx context.Context, c chunktest.Chunk) error {
		got, _, err := b.b.Get(ctx, "each0/"+c.Digest.String(), 32<<20)
		if err == nil && len(got) != len(c.Blob) {
			err = fmt.Errorf("chunk %s came back with %d bytes", c.Digest.Short(), len(got))
		}
		return err
	})
}

func (b *bench) each(ctx context.Context, do func(context.Context, chunktest.Chunk) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for _, c := range b.chunks {
		g.Go(func() error { return do(ctx, c) })
	}
	return g.Wait()
}

// count prints requests per 1,000 chunks; ours may be at most a fortieth, and
// six for what does not grow with the chunks.
func (b *bench) count(what string, ours, each side) {
	per := func(n int) float64 { return float64(n) * 1000 / float64(len(b.chunks)) }
	ok := float64(ours.requests) <= float64(each.requests)/40+6
	fmt.Fprintf(b.out, "%s\t%.0f per 1,000\t%.0f per 1,000\t1 : %.0f\t%s\n", what, per(ours.requests), per(each.requests),
		float64(each.requests)/float64(ours.requests), b.verdict(ok, "1/40, and 6"))
}

// puts prints what a backup writes: a request a pack, and six.
func (b *bench) puts(st *cloud.Store, n int) {
	const packBytes = 64 << 20
	most := (st.Stats().Bytes+packBytes-1)/packBytes + 6
	fmt.Fprintf(b.out, "PUTs of a backup\t%d\t%d\t1 : %.0f\t%s\n", n, len(b.chunks), float64(len(b.chunks))/float64(n),
		b.verdict(int64(n) <= most, fmt.Sprintf("%d", most)))
}

// speed prints times; ours must be so many times as fast.
func (b *bench) speed(what string, ours, each side, times float64) {
	ratio := float64(each.took) / float64(ours.took)
	fmt.Fprintf(b.out, "%s\t%.2f s\t%.2f s\t%.2f times as fast\t%s\n", what, ours.took.Seconds(), each.took.Seconds(), ratio,
		b.verdict(ratio >= times, fmt.Sprintf("%.0f times", times)))
}

func (b *bench) verdict(ok bool, mark string) string {
	if ok {
		return mark + ": met"
	}
	b.missed++
	return mark + ": MISSED"
}

func median(sides []side) side {
	slices.SortFunc(sides, func(a, b side) int { return int(a.took - b.took) })
	return sides[len(sides)/2]
}

// listed is how many chunks the listings have, and perPack how many of them a
// pack has that is full.
const (
	listed  = 106_000
	perPack = 64 << 20 / 1258291
)

// listings lists many chunks, and as many in packs. The objects are empty files of
// the server: a listing does not show more.
func (b *bench) listings(ctx context.Context) error {
	b.proxy.Delay(0)
	defer b.proxy.Delay(b.rtt)
	list := func(dir string, objects int) (side, error) {
		for i := range objects {
			at := filepath.Join(b.objects, dir, fmt.Sprintf("%02x", i%256))
			if i < 256 {
				if err := os.MkdirAll(at, 0o750); err != nil {
					return side{}, err
				}
			}
			if err := os.WriteFile(filepath.Join(at, fmt.Sprintf("%064x", i)), nil, 0o640); err != nil {
				return side{}, err
			}
		}
		seen := 0
		s, err := b.timed(func() error {
			return b.b.List(ctx, dir+"/", func(page []bucket.Info) error { seen += len(page); return nil })
		})
		if err == nil && seen != objects {
			err = fmt.Errorf("a listing shows %d of %d objects", seen, objects)
		}
		return s, err
	}
	ours, err := list("packs", (listed+perPack-1)/perPack)
	if err != nil {
		return err
	}
	each, err := list("alone", listed)
	if err != nil {
		return err
	}
	ratio := float64(each.requests) / float64(ours.requests)
	fmt.Fprintf(b.out, "requests of a listing of %d chunks\t%d\t%d\t1 : %.0f\t%s\n", listed, ours.requests, each.requests, ratio, b.verdict(ratio >= 40, "1/40"))
	return nil
}
