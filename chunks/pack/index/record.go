package index

import (
	"encoding/binary"
	"math"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A Loc says where a chunk is stored.
type Loc struct {
	Pack  uint32 // number of the pack; never [NoPack]
	Entry uint32 // place of the entry in the pack, in append order
	Off   uint32 // where the entry begins in the pack, in units of 8 bytes
	Len   uint32 // stored length in bytes
}

// NoPack is the one pack number that no pack may have: in a record it marks a
// tombstone, which hides older records of the digest.
const NoPack = math.MaxUint32

// recordSize is the length of a record, in memory and on disk.
const recordSize = chunks.DigestSize + 16

// A record is a digest and a place, as they lie in a run: the digest, then
// Pack, Entry, Off and Len as little-endian 32-bit numbers. The delta keeps
// the same bytes, so that nothing is converted on the way to disk.
type record [recordSize]byte

func makeRecord(d chunks.Digest, loc Loc) (r record) {
	*r.digest() = d
	r.setLoc(loc)
	return r
}

func (r *record) digest() *chunks.Digest { return (*chunks.Digest)(r[:chunks.DigestSize]) }

func (r *record) loc() Loc {
	return Loc{
		Pack:  binary.LittleEndian.Uint32(r[32:]),
		Entry: binary.LittleEndian.Uint32(r[36:]),
		Off:   binary.LittleEndian.Uint32(r[40:]),
		Len:   binary.LittleEndian.Uint32(r[44:]),
	}
}

func (r *record) setLoc(loc Loc) {
	binary.LittleEndian.PutUint32(r[32:], loc.Pack)
	binary.LittleEndian.PutUint32(r[36:], loc.Entry)
	binary.LittleEndian.PutUint32(r[40:], loc.Off)
	binary.LittleEndian.PutUint32(r[44:], loc.Len)
}

func (r *record) dead() bool { return binary.LittleEndian.Uint32(r[32:]) == NoPack }

// live returns the place that r gives, unless r is nil or a tombstone.
func (r *record) live() (Loc, bool) {
	if r == nil || r.dead() {
		return Loc{}, false
	}
	return r.loc(), true
}

// prefix returns the first 8 bytes of a digest as a number that sorts as the
// digests do.
func prefix(d *chunks.Digest) uint64 { return binary.BigEndian.Uint64(d[:8]) }
