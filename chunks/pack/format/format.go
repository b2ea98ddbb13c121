// Package format is the layout of a pack file, version 1, to the byte: header,
// entries, footer, trailer. docs/pack-format.md describes it.
//
// Every entry says what it is and where it must lie, and everything has a sum,
// so that a pack can be read without its footer ([Scan]), and nothing is taken
// for an entry that was not written for just that place: neither what an
// earlier file left on the disk nor a pack that somebody backed up.
package format

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/zeebo/blake3"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Sizes in bytes. All numbers in a pack are little-endian.
const (
	version     = 1
	HeaderSize  = 4096
	EntrySize   = 96 // header of an entry
	rowSize     = 96 // one entry in the footer
	trailerSize = 96
	Align       = disk.DirectAlign
	alignedFrom = 64 << 10 // stored bytes from which an entry starts on a block
	SmallAlign  = 8
	MaxSegments = 256
	segmentsAt  = 96
	flagDerived = 1 << 0 // header: shares blocks with a pack that is gone
)

var (
	headerMagic  = [4]byte{'H', 'F', 'P', 'K'}
	entryMagic   = [4]byte{'H', 'F', 'C', 'E'}
	trailerMagic = [8]byte{'H', 'F', 'P', 'K', 'E', 'N', 'D', '1'}
)

// MaxEntries bounds the ordinals of a pack: 256 MiB of the smallest entries.
const MaxEntries = 4 << 20

// MaxNumber bounds the numbers of packs: 16 PiB in packs of 64 MiB.
const MaxNumber = 1 << 28

var le = binary.LittleEndian

// An ID names a pack, here, at every peer and in a bucket.
type ID [16]byte

// NewID returns a random ID.
func NewID() ID {
	var id ID
	rand.Read(id[:])
	return id
}

// String returns the ID as 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText writes the ID in hexadecimal.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) {
		return fmt.Errorf("id %q has %d characters, want %d", text, len(text), 2*len(id))
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// Low is the part of the ID that every entry repeats.
func (id ID) Low() uint64 { return le.Uint64(id[:8]) }

// A Header is the first block of a pack.
type Header struct {
	ID, Store ID
	Created   time.Time
	Epoch     uint64
	Number    uint32
	Derived   bool
	Origin    ID // derived: the pack in which the entries were written
	Segments  []Segment
}

// A Segment is a part of a derived pack: n bytes at Dst are those that were
// at Src of the origin. All three are multiples of a block.
type Segment struct{ Src, Dst, N int64 }

func (h *Header) Encode() []byte {
	b := disk.AlignedBuffer(HeaderSize)[:HeaderSize]
	copy(b, headerMagic[:])
	le.PutUint16(b[4:], version)
	if h.Derived {
		le.PutUint16(b[6:], flagDerived)
	}
	copy(b[8:], h.ID[:])
	copy(b[24:], h.Store[:])
	le.PutUint64(b[40:], uint64(h.Created.Unix()))
	le.PutUint64(b[48:], h.Epoch)
	le.PutUint32(b[56:], h.Number)
	le.PutUint32(b[60:], uint32(len(h.Segments)))
	copy(b[64:], h.Origin[:])
	for i, s := range h.Segments {
		at := b[segmentsAt+12*i:]
		le.PutUint32(at, uint32(s.Src/Align))
		le.PutUint32(at[4:], uint32(s.Dst/Align))
		le.PutUint32(at[8:], uint32(s.N/Align))
	}
	le.PutUint64(b[HeaderSize-8:], xxhash.Sum64(b[:HeaderSize-8]))
	return b
}

func decodeHeader(b []byte) (*Header, error) {
	if len(b) < HeaderSize {
		return nil, fmt.Errorf("pack header is %d bytes, want %d", len(b), HeaderSize)
	}
	if [4]byte(b) != headerMagic {
		return nil, fmt.Errorf("not a pack: magic is %q", b[:4])
	}
	if le.Uint64(b[HeaderSize-8:]) != xxhash.Sum64(b[:HeaderSize-8]) {
		return nil, fmt.Errorf("pack header is damaged")
	}
	if v := le.Uint16(b[4:]); v != version {
		return nil, fmt.Errorf("pack has version %d, this program knows %d", v, version)
	}
	h := &Header{
		ID: ID(b[8:24]), Store: ID(b[24:40]),
		Created: time.Unix(int64(le.Uint64(b[40:])), 0),
		Epoch:   le.Uint64(b[48:]), Number: le.Uint32(b[56:]),
		Derived: le.Uint16(b[6:])&flagDerived != 0, Origin: ID(b[64:80]),
	}
	n := int(le.Uint32(b[60:]))
	if h.Number >= MaxNumber {
		return nil, fmt.Errorf("pack header has number %d, want less than %d", h.Number, MaxNumber)
	}
	if n > MaxSegments {
		return nil, fmt.Errorf("pack header has %d segments, want at most %d", n, MaxSegments)
	}
	for i := range n {
		at := b[segmentsAt+12*i:]
		h.Segments = append(h.Segments, Segment{
			int64(le.Uint32(at)) * Align, int64(le.Uint32(at[4:])) * Align, int64(le.Uint32(at[8:])) * Align,
		})
	}
	return h, nil
}

// Owner returns the low ID and the offset that an entry lying at off carries.
// ok is false where no entry can lie.
func (h *Header) Owner(off int64) (low uint64, own int64, ok bool) {
	if !h.Derived {
		return h.ID.Low(), off, off >= HeaderSize
	}
	for _, s := range h.Segments {
		if off >= s.Dst && off < s.Dst+s.N {
			return h.Origin.Low(), off - s.Dst + s.Src, true
		}
	}
	return 0, 0, false
}

// An Entry is the header of a chunk in a pack.
type Entry struct {
	Digest   chunks.Digest
	Pack     uint64 // low half of the pack's ID
	Own      int64  // offset of this header in the pack that it was written to
	Stored   uint32 // bytes of the blob that follows
	Plain    uint32 // bytes of the content; 0: not known without decoding
	Sum      uint64 // xxhash64 of the blob
	Ordinal  uint32 // place in append order
	Epoch    uint64
	foreseen uint16 // flags, none yet
}

func (e *Entry) Encode(b []byte) {
	b = b[:EntrySize]
	copy(b, entryMagic[:])
	le.PutUint16(b[4:], e.foreseen)
	le.PutUint16(b[6:], EntrySize)
	le.PutUint64(b[8:], e.Pack)
	le.PutUint64(b[16:], uint64(e.Own))
	le.PutUint32(b[24:], e.Stored)
	le.PutUint32(b[28:], e.Plain)
	le.PutUint64(b[32:], e.Sum)
	le.PutUint64(b[40:], uint64(e.Ordinal))
	le.PutUint64(b[48:], e.Epoch)
	copy(b[56:], e.Digest[:])
	le.PutUint64(b[88:], xxhash.Sum64(b[:88]))
}

// owns reports whether e was written for just this place.
func (h *Header) owns(e Entry, off int64) bool {
	low, own, ok := h.Owner(off)
	return ok && e.Pack == low && e.Own == own
}

// decodeEntry reads the header of the entry at off of the pack h. It fails on
// anything that was not written for just this place: damage, what an earlier
// file left on the disk, a pack that somebody backed up. Without h the place
// is not checked.
func decodeEntry(b []byte, h *Header, off int64) (Entry, error) {
	if len(b) < EntrySize {
		return Entry{}, fmt.Errorf("entry header is %d bytes, want %d", len(b), EntrySize)
	}
	b = b[:EntrySize]
	if [4]byte(b) != entryMagic {
		return Entry{}, fmt.Errorf("no entry starts here")
	}
	if le.Uint64(b[88:]) != xxhash.Sum64(b[:88]) {
		return Entry{}, fmt.Errorf("entry header is damaged")
	}
	e := Entry{
		Digest: chunks.Digest(b[56:88]), Pack: le.Uint64(b[8:]), Own: int64(le.Uint64(b[16:])),
		Stored: le.Uint32(b[24:]), Plain: le.Uint32(b[28:]), Sum: le.Uint64(b[32:]),
		Ordinal: uint32(le.Uint64(b[40:])), Epoch: le.Uint64(b[48:]), foreseen: le.Uint16(b[4:]),
	}
	switch {
	case h != nil && !h.owns(e, off):
		return Entry{}, fmt.Errorf("entry belongs to another place")
	case le.Uint16(b[6:]) != EntrySize:
		return Entry{}, fmt.Errorf("entry header has %d bytes, want %d", le.Uint16(b[6:]), EntrySize)
	case e.Stored > chunks.MaxBlob:
		return Entry{}, fmt.Errorf("entry has %d bytes, want at most %d", e.Stored, chunks.MaxBlob)
	}
	return e, nil
}

// AlignUp returns off rounded up to a multiple of n, a power of two.
func AlignUp(off, n int64) int64 { return (off + n - 1) &^ (n - 1) }

// EntryStart returns where an entry of stored bytes begins if the one before
// it ends at end. Entries large enough begin on a block, so that a hole or a
// shared extent can hold just them.
func EntryStart(end int64, stored int) int64 {
	if stored >= alignedFrom {
		return AlignUp(end, Align)
	}
	return AlignUp(end, SmallAlign)
}

// A Row is an entry in the footer of a sealed pack.
type Row struct {
	Digest  chunks.Digest
	Content [32]byte // BLAKE3 of the blob; only of encrypted chunks
	Sum     uint64   // xxhash64 of the blob
	Off     int64    // offset of the entry's header
	Stored  uint32
	Plain   uint32
	Ordinal uint32
}

// End returns the offset behind the entry's last byte.
func (r *Row) End() int64 { return r.Off + EntrySize + int64(r.Stored) }

func (r *Row) encode(b []byte) {
	copy(b, r.Digest[:])
	copy(b[32:], r.Content[:])
	le.PutUint64(b[64:], r.Sum)
	le.PutUint32(b[72:], uint32(r.Off/SmallAlign))
	le.PutUint32(b[76:], r.Stored)
	le.PutUint32(b[80:], r.Plain)
	le.PutUint32(b[84:], r.Ordinal)
	le.PutUint64(b[88:], 0) // flags and room to grow
}

func decodeRow(b []byte) Row {
	return Row{
		Digest: chunks.Digest(b[:32]), Content: [32]byte(b[32:64]), Sum: le.Uint64(b[64:]),
		Off: int64(le.Uint32(b[72:])) * SmallAlign, Stored: le.Uint32(b[76:]),
		Plain: le.Uint32(b[80:]), Ordinal: le.Uint32(b[84:]),
	}
}

// A Trailer is the last part of a sealed pack.
type trailer struct {
	footerOff, footerLen int64
	DataEnd              int64 // offset behind the last entry
	count                uint32
	sum                  uint64   // xxhash64 of the footer
	root                 [32]byte // BLAKE3 of the footer: names the pack's content
}

// encodeTail returns footer and trailer as one block-aligned write that begins
// at the first block behind dataEnd. It sorts rows by digest.
func encodeTail(id ID, rows []Row, dataEnd int64) []byte {
	slices.SortFunc(rows, func(a, b Row) int { return a.Digest.Compare(b.Digest) })
	footerLen := len(rows) * rowSize
	b := disk.AlignedBuffer(int(AlignUp(int64(footerLen+trailerSize), Align)))
	b = b[:cap(b)]
	for i := range rows {
		rows[i].encode(b[i*rowSize:])
	}
	t := b[len(b)-trailerSize:]
	le.PutUint64(t, uint64(AlignUp(dataEnd, Align)))
	le.PutUint64(t[8:], uint64(footerLen))
	le.PutUint32(t[16:], uint32(len(rows)))
	le.PutUint64(t[24:], xxhash.Sum64(b[:footerLen]))
	root := blake3.Sum256(b[:footerLen])
	copy(t[32:], root[:])
	le.PutUint64(t[64:], id.Low())
	le.PutUint64(t[72:], uint64(dataEnd))
	le.PutUint64(t[80:], xxhash.Sum64(t[:80]))
	copy(t[88:], trailerMagic[:])
	return b
}

// decodeTrailer reads the trailer of the pack id, whose file has size bytes.
func decodeTrailer(b []byte, id ID, size int64) (trailer, error) {
	if len(b) != trailerSize || [8]byte(b[88:]) != trailerMagic {
		return trailer{}, errUnsealed
	}
	if le.Uint64(b[80:]) != xxhash.Sum64(b[:80]) || le.Uint64(b[64:]) != id.Low() {
		return trailer{}, errUnsealed
	}
	t := trailer{
		footerOff: int64(le.Uint64(b)), footerLen: int64(le.Uint64(b[8:])), count: le.Uint32(b[16:]),
		sum: le.Uint64(b[24:]), root: [32]byte(b[32:64]), DataEnd: int64(le.Uint64(b[72:])),
	}
	if t.footerLen != int64(t.count)*rowSize || t.footerOff < HeaderSize ||
		t.footerOff > size-trailerSize-t.footerLen || t.DataEnd > t.footerOff || t.DataEnd < HeaderSize {
		return trailer{}, fmt.Errorf("pack trailer makes no sense: footer of %d bytes at %d in a file of %d", t.footerLen, t.footerOff, size)
	}
	return t, nil
}

// decodeFooter reads the rows of a footer, in digest order.
func decodeFooter(b []byte, t trailer) ([]Row, error) {
	if int64(len(b)) != t.footerLen || xxhash.Sum64(b) != t.sum {
		return nil, fmt.Errorf("pack footer is damaged")
	}
	rows := make([]Row, t.count)
	for i := range rows {
		rows[i] = decodeRow(b[i*rowSize:])
		r := &rows[i]
		if r.Off < HeaderSize || r.End() > t.DataEnd || r.Stored > chunks.MaxBlob || r.Ordinal >= MaxEntries {
			return nil, fmt.Errorf("pack footer names an entry outside the pack: %d bytes at %d", r.Stored, r.Off)
		}
	}
	return rows, nil
}
