package layout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// An index object lists the chunks of some packs, so that nobody has to read
// the packs to know them:
//
//	"HFCI", version u16, zero u16, packs u32, zero u32
//	pack:  ID 16, size u64, created u64, rows u32, flags u32 (bit 0: sealed)
//	       and its rows of 40 bytes: digest, offset ÷ 8 u32, stored length with the
//	       kind of the blob in its two highest bits u32
//	xxhash64 of everything before
const (
	indexHead = 16
	indexPack = 40
	kindShift = 30 // no blob is nearly that long
)

var indexMagic = [4]byte{'H', 'F', 'C', 'I'}

// RowSize is what a chunk costs in an index object.
const RowSize = sealedRow

// EncodeIndex returns the index object of packs.
func EncodeIndex(packs []Pack) []byte {
	n := indexHead + 8
	for _, p := range packs {
		n += indexPack + len(p.Rows)*sealedRow
	}
	b := make([]byte, indexHead, n)
	copy(b, indexMagic[:])
	le.PutUint16(b[4:], Version)
	le.PutUint32(b[8:], uint32(len(packs)))
	for _, p := range packs {
		b = append(b, p.ID[:]...)
		b = le.AppendUint64(b, uint64(p.Size))
		b = le.AppendUint64(b, uint64(p.Created.Unix()))
		b = le.AppendUint32(b, uint32(len(p.Rows)))
		flags := uint32(0)
		if p.Sealed {
			flags = 1
		}
		b = le.AppendUint32(b, flags)
		b = encodeRows(b, p.Rows)
	}
	return le.AppendUint64(b, xxhash.Sum64(b))
}

// DecodeIndex reads an index object. What it returns makes sense: every row
// lies inside of its pack, none over another.
func DecodeIndex(b []byte) ([]Pack, error) {
	if len(b) < indexHead+8 || [4]byte(b) != indexMagic {
		return nil, fmt.Errorf("it is not an index: %d bytes", len(b))
	}
	if v := le.Uint16(b[4:]); v != Version {
		return nil, fmt.Errorf("the index has version %d, this program knows %d", v, Version)
	}
	body, sum := b[:len(b)-8], le.Uint64(b[len(b)-8:])
	if xxhash.Sum64(body) != sum {
		return nil, fmt.Errorf("the index is damaged")
	}
	count := int(le.Uint32(b[8:]))
	body = body[indexHead:]
	if count > len(body)/indexPack {
		return nil, fmt.Errorf("the index claims %d packs in %d bytes", count, len(body))
	}
	packs := make([]Pack, 0, count)
	for range count {
		if len(body) < indexPack {
			return nil, fmt.Errorf("the index is cut short")
		}
		p := Pack{
			ID: format.ID(body[:16]), Size: int64(le.Uint64(body[16:])),
			Created: time.Unix(int64(le.Uint64(body[24:])), 0), Sealed: le.Uint32(body[36:])&1 != 0,
		}
		n := int(le.Uint32(body[32:]))
		body = body[indexPack:]
		if n > len(body)/sealedRow {
			return nil, fmt.Errorf("pack %s claims %d rows", p.ID, n)
		}
		rows, err := decodeRows(body[:n*sealedRow], p)
		if err != nil {
			return nil, err
		}
		p.Rows, body = rows, body[n*sealedRow:]
		packs = append(packs, p)
	}
	if len(body) != 0 {
		return nil, fmt.Errorf("the index has %d bytes too many", len(body))
	}
	return packs, nil
}

func encodeRows(b []byte, rows []Row) []byte {
	for _, r := range rows {
		b = append(b, r.Digest[:]...)
		b = le.AppendUint32(b, uint32(r.Off/format.SmallAlign))
		b = le.AppendUint32(b, r.Stored|uint32(r.Kind)<<kindShift)
	}
	return b
}

func decodeRows(b []byte, p Pack) ([]Row, error) {
	rows := make([]Row, len(b)/sealedRow)
	end := int64(0)
	for i := range rows {
		at := b[i*sealedRow:]
		n := le.Uint32(at[36:])
		r := Row{chunks.Digest(at[:32]), int64(le.Uint32(at[32:])) * format.SmallAlign, n & (1<<kindShift - 1), chunks.Kind(n >> kindShift)}
		if r.Off < end || r.Stored > chunks.MaxBlob || r.Off+FrameSize(p.Sealed, r.Stored) > p.Size {
			return nil, fmt.Errorf("pack %s of %d bytes has no place for %d bytes at %d", p.ID, p.Size, r.Stored, r.Off)
		}
		end = r.Off + FrameSize(p.Sealed, r.Stored)
		rows[i] = r
	}
	return rows, nil
}

func sortRows(rows []Row) {
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.Off, b.Off) })
}
