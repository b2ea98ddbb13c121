package backup

import (
	"fmt"
	"net/http"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Bounds of what a chunk may announce (§3.4).
const (
	maxID      = 256      // of an index
	maxContent = 16 << 20 // bytes
	minBlob    = chunks.PlainHeaderSize + 1
)

// putChunk answers POST /fixed_chunk and /dynamic_chunk.
func (s *Session) putChunk(w http.ResponseWriter, r *http.Request, k kind) error {
	p := upgrade.QueryParams(r)
	id := int(p.Int("wid", 1, maxID))
	digest := p.Digest("digest")
	size := p.Int("size", 1, maxContent)
	encoded := p.Int("encoded-size", minBlob, chunks.MaxBlob)
	if err := p.Err(); err != nil {
		return err
	}
	u, err := s.receive(r, encoded)
	switch e := asSizeError(err); {
	case e != nil && e.longer:
		return upgrade.Errorf(http.StatusBadRequest, "uploaded chunk is larger than announced.")
	case e != nil:
		return upgrade.Errorf(http.StatusBadRequest, "uploaded chunk has unexpected size.")
	case err != nil:
		return err
	}
	defer u.free()
	err = s.server.checked(r.Context(), func() error { return checkChunk(u.blob, digest, int(size)) })
	if err != nil {
		return err
	}
	if err := s.storeChunk(r, k, id, digest, size, u.blob); err != nil {
		return err
	}
	return upgrade.Data(w, digest)
}

// checkChunk makes sure that b holds what it is said to hold, as far as this
// can be seen without a key. It sets the CRC, which clients may leave out.
func checkChunk(b chunks.Blob, digest chunks.Digest, size int) error {
	if err := b.SetCRC(); err != nil {
		return fmt.Errorf("unable to parse chunk %s: %w", digest.Short(), err)
	}
	length, known := b.PlainLen()
	if known && length != size {
		return fmt.Errorf("detected chunk with wrong length (%d != %d)", size, length)
	}
	kind, err := b.Kind()
	switch {
	case err != nil:
		return err
	case kind.IsEncrypted():
		return nil // the digest takes the key in, and the tag covers the rest
	case kind == chunks.Plain:
		return checkContent(b[chunks.PlainHeaderSize:], digest, size)
	}
	scratch := chunks.GetBuffer(size)
	defer scratch.Free()
	content, err := b.Decode(scratch.Bytes, nil)
	if err != nil {
		return fmt.Errorf("decode chunk %s: %w", digest.Short(), err)
	}
	return checkContent(content, digest, size)
}

func checkContent(content []byte, digest chunks.Digest, size int) error {
	switch {
	case len(content) != size:
		return fmt.Errorf("detected chunk with wrong length (%d != %d)", size, len(content))
	case chunks.Sum(content) != digest:
		return upgrade.Errorf(http.StatusBadRequest, "detected chunk with wrong digest.")
	}
	return nil
}

// storeChunk stores a checked chunk and makes it known. That the index is open
// is checked last, as in PBS: the chunk may be of use anyway.
func (s *Session) storeChunk(r *http.Request, k kind, id int, digest chunks.Digest, size int64, b chunks.Blob) error {
	s.finishing.RLock()
	defer s.finishing.RUnlock()
	if s.finished {
		return errFinished
	}
	if err := s.req.Datastore.AwaitRoom(r.Context()); err != nil {
		return s.full(err)
	}
	duplicate, err := s.put(r.Context(), digest, b)
	if err != nil {
		s.log.Warn("chunk could not be stored", "digest", digest.Short(), "err", err)
		s.task.Warnf("chunk %s could not be stored: %v", digest.Short(), err)
		return fmt.Errorf("store chunk %s: %w", digest.Short(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.open(k, id)
	if err != nil {
		return err
	}
	if err := x.builder.uploaded(size); err != nil {
		return x.failed("upload chunk", err)
	}
	s.known[digest] = uint32(size)
	sum := &x.sums
	sum.Count++
	sum.Size += uint64(size)
	sum.CompressedSize += uint64(len(b))
	if duplicate {
		sum.Duplicates++
	}
	return nil
}

// full refuses a chunk because the disk is as good as full, and says so once.
func (s *Session) full(err error) error {
	s.mu.Lock()
	told := s.toldFull
	s.toldFull = true
	s.mu.Unlock()
	if !told {
		s.log.Error("backup is refused more chunks", "err", err)
		s.task.Warnf("no more chunks are taken: %v", err)
	}
	return upgrade.Errorf(http.StatusInsufficientStorage, "%w", err)
}
