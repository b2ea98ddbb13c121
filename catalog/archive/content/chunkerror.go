package content

import (
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A ChunkError says which part of which archive cannot be read.
type ChunkError struct {
	Archive string // server name: "root.pxar.didx"
	Offset  int64  // of the chunk's first byte in the content
	Size    int64  // bytes of content that are affected
	Digest  chunks.Digest
	Err     error
}

func (e *ChunkError) Error() string {
	return fmt.Sprintf("read %s at offset %d, chunk %s: %v", e.Archive, e.Offset, e.Digest.Short(), e.Err)
}

func (e *ChunkError) Unwrap() error { return e.Err }

// Hint says what helps against e's cause.
func (e *ChunkError) Hint() string {
	switch {
	case errors.Is(e.Err, chunks.ErrMissing), errors.Is(e.Err, chunks.ErrCorrupt):
		return "verify the datastore and heal it from another copy, restore an older snapshot, or go on without the damaged parts: --keep-going"
	case errors.Is(e.Err, chunks.ErrAway):
		return chunks.Away(e.Err)
	case errors.Is(e.Err, chunks.ErrNoKey):
		return "name the key file with --keyfile"
	case errors.Is(e.Err, chunks.ErrWrongKey):
		return "compare the key's fingerprint with the one in the snapshot's manifest"
	}
	return ""
}
