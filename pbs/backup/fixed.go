package backup

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// fixedBuilder makes the index of an image.
type fixedBuilder struct {
	*chunks.FixedBuilder
	size  int64 // of the image; 0: told when it is closed
	based bool  // on the index of the last backup: the client tells what changed
	small int   // chunks uploaded that are shorter than a slot
}

// createFixed answers POST /fixed_index.
func (s *Session) createFixed(p *upgrade.Params, w http.ResponseWriter, r *http.Request) error {
	name, b := p.Archive("archive-name"), &fixedBuilder{based: p.Has("reuse-csum")}
	if p.Has("size") || b.based {
		b.size = p.Int("size", 1, math.MaxInt64)
	}
	var csum chunks.Digest
	if b.based {
		csum = p.Digest("reuse-csum")
	}
	switch {
	case p.Err() != nil:
		return p.Err()
	case !strings.HasSuffix(name, ".fidx"):
		return fmt.Errorf("wrong archive extension: %s", name)
	}
	var err error
	if b.based {
		b.FixedBuilder, err = s.change(r, name, b.size, csum)
	} else {
		b.FixedBuilder, err = chunks.NewFixedBuilder(b.size, chunks.SlotSize)
	}
	if err != nil {
		return err
	}
	return s.create(w, &index{kind: fixedKind, name: name, builder: b})
}

// change begins an index that differs from that of the last backup, which
// must have the checksum that the client remembers, in what is put.
func (s *Session) change(r *http.Request, name string, size int64, csum chunks.Digest) (*chunks.FixedBuilder, error) {
	if s.base.Time == 0 {
		return nil, errors.New("cannot reuse index - no valid previous backup exists")
	}
	x, err := s.baseIndex(r.Context(), name)
	if err != nil {
		return nil, fmt.Errorf("cannot reuse index - %w", err)
	}
	last, ok := x.(*chunks.Fixed)
	switch {
	case !ok:
		return nil, errors.New("cannot reuse index - no previous backup exists for archive")
	case last.Csum() != csum:
		return nil, fmt.Errorf("expected csum (%s) doesn't match last backup's (%s), cannot do incremental backup", csum, last.Csum())
	case last.ChunkSize() != chunks.SlotSize:
		return nil, fmt.Errorf("cannot reuse index - its chunks have %d bytes, want %d", last.ChunkSize(), chunks.SlotSize)
	}
	b, err := last.Change(size)
	if err != nil {
		return nil, fmt.Errorf("clone_data_from failed - index sizes not equal: %w", err)
	}
	return b, nil
}

// appendFixed answers PUT /fixed_index.
func (s *Session) appendFixed(p *upgrade.Params, w http.ResponseWriter, _ *http.Request) error {
	return s.appendChunks(p, w, fixedKind)
}

// closeFixed answers POST /fixed_close.
func (s *Session) closeFixed(p *upgrade.Params, w http.ResponseWriter, _ *http.Request) error {
	id := int(p.Int("wid", 1, maxID))
	c := closing{p.Int("chunk-count", 0, math.MaxInt64), p.Int("size", 0, math.MaxInt64), p.Digest("csum")}
	if err := p.Err(); err != nil {
		return err
	}
	return s.closeIndex(w, fixedKind, id, c)
}

func (b *fixedBuilder) put(offset, length int64, d chunks.Digest) error {
	if b.size > 0 && offset > b.size-length {
		return fmt.Errorf("chunk data exceeds size (%d >= %d)", uint64(offset)+uint64(length), b.size)
	}
	return b.Put(offset, length, d)
}

// uploaded looks at the length of a chunk. An image has one short chunk at
// most, its last, so a client that sends two has cut it wrong.
func (b *fixedBuilder) uploaded(size int64) error {
	switch {
	case size > chunks.SlotSize:
		return fmt.Errorf("got large chunk (%d > %d)", size, chunks.SlotSize)
	case size == chunks.SlotSize:
		return nil
	}
	if b.small++; b.small > 1 {
		return errors.New("detected multiple end chunks (chunk size too small)")
	}
	return nil
}

// finish checks what the client says of the image. If it is based on the last
// one, that is only what has changed.
func (b *fixedBuilder) finish(c closing) (chunks.Index, error) {
	x, err := b.Finish(stamp())
	switch {
	case err != nil:
		return nil, err
	case b.based:
	case c.count != int64(x.Len()):
		return nil, fmt.Errorf("unexpected chunk count (%d != %d)", c.count, x.Len())
	case c.size != x.Size():
		return nil, fmt.Errorf("unexpected image size (%d != %d)", c.size, x.Size())
	}
	return x, nil
}
