package gc

import (
	"context"
	"iter"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Roots lists everything that needs chunks: the index files of all finished
// snapshots, also of those in the trash. catalog has one.
type Roots interface {
	// Each calls fn once for every root and fails if it cannot be sure that
	// it saw them all; "nothing there" must mean just that.
	//
	// A root that exists from before Each is called until after it returned
	// must be seen, also if it moves meanwhile. Listing the live snapshots
	// before the trash takes care of moves to the trash; whatever moves the
	// other way (undo) goes through [Session.Finish], like a new snapshot.
	Each(ctx context.Context, fn func(Root) error) error
}

// A Root is one immutable index file.
type Root interface {
	Index

	// ID names the file and its content: it changes when the content does.
	ID() string

	// Size returns the bytes of backed-up content that the index describes.
	// It is asked after Digests has succeeded.
	Size() int64
}

// An Index names chunks.
type Index interface {
	// Digests calls fn with all digests, in batches that are valid only
	// during the call. Digests may repeat. It fails with fs.ErrNotExist if
	// the index is gone.
	Digests(ctx context.Context, fn func([]chunks.Digest) error) error
}

// Seq makes an index of a sequence that is in memory.
type Seq iter.Seq[chunks.Digest]

// Digests implements [Index].
func (s Seq) Digests(ctx context.Context, fn func([]chunks.Digest) error) error {
	var batch []chunks.Digest
	for d := range s {
		if batch = append(batch, d); len(batch) < pinBatch {
			continue
		}
		if err := flushBatch(ctx, batch, fn); err != nil {
			return err
		}
		batch = batch[:0]
	}
	return flushBatch(ctx, batch, fn)
}

func flushBatch(ctx context.Context, batch []chunks.Digest, fn func([]chunks.Digest) error) error {
	if err := ctx.Err(); err != nil || len(batch) == 0 {
		return err
	}
	return fn(batch)
}
