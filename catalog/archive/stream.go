package archive

import (
	"context"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/catalog/archive/content"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// streamWindow is how many bytes of content are fetched and decoded ahead of
// what is written: two of the largest chunks, eight average ones. Buffers are
// up to twice as large as what is in them, and there are the encoded chunks and
// what waits for the garbage collector, so that four times as much is in use.
const streamWindow = 2 * content.MaxChunk

// Stream writes a file of the snapshot to w: an image, an archive as the
// stream that it is (.pxar, .pcat1), or a small file. The name is that of the
// server ([ServerName]). With Options.KeepGoing content that is lost is
// replaced by zeros, and Stream fails with a [DamagedError] at the end.
//
// While w takes what it was given Stream cannot be interrupted.
func (s *Snapshot) Stream(ctx context.Context, name string, w io.Writer) error {
	m := &meter{report: s.opt.Progress}
	m.begin(name)
	defer m.tick(true)
	if strings.HasSuffix(name, ".blob") {
		content, err := s.Blob(name)
		if err != nil {
			return err
		}
		m.total = int64(len(content))
		return writeOut(w, name, content, m)
	}
	dec, err := s.decoder(name)
	if err != nil {
		return err
	}
	m.total = dec.Index.Size()
	st := &streamer{dec: dec, src: s.origin.Chunks(), keep: s.opt.KeepGoing, meter: m, zeros: newZeros(dec)}
	st.bad.archive = name
	return st.run(ctx, w, s.opt.Workers)
}

func writeOut(w io.Writer, name string, p []byte, m *meter) error {
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("write out %s: %w", name, err)
	}
	m.done(int64(len(p)))
	return nil
}

// A streamer decodes chunks at the same time and writes them in order.
type streamer struct {
	dec   content.Decoder
	src   chunks.Source
	keep  bool
	meter *meter
	zeros zeros
	bad   damage
}

// maxTurns bounds how many chunks are ahead of the writer where they are so
// small that the window does not.
const maxTurns = 256

// A turn is one chunk on its way out.
type turn struct {
	i    int
	size int64
	done chan struct{} // closed when what follows is set
	zero bool          // it is all zeros, and there is no buffer
	buf  *chunks.Buffer
	err  error
}

func (s *streamer) run(ctx context.Context, w io.Writer, workers int) error {
	g, ctx := errgroup.WithContext(ctx)
	window := semaphore.NewWeighted(streamWindow)
	jobs, order := make(chan *turn), make(chan *turn, maxTurns)
	g.Go(func() error {
		defer close(jobs)
		defer close(order)
		return s.hand(ctx, window, jobs, order)
	})
	for range workers {
		g.Go(func() error {
			for t := range jobs {
				s.fetch(ctx, t)
				close(t.done)
			}
			return nil
		})
	}
	g.Go(func() error {
		for t := range order {
			if err := s.take(ctx, w, t); err != nil {
				return err
			}
			window.Release(t.size)
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return s.bad.err()
}

// hand gives out the chunks in order, as far ahead as the window allows.
func (s *streamer) hand(ctx context.Context, window *semaphore.Weighted, jobs, order chan<- *turn) error {
	for i := range s.dec.Index.Len() {
		start, end := s.dec.Index.Range(i)
		if err := window.Acquire(ctx, end-start); err != nil {
			return err
		}
		t := &turn{i: i, size: end - start, done: make(chan struct{})}
		for _, to := range []chan<- *turn{order, jobs} {
			select {
			case to <- t:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// fetch reads and decodes one chunk.
func (s *streamer) fetch(ctx context.Context, t *turn) {
	zero, err := s.zeros.is(t.i)
	if zero || err != nil {
		t.zero, t.err = zero, err
		return
	}
	t.buf, t.err = s.dec.Fetch(ctx, s.src, t.i)
	if t.err = s.dec.Failed(t.i, t.err); s.keep && lost(t.err) {
		s.bad.add(Range{s.dec.Start(t.i), s.dec.Start(t.i) + t.size}, t.err)
		t.zero, t.err = true, nil
	}
}

// take waits for a chunk and writes it.
func (s *streamer) take(ctx context.Context, w io.Writer, t *turn) error {
	select {
	case <-t.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.err != nil {
		return t.err
	}
	if !t.zero {
		defer t.buf.Free()
		return writeOut(w, s.dec.Archive, t.buf.Bytes, s.meter)
	}
	for left := t.size; left > 0; {
		n := min(left, int64(len(zeroSlot)))
		if err := writeOut(w, s.dec.Archive, zeroSlot[:n], s.meter); err != nil {
			return err
		}
		left -= n
	}
	return nil
}
