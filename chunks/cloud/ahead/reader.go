package ahead

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// A Pack is what has to be known of a pack to read it.
type Pack struct {
	Number uint32 // in the table of the store
	ID     format.ID
	Size   int64
	Sealed bool
}

// A Want is a chunk that has to be read from a pack: the frame of N bytes at
// Off. The digest is zero if whatever is there is wanted.
type Want struct {
	Digest chunks.Digest
	Pack   Pack
	Entry  uint32
	Off, N int64
}

// A Reader reads packs.
type Reader struct {
	Bucket *bucket.Bucket
	Open   *layout.Opener
	Place  string // for messages

	// Missed, if given, is told of a pack of which the bucket says that it is not
	// there, and may say otherwise: then the chunks are not missing, but away.
	Missed func(context.Context, format.ID) error
}

// Read reads wants, which lie one behind the other in one pack, with one
// request, and hands each over when it is here and has been checked. A blob is
// valid only during the call. What cannot be read is handed over as an error:
// Read itself fails when fn does or ctx ends. Of a pack that was cut, what is
// left is read, and what lay behind its end is damaged.
func (r Reader) Read(ctx context.Context, wants []Want, fn func(Want, chunks.Digest, chunks.Blob, error) error) error {
	p := wants[0].Pack
	err := r.read(ctx, &wants, p.Size, fn)
	if len(wants) > 0 && errors.Is(err, bucket.ErrLength) {
		var info bucket.Info
		info, err = r.Bucket.Head(ctx, layout.PackKey(p.ID))
		switch {
		case err != nil:
		case info.Size == p.Size:
			err = errors.New("the store says of a pack that it is whole, and that it ends early")
		default:
			return r.readCut(ctx, wants, info.Size, fn)
		}
	}
	if len(wants) > 0 && errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrNoBucket) && r.Missed != nil && ctx.Err() == nil {
		if other := r.Missed(ctx, p.ID); other != nil {
			err = fmt.Errorf("%w: %w", chunks.ErrAway, other)
		}
	}
	return r.fail(ctx, wants, err, fn)
}

// Each is Read of a stretch in which a chunk lies twice if it was asked for twice.
func (r Reader) Each(ctx context.Context, wants []Want, fn func(Want, chunks.Digest, chunks.Blob, error) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	unique := slices.CompactFunc(slices.Clone(wants), func(a, b Want) bool { return a.Off == b.Off })
	i := 0
	return r.Read(ctx, unique, func(w Want, d chunks.Digest, b chunks.Blob, err error) error {
		for ; i < len(wants) && wants[i].Off == w.Off; i++ {
			if cerr := ctx.Err(); cerr != nil {
				return cerr
			}
			if ferr := fn(w, d, b, err); ferr != nil {
				return ferr
			}
		}
		return nil
	})
}

// readCut is Read of a pack that has not the length that it should.
func (r Reader) readCut(ctx context.Context, wants []Want, size int64, fn func(Want, chunks.Digest, chunks.Blob, error) error) error {
	whole := slices.IndexFunc(wants, func(w Want) bool { return w.Off+w.N > size })
	if whole < 0 {
		whole = len(wants)
	}
	here, cut := wants[:whole], wants[whole:]
	if whole > 0 {
		err := r.read(ctx, &here, size, fn)
		if err := r.fail(ctx, here, err, fn); err != nil {
			return err
		}
	}
	return r.fail(ctx, cut, fmt.Errorf("%w: its pack has %d bytes, want %d", chunks.ErrCorrupt, size, wants[0].Pack.Size), fn)
}

// A stop is what fn returned.
type stop struct{ error }

// read is Read of a pack of size bytes, and leaves in wants what was not handed over.
func (r Reader) read(ctx context.Context, wants *[]Want, size int64, fn func(Want, chunks.Digest, chunks.Blob, error) error) error {
	all, id, sealed := *wants, (*wants)[0].Pack.ID, (*wants)[0].Pack.Sealed
	parts := make([]bucket.Part, len(all))
	for i, w := range all {
		parts[i] = bucket.Part{Off: w.Off, N: w.N}
	}
	return r.Bucket.GetParts(ctx, layout.PackKey(id), parts, size, func(i int, frame []byte) error {
		*wants = all[i+1:]
		d, b, err := r.Open.Frame(id, sealed, all[i].Off, frame)
		if want := all[i].Digest; err == nil && want != (chunks.Digest{}) && d != want {
			err = fmt.Errorf("%w: another chunk lies in its place", chunks.ErrCorrupt)
		}
		if err := r.hand(all[i], d, b, err, fn); err != nil {
			return stop{err}
		}
		return nil
	})
}

// fail hands over why wants were not read.
func (r Reader) fail(ctx context.Context, wants []Want, err error, fn func(Want, chunks.Digest, chunks.Blob, error) error) error {
	if s := (stop{}); errors.As(err, &s) {
		return s.error
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, w := range wants {
		if err := r.hand(w, w.Digest, nil, err, fn); err != nil {
			return err
		}
	}
	return nil
}

func (r Reader) hand(w Want, d chunks.Digest, b chunks.Blob, err error, fn func(Want, chunks.Digest, chunks.Blob, error) error) error {
	if err == nil {
		return fn(w, d, b, nil)
	}
	if w.Digest != (chunks.Digest{}) {
		d = w.Digest
	}
	return fn(w, d, nil, &chunks.Error{Op: "read", Digest: d, Place: r.Place, Err: chunkError(err)})
}

// chunkError says what an error of a bucket means for a chunk.
func chunkError(err error) error {
	switch {
	case errors.Is(err, chunks.ErrAway), errors.Is(err, chunks.ErrMissing), errors.Is(err, chunks.ErrCorrupt):
		return err
	case errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrNoBucket): // of the pack
		return fmt.Errorf("%w: %w", chunks.ErrMissing, err)
	case errors.Is(err, bucket.ErrShort):
		return fmt.Errorf("%w: %w", chunks.ErrCorrupt, err)
	case errors.As(err, new(*bucket.Error)): // whatever keeps the bucket from giving it
		return fmt.Errorf("%w: %w", chunks.ErrAway, err)
	}
	return err
}
