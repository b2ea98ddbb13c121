package archive

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A Target is where a backup goes: a snapshot in the making, in a local
// datastore or at a PBS server. The manifest is not its concern: [Backup]
// returns it, and whoever made the target finishes the snapshot with it, or
// throws it away if Backup failed.
type Target interface {
	// Open begins an archive, whose name ends in .fidx or .didx and comes once.
	// The size in bytes is that of the image; -1 means that it is not known.
	Open(ctx context.Context, archive string, size int64) (Sink, error)

	// PutBlob adds a small file, whose name ends in .blob. b is encoded as the
	// manifest will say.
	PutBlob(ctx context.Context, archive string, b chunks.Blob) error
}

// A Sink takes the chunks of one archive. One that is a [chunks.Knower] as well
// is asked before a chunk is compressed: a server's sink knows what the
// previous snapshot had, a local one what the store has.
//
// Put and Known are called by several goroutines at a time, the others by one
// after the other. Nothing is committed: that is part of finishing the
// snapshot. A sink that is not closed belongs to a backup that failed.
type Sink interface {
	chunks.Writer

	// Append says where a chunk belongs that was put, or that Known reported.
	// Those of a .didx come in order, each where the one before ended; those
	// of a .fidx come in any order.
	Append(ctx context.Context, s chunks.Stored) error

	// Close ends the archive. idx names what was appended.
	Close(ctx context.Context, idx chunks.Index) error
}

// A watched sink tells the whole backup at once that it failed. Ingest returns
// only when its source has returned, and the catalog's may be waiting for a
// tree that is slow to read.
type watched struct {
	Sink
	archive string
	fail    func(error)
}

// Known makes use of the sink's knowledge, if it has any.
func (w watched) Known(d chunks.Digest) bool {
	k, ok := w.Sink.(chunks.Knower)
	return ok && k.Known(d)
}

// Put stores a chunk.
func (w watched) Put(ctx context.Context, d chunks.Digest, b chunks.Blob) (bool, error) {
	known, err := w.Sink.Put(ctx, d, b)
	w.tell(err)
	return known, err
}

// Take stores a chunk in a buffer, which it frees.
func (w watched) Take(ctx context.Context, d chunks.Digest, b *chunks.Buffer) (bool, error) {
	known, err := chunks.PutBuffer(ctx, w.Sink, d, b)
	w.tell(err)
	return known, err
}

// Append says where a chunk belongs.
func (w watched) Append(ctx context.Context, s chunks.Stored) error {
	err := w.Sink.Append(ctx, s)
	w.tell(err)
	return err
}

func (w watched) tell(err error) {
	if err != nil && !errors.Is(err, context.Canceled) { // that has its reason elsewhere
		w.fail(fmt.Errorf("back up %s: %w", w.archive, err))
	}
}
