package chunks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"
)

// pageSlots is how many slots of an image are kept together: 32 KiB of
// digests, so memory follows what was put, wherever in the image it lies.
const pageSlots = 1024

type slotPage struct {
	filled  [pageSlots / 64]uint64
	digests [pageSlots]Digest
}

func (p *slotPage) put(slot int64, d Digest) {
	p.filled[slot/64] |= 1 << (slot % 64)
	p.digests[slot] = d
}

func (p *slotPage) has(slot int64) bool {
	return p != nil && p.filled[slot/64]&(1<<(slot%64)) != 0
}

// A FixedBuilder puts a [Fixed] together from chunks that arrive in any order.
// A chunk put twice counts as it was put last. It is not safe for concurrent
// use.
type FixedBuilder struct {
	size      int64 // 0 if not known yet
	chunkSize int64
	end       int64 // of the chunk that ends last
	previous  *Fixed
	pages     []*slotPage // slot i is in page i/pageSlots
}

// NewFixedBuilder begins the index of an image of size bytes in chunks of
// chunkSize, a power of two. A size of 0 means that it is not known yet: the
// image then ends where the last chunk does.
func NewFixedBuilder(size, chunkSize int64) (*FixedBuilder, error) {
	switch {
	case chunkSize < 1 || chunkSize > MaxPlain || bits.OnesCount64(uint64(chunkSize)) != 1:
		return nil, fmt.Errorf("new fixed index: chunks of %d bytes, want a power of two up to %d", chunkSize, MaxPlain)
	case size < 0 || slots(size, chunkSize) > maxSlots:
		return nil, fmt.Errorf("new fixed index: an image of %d bytes, want at most %d chunks of %d", size, maxSlots, chunkSize)
	}
	return &FixedBuilder{size: size, chunkSize: chunkSize}, nil
}

const maxSlots = (MaxIndex - indexHeaderSize) / DigestSize

// Change begins an index that has x's chunks wherever no other is put. The
// image may grow or shrink to size within its last chunk, which must then be
// put anew. x must stay valid until Finish.
func (x *Fixed) Change(size int64) (*FixedBuilder, error) {
	b, err := NewFixedBuilder(size, x.ChunkSize())
	if err != nil {
		return nil, err
	}
	if n := slots(size, b.chunkSize); n != int64(x.Len()) {
		return nil, fmt.Errorf("new fixed index: an image of %d bytes has %d chunks, the previous one has %d", size, n, x.Len())
	}
	b.previous = x
	return b, nil
}

// Put says that the length bytes of the image at offset are the chunk d. All
// chunks but the image's last have the full size.
func (b *FixedBuilder) Put(offset, length int64, d Digest) error {
	if err := b.check(offset, length); err != nil {
		return fmt.Errorf("put chunk %s at offset %d into a fixed index: %w", d.Short(), offset, err)
	}
	if d == (Digest{}) {
		return fmt.Errorf("put chunk at offset %d into a fixed index: the digest is zero", offset)
	}
	b.end = max(b.end, offset+length)
	slot := offset / b.chunkSize
	for int64(len(b.pages)) <= slot/pageSlots {
		b.pages = append(b.pages, nil)
	}
	page := &b.pages[slot/pageSlots]
	if *page == nil {
		*page = new(slotPage)
	}
	(*page).put(slot%pageSlots, d)
	return nil
}

func (b *FixedBuilder) check(offset, length int64) error {
	limit := b.size
	switch {
	case limit > 0:
	case b.end%b.chunkSize != 0:
		limit = b.end // a short chunk has shown where the image ends
	default:
		limit = maxSlots * b.chunkSize
	}
	switch {
	case offset < 0 || offset%b.chunkSize != 0:
		return fmt.Errorf("the offset is no multiple of %d", b.chunkSize)
	case length < 1 || length > b.chunkSize:
		return fmt.Errorf("it has %d bytes, want 1 to %d", length, b.chunkSize)
	case offset > limit-length:
		return fmt.Errorf("its %d bytes end after the image, which has at most %d", length, limit)
	case length == b.chunkSize || offset+length == b.size:
		return nil
	case b.size == 0 && offset+length >= b.end:
		return nil
	}
	return fmt.Errorf("it has %d bytes, only the last chunk may have less than %d", length, b.chunkSize)
}

// Finish returns the index. It fails if a chunk is missing.
func (b *FixedBuilder) Finish(uuid UUID, ctime time.Time) (*Fixed, error) {
	size := b.size
	if size == 0 {
		size = b.end
	}
	n := slots(size, b.chunkSize)
	if n == 0 {
		return nil, errors.New("finish fixed index: the image is empty")
	}
	if first, missing := b.gaps(n, size); missing > 0 {
		return nil, fmt.Errorf("finish fixed index: %d of %d chunks are missing, the first at offset %d", missing, n, first*b.chunkSize)
	}
	file := make([]byte, indexHeaderSize+n*DigestSize)
	if b.previous != nil {
		copy(file[indexHeaderSize:], b.previous.body())
	}
	for slot := range n {
		if page := b.page(slot); page.has(slot % pageSlots) {
			copy(file[indexHeaderSize+slot*DigestSize:], page.digests[slot%pageSlots][:])
		}
	}
	binary.LittleEndian.PutUint64(file[imageSizeStart:], uint64(size))
	binary.LittleEndian.PutUint64(file[chunkSizeStart:], uint64(b.chunkSize))
	finishHeader(file, fixedMagic, uuid, ctime)
	return ParseFixed(file)
}

// gaps counts the slots that nothing is known of. The last slot of a previous
// image of another size is one: its chunk has the wrong length.
func (b *FixedBuilder) gaps(n, size int64) (first, missing int64) {
	begin := int64(0)
	switch {
	case b.previous != nil && b.previous.size == size:
		return 0, 0
	case b.previous != nil:
		begin = n - 1
	}
	for slot := begin; slot < n; slot++ {
		if b.page(slot).has(slot % pageSlots) {
			continue
		}
		if missing == 0 {
			first = slot
		}
		missing++
	}
	return first, missing
}

func (b *FixedBuilder) page(slot int64) *slotPage {
	if p := slot / pageSlots; p < int64(len(b.pages)) {
		return b.pages[p]
	}
	return nil
}
