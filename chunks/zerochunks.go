package chunks

import (
	"fmt"
	"sync"
)

// ZeroChunks knows the chunks that are nothing but zeros, of which images are
// full: each size is hashed and encoded once. It is safe for concurrent use.
type ZeroChunks struct {
	opt EncodeOptions

	mu    sync.Mutex
	known []zeroChunk
}

// maxZeroSizes is how many sizes are remembered. A stream has two, that of
// its full chunks and that of its last.
const maxZeroSizes = 8

type zeroChunk struct {
	size   int
	digest Digest
	blob   Blob
}

// NewZeroChunks returns zero chunks that are encoded as opt says.
func NewZeroChunks(opt EncodeOptions) *ZeroChunks { return &ZeroChunks{opt: opt} }

// Chunk returns the digest and the blob of size zeros. The blob must not be
// changed. It fails as [Encode] does, and where size is below 1.
func (z *ZeroChunks) Chunk(size int) (Digest, Blob, error) {
	if size < 1 || size > MaxPlain {
		return Digest{}, nil, fmt.Errorf("encode %d zeros: want 1 to %d", size, MaxPlain)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, c := range z.known {
		if c.size == size {
			return c.digest, c.blob, nil
		}
	}
	c, err := z.encode(size)
	if err != nil {
		return Digest{}, nil, err
	}
	if len(z.known) == maxZeroSizes {
		z.known = z.known[1:]
	}
	z.known = append(z.known, c)
	return c.digest, c.blob, nil
}

func (z *ZeroChunks) encode(size int) (zeroChunk, error) {
	plain := GetBuffer(size)
	defer plain.Free()
	scratch := GetBuffer(size)
	defer scratch.Free()
	zeros := plain.Bytes[:size]
	clear(zeros)
	blob, err := Encode(scratch.Bytes, zeros, z.opt)
	if err != nil {
		return zeroChunk{}, err
	}
	digest := Sum(zeros)
	if z.opt.Key != nil {
		digest = z.opt.Key.Digest(zeros)
	}
	return zeroChunk{size, digest, append(Blob(nil), blob...)}, nil
}
