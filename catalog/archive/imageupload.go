package archive

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// maxImageReaders is how many slots of an image are read at the same time. Two
// hide the wait for a disk behind the work on what it gave before, four the
// wait for a disk in a network.
const maxImageReaders = 4

// An imageUpload takes one image in, by several pipelines at the same time.
type imageUpload struct {
	b     *backup
	sink  watched
	image *imageFile

	mu    sync.Mutex // guards what follows, and the order of calls of Append
	index *chunks.FixedBuilder
	stats chunks.IngestStats
}

// image takes a disk image into a fixed index.
func (b *backup) image(ctx context.Context, s Source) error {
	start := time.Now()
	img, err := openImage(s.Path)
	if err != nil {
		return err
	}
	defer img.file.Close()
	sink, err := b.open(ctx, s.Archive(), img.size)
	if err != nil {
		return err
	}
	up := &imageUpload{b: b, sink: sink, image: img}
	x, err := up.run(ctx)
	if err != nil {
		return fmt.Errorf("back up %s: %w", s, err)
	}
	if err := sink.Close(ctx, x); err != nil {
		return fmt.Errorf("finish %s: %w", s.Archive(), err)
	}
	if how := img.changed(); how != "" {
		b.sum.Warnings.add("image %s may be torn: %s", s.Path, how)
	}
	return b.add(s.Archive(), x.Size(), x.Csum(), Counts{IngestStats: up.stats}, start)
}

func (u *imageUpload) run(ctx context.Context) (x *chunks.Fixed, err error) {
	if u.index, err = chunks.NewFixedBuilder(u.image.size, chunks.SlotSize); err != nil {
		return nil, err
	}
	workers := u.b.cfg.Workers
	readers := min(workers, maxImageReaders)
	g, ctx := errgroup.WithContext(ctx)
	for k := range readers {
		share := (workers + k) / readers // they sum up to workers
		g.Go(func() error { return u.ingest(ctx, share) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return u.index.Finish(chunks.NewUUID(), u.b.start)
}

// ingest is one pipeline.
func (u *imageUpload) ingest(ctx context.Context, workers int) error {
	stats, err := chunks.Ingest(ctx, u.sink, imageCutter{u.image}, u.b.ingest(workers), func(s chunks.Stored) error {
		u.b.meter.stored(s)
		u.mu.Lock()
		defer u.mu.Unlock()
		if err := u.index.Put(s.Offset, int64(s.Size), s.Digest); err != nil {
			return err
		}
		return u.sink.Append(ctx, s)
	})
	u.mu.Lock()
	defer u.mu.Unlock()
	c := Counts{IngestStats: u.stats}
	c.add(Counts{IngestStats: stats})
	u.stats = c.IngestStats
	return err
}
