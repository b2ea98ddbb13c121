package chunks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// A Cutter cuts a stream into pieces: a [Splitter] or a [FixedSplitter].
type Cutter interface {
	// Next returns the next piece, and io.EOF after the last.
	Next(buf []byte) (Piece, error)
}

// A Knower answers quickly for one chunk whether it is held. Where the place
// pins what it promises, the chunk is pinned.
type Knower interface{ Known(d Digest) bool }

// IngestOptions says how [Ingest] works. The zero value of an optional field
// means its default.
type IngestOptions struct {
	Encode  EncodeOptions
	Workers int // chunks hashed and encoded at the same time; default: processors
}

// Stored is one piece of a stream after it has a name.
type Stored struct {
	Offset int64 // in the stream
	Size   int   // bytes of content
	Digest Digest
	Known  bool // the store had it
	Blob   int  // bytes of the blob that was stored; 0 if known
}

// IngestStats sums up what became of a stream.
type IngestStats struct {
	Chunks, NewChunks int64
	Bytes, NewBytes   int64 // of content
	StoredBytes       int64 // of blobs
}

// Ingest takes a stream into w: it names every piece, and encodes and stores
// those that w does not hold. Pieces are worked on at the same time; each is
// handed to emit in the order of the stream, by one goroutine. Nothing is
// committed. Memory is bounded by a few pieces for each worker.
func Ingest(ctx context.Context, w Writer, src Cutter, opt IngestOptions, emit func(Stored) error) (IngestStats, error) {
	in := &ingest{w: w, opt: opt, zeros: NewZeroChunks(opt.Encode)}
	workers := cmp.Or(opt.Workers, runtime.GOMAXPROCS(0))
	jobs, order := make(chan *job), make(chan *job, workers+1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(jobs)
		defer close(order)
		return in.cut(ctx, src, jobs, order)
	})
	for range workers {
		g.Go(func() error { return in.work(ctx, jobs) })
	}
	var stats IngestStats
	g.Go(func() error {
		for j := range order {
			select {
			case <-j.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			stats.add(j.stored)
			if err := emit(j.stored); err != nil {
				return err
			}
		}
		return nil
	})
	return stats, g.Wait()
}

func (s *IngestStats) add(p Stored) {
	s.Chunks++
	s.Bytes += int64(p.Size)
	if !p.Known {
		s.NewChunks++
		s.NewBytes += int64(p.Size)
		s.StoredBytes += int64(p.Blob)
	}
}

// A job is a piece on its way.
type job struct {
	piece  Piece
	buf    *Buffer
	stored Stored
	done   chan struct{}
}

type ingest struct {
	w     Writer
	opt   IngestOptions
	zeros *ZeroChunks
}

// cut reads the stream and hands its pieces out.
func (in *ingest) cut(ctx context.Context, src Cutter, jobs, order chan<- *job) error {
	room := SlotSize
	if s, ok := src.(interface{ Max() int }); ok {
		room = s.Max()
	}
	for {
		buf := GetBuffer(room)
		piece, err := src.Next(buf.Bytes)
		if err != nil {
			buf.Free()
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		j := &job{piece: piece, buf: buf, done: make(chan struct{})}
		for _, to := range []chan<- *job{order, jobs} {
			select {
			case to <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func (in *ingest) work(ctx context.Context, jobs <-chan *job) error {
	for j := range jobs {
		if err := in.store(ctx, j); err != nil {
			return fmt.Errorf("store chunk at offset %d of the stream: %w", j.piece.Offset, err)
		}
		j.buf.Free()
		close(j.done)
	}
	return nil
}

// store names one piece and stores it if need be.
func (in *ingest) store(ctx context.Context, j *job) error {
	p := j.piece
	j.stored = Stored{Offset: p.Offset, Size: len(p.Data), Known: true}
	if p.Zero {
		d, blob, err := in.zeros.Chunk(len(p.Data))
		if err != nil {
			return err
		}
		known, err := in.w.Put(ctx, d, blob)
		j.stored.became(d, known, len(blob))
		return err
	}
	d := Digest{}
	if in.opt.Encode.Key != nil {
		d = in.opt.Encode.Key.Digest(p.Data)
	} else {
		d = Sum(p.Data)
	}
	if k, ok := in.w.(Knower); ok && k.Known(d) {
		j.stored.Digest = d
		return nil
	}
	buf := GetBuffer(len(p.Data))
	blob, err := Encode(buf.Bytes, p.Data, in.opt.Encode)
	if err != nil {
		buf.Free()
		return err
	}
	buf.Bytes = blob
	known, err := PutBuffer(ctx, in.w, d, buf)
	j.stored.became(d, known, len(blob))
	return err
}

// became notes what a piece is called, and the length of its blob.
func (s *Stored) became(d Digest, known bool, blob int) {
	s.Digest, s.Known = d, known
	if !known {
		s.Blob = blob
	}
}
