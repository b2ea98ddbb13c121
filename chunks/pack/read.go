package pack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
)

// smallRead is the size up to which header and blob are read in one go.
const smallRead = 64 << 10

// Get returns the blob of d after checking the sum of its bytes.
func (s *Store) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, p := s.find(d)
	for p != nil && l.Entry < p.Entries.Load() {
		b, err := s.readEntry(p, d, l, buf)
		if err == nil {
			return b, nil
		}
		again, q := s.find(d)
		switch {
		case q != nil && again != l: // it has moved while we were reading
			l, p = again, q
		case q == nil || p.Dead().Has(l.Entry): // it was reclaimed
			return nil, s.problem("read", d, chunks.ErrMissing)
		default:
			return nil, s.problem("read", d, err)
		}
	}
	return nil, s.problem("read", d, chunks.ErrMissing)
}

// find returns where d lies, by the index, and the pack; nil for nowhere. A
// pack may go between the look at the index and the look at the packs; a chunk
// that lived in it has another place by then.
func (s *Store) find(d chunks.Digest) (index.Loc, *state.Pack) {
	l, ok := s.idx.Lookup(d)
	for ok {
		if p := s.packs.At(l.Pack); p != nil {
			return l, p
		}
		gone := l
		if l, ok = s.idx.Lookup(d); l == gone {
			break
		}
	}
	return index.Loc{}, nil
}

// readEntry reads the entry at l and checks it.
func (s *Store) readEntry(p *state.Pack, d chunks.Digest, l index.Loc, buf []byte) (chunks.Blob, error) {
	off, n := int64(l.Off)*format.SmallAlign, int(l.Len)
	if n > chunks.MaxBlob {
		return nil, fmt.Errorf("%w: the index gives it %d bytes", chunks.ErrCorrupt, n)
	}
	buf = slices.Grow(buf[:0], n+format.EntrySize) // a small blob is read behind its header
	var head [format.EntrySize]byte
	if n <= smallRead {
		both := buf[:format.EntrySize+n]
		if err := s.readPack(p, both, off); err != nil {
			return nil, err
		}
		copy(head[:], both)
		copy(both, both[format.EntrySize:])
	} else if err := errors.Join(s.readPack(p, head[:], off), s.readPack(p, buf[:n], off+format.EntrySize)); err != nil {
		return nil, err
	}
	blob := chunks.Blob(buf[:n])
	return blob, format.CheckRead(head[:], d, blob)
}

// readPack fills b from off of a pack, from memory as far as it is still there.
func (s *Store) readPack(p *state.Pack, b []byte, off int64) error {
	if w := s.writerOf(p); w != nil {
		b = b[:w.ReadAt(b, off)]
	}
	if len(b) == 0 {
		return nil
	}
	f, done, err := s.handles.Take(uint64(p.Number), func() string { return s.path(p) })
	if err != nil {
		return readError(err)
	}
	defer done()
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the pack is cut short", chunks.ErrCorrupt)
	}
	return readError(err)
}

// readError tells a pack that is not there from one that cannot be read.
func readError(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", chunks.ErrMissing, err)
	}
	return fmt.Errorf("%w: %w", chunks.ErrCorrupt, err)
}

// Batches are read in pieces of at most pieceBytes; entries closer together
// than gapBytes are read with what lies between.
const (
	pieceBytes = 4 << 20
	gapBytes   = 128 << 10
)

// A want is one chunk of a batch.
type want struct {
	d chunks.Digest
	l index.Loc
}

func (w want) off() int64 { return int64(w.l.Off) * format.SmallAlign }
func (w want) end() int64 { return w.off() + format.EntrySize + int64(w.l.Len) }

// GetMany reads want in the order of the packs, with several readers at the
// same time. See [chunks.BatchSource].
func (s *Store) GetMany(ctx context.Context, digests []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	wants := make([]want, 0, len(digests))
	for _, d := range digests {
		l, p := s.find(d)
		if p == nil || l.Entry >= p.Entries.Load() {
			if err := fn(d, nil, s.problem("read", d, chunks.ErrMissing)); err != nil {
				return err
			}
			continue
		}
		wants = append(wants, want{d, l})
	}
	slices.SortFunc(wants, func(a, b want) int {
		return cmp.Or(cmp.Compare(a.l.Pack, b.l.Pack), cmp.Compare(a.l.Off, b.l.Off))
	})
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(chunks.Readers(ctx, s.cfg.Readers))
	for len(wants) > 0 && inner.Err() == nil {
		n := piece(wants)
		part := wants[:n]
		wants = wants[n:]
		g.Go(func() error { return s.readPiece(inner, part, fn) })
	}
	return cmp.Or(g.Wait(), ctx.Err())
}

// piece returns how many of wants lie close enough to be read at once.
func piece(wants []want) int {
	n := 1
	for n < len(wants) && wants[n].l.Pack == wants[0].l.Pack &&
		wants[n].off()-wants[n-1].end() <= gapBytes && wants[n].end()-wants[0].off() <= pieceBytes {
		n++
	}
	return n
}

// readPiece reads neighbours with one call. Whatever is not right on the way
// is read again by itself, so that trouble with one chunk stays with it.
func (s *Store) readPiece(ctx context.Context, part []want, fn func(chunks.Digest, chunks.Blob, error) error) error {
	if len(part) == 1 {
		return s.readSingle(ctx, part[0], fn)
	}
	first, p := part[0].off(), s.packs.At(part[0].l.Pack)
	length := int(part[len(part)-1].end() - first)
	buf := chunks.GetBuffer(length)
	defer buf.Free()
	b := buf.Bytes[:length]
	whole := p != nil && s.readPack(p, b, first) == nil
	for _, w := range part {
		if err := s.handOut(ctx, w, b[w.off()-first:], whole, fn); err != nil {
			return err
		}
	}
	return nil
}

// handOut hands one chunk of a piece out, from what was read if that is good.
func (s *Store) handOut(ctx context.Context, w want, b []byte, read bool, fn func(chunks.Digest, chunks.Blob, error) error) error {
	entry := b[:format.EntrySize+int(w.l.Len)]
	blob := chunks.Blob(entry[format.EntrySize:])
	if !read || format.CheckRead(entry, w.d, blob) != nil {
		return s.readSingle(ctx, w, fn)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fn(w.d, blob, nil)
}

// readSingle reads one chunk of a batch by itself.
func (s *Store) readSingle(ctx context.Context, w want, fn func(chunks.Digest, chunks.Blob, error) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	buf := chunks.GetBuffer(min(int(w.l.Len), chunks.MaxBlob))
	defer buf.Free()
	blob, err := s.Get(ctx, w.d, buf.Bytes)
	if err == nil {
		buf.Bytes = blob
	}
	return fn(w.d, blob, err)
}
