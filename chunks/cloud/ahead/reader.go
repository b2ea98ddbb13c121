package ahead

import (
	"context"
	"errors"
	"fmt"

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
}

// Read reads wants, which lie one behind the other in one pack, with one
// request, and hands each over when it is here and has been checked. A blob is
// valid only during the call. What cannot be read is handed over as an error:
// Read itself fails when fn does or ctx ends.
func (r Reader) Read(ctx context.Context, wants []Want, fn func(Want, chunks.Digest, chunks.Blob, error) error) error {
	p := wants[0].Pack
	parts := make([]bucket.Part, len(wants))
	for i, w := range wants {
		parts[i] = bucket.Part{Off: w.Off, N: w.N}
	}
	done := 0
	var stopped error
	err := r.Bucket.GetParts(ctx, layout.PackKey(p.ID), parts, p.Size, func(i int, frame []byte) error {
		done = i + 1
		d, b, err := r.Open.Frame(p.ID, p.Sealed, wants[i].Off, frame)
		if want := wants[i].Digest; err == nil && want != (chunks.Digest{}) && d != want {
			err = fmt.Errorf("%w: another chunk lies in its place", chunks.ErrCorrupt)
		}
		stopped = r.hand(wants[i], d, b, err, fn)
		return stopped
	})
	switch {
	case stopped != nil:
		return stopped
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	}
	for _, w := range wants[done:] {
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
	if errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrNoBucket) {
		return fmt.Errorf("%w: %w", chunks.ErrMissing, err)
	}
	if errors.Is(err, bucket.ErrShort) {
		return fmt.Errorf("%w: %w", chunks.ErrCorrupt, err)
	}
	return err
}
