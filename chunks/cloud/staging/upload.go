package staging

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// commitEvery is after how many packs a root is written in a long offload, so
// that the disk is freed as it goes and a crash repeats little.
const commitEvery = 1024

// Upload builds packs of entries and sends them, several at a time. It calls sent
// after each pack, and commit after many and while the disk has no room for the next;
// the last commit is the caller's.
func (b *Builder) Upload(ctx context.Context, from Source, entries []pack.Entry, parallel int, sent func(), commit func() error) error {
	for len(entries) > 0 {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(parallel)
		for n := 0; n < commitEvery && len(entries) > 0 && gctx.Err() == nil; n++ {
			id, used, err := b.Build(gctx, from, entries)
			if errors.Is(err, chunks.ErrNoSpace) && (n > 0 || b.Smaller()) {
				break // what is on its way makes room, or a smaller pack has it
			}
			entries = entries[used:]
			if err != nil {
				g.Go(func() error { return err })
				break
			}
			if used == 0 || id == [16]byte{} {
				continue
			}
			g.Go(func() error { return b.Queue.Send(gctx, id) })
			sent()
		}
		if err := errors.Join(g.Wait(), ctx.Err()); err != nil || len(entries) == 0 {
			return err
		}
		if err := commit(); err != nil {
			return err
		}
	}
	return nil
}

// Options say what goes to the bucket.
type Options struct {
	After time.Duration // only what has been on the disk for so long; 0: everything

	// Order sorts what is about to be uploaded, so that what is read together
	// lies together. Default: as it is on the disk.
	Order func(context.Context, []pack.Entry) error

	// Switchover lets chunks have another place, so that pins move with them;
	// it is the collector's. Default: nothing is pinned.
	Switchover func(moves []pack.Move, apply func())

	// Progress, if given, is called after each pack.
	Progress func(Report)
}

// A Report says what an offload did.
type Report struct {
	Chunks  int    `json:"chunks"` // to upload when it began
	Bytes   int64  `json:"bytes"`
	Packs   int    `json:"packs"`   // uploaded
	Evicted int    `json:"evicted"` // chunks taken off the disk
	Root    string `json:"root"`
}
