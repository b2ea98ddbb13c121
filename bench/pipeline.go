package main

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// pipelineSuite runs the whole way of a stream into a store, on all
// processors, against the same with a place that forgets everything.
func pipelineSuite(ctx context.Context, b *bench) error {
	for _, c := range []struct {
		what string
		data []byte
		n    int // times data
	}{
		{"text", chunktest.Text(1, 64<<20), b.scaled(20)},
		{"random", chunktest.Random(1, 256<<20), b.scaled(20)},
	} {
		with := func() (float64, error) {
			dir, err := b.sub("pipeline")
			if err != nil {
				return 0, err
			}
			s, err := openNew(ctx, dir)
			if err != nil {
				return 0, err
			}
			defer s.Close()
			s.Abilities()
			return flow(ctx, s, c.data, c.n)
		}
		without := func() (float64, error) { return flow(ctx, nowhere{}, c.data, c.n) }
		ours, theirs, err := paired(b.rounds(3), with, without)
		if err != nil {
			return err
		}
		b.atLeast("split + SHA-256 + zstd-1 + CRC + store, "+c.what, ours, theirs, "MB/s", "without a store", 0.8)
		if ours >= 0.8*theirs {
			continue
		}
		limit, err := b.writeSpeedBusy(ctx, 2<<30)
		if err != nil {
			return err
		}
		b.limit("the disk's limit while the processors are busy", limit, theirs, "MB/s")
	}
	return nil
}

// flow takes n copies of data in, each made different by a few bytes in every
// 64 KiB so that no chunk is known, and returns the speed.
func flow(ctx context.Context, w chunks.Writer, data []byte, n int) (mbps float64, err error) {
	settle()
	src, err := chunks.NewSplitter(&repeated{data: data, left: n}, chunks.ArchiveAverage)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	stats, err := chunks.Ingest(ctx, w, src, chunks.IngestOptions{Encode: chunks.EncodeOptions{Compress: true}}, func(chunks.Stored) error { return nil })
	if err != nil {
		return 0, err
	}
	if err := w.Commit(ctx); err != nil {
		return 0, err
	}
	return float64(stats.Bytes) / time.Since(began).Seconds() / 1e6, nil
}

// repeated reads the same data several times, stamped with the number of the
// round.
type repeated struct {
	data  []byte
	left  int
	r     bytes.Reader
	round byte
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.r.Len() == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		r.left--
		r.round++
		r.r.Reset(r.data)
	}
	n, err := r.r.Read(p)
	for i := 0; i < n; i += 64 << 10 {
		p[i] ^= r.round
	}
	return n, err
}

// nowhere takes chunks and keeps none.
type nowhere struct{}

func (nowhere) String() string { return "nowhere" }
func (nowhere) Get(context.Context, chunks.Digest, []byte) (chunks.Blob, error) {
	return nil, chunks.ErrMissing
}
func (nowhere) Missing(_ context.Context, want []chunks.Digest) ([]chunks.Digest, error) {
	return want, nil
}
func (nowhere) Put(context.Context, chunks.Digest, chunks.Blob) (bool, error) { return false, nil }
func (nowhere) Commit(context.Context) error                                  { return nil }
