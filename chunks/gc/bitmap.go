package gc

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A bitmap is which entries one root needs, remembered from one collection to
// the next. It is a cache: what is damaged or stale is computed again. Layout
// of its file, numbers little endian:
//
//	 0  4  "HFMB"
//	 4  4  version, 1
//	 8  32 SHA-256 of the root's ID
//	40  8  generation of the store in which the entries were looked up
//	48  8  bytes of content that the root describes
//	56  .. rows of entries
//	.   8  xxhash64 of everything before
const (
	bitmapMagic   = "HFMB"
	bitmapVersion = 1
	bitmapHeader  = 56
	bitmapSum     = 8
)

// errStale says that a bitmap is sound but not true any more.
var errStale = errors.New("bitmap is out of date")

// bitmapName returns the file name for a root, which tells nothing of it.
func bitmapName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return fmt.Sprintf("%x", sum[:16])
}

func encodeBitmap(id string, generation uint64, size int64, refs *pack.Set) []byte {
	sum := sha256.Sum256([]byte(id))
	b := append([]byte(bitmapMagic), bitmapVersion, 0, 0, 0)
	b = append(b, sum[:]...)
	b = le.AppendUint64(b, generation)
	b = le.AppendUint64(b, uint64(size))
	for number, words := range refs.Rows() {
		b = appendRow(b, number, words)
	}
	return le.AppendUint64(b, xxhash.Sum64(b))
}

// A watermark says which entries of the packs a collection may condemn, and
// so which entries a bitmap can name.
type watermark []pack.Info // by number

// decodeBitmap checks a bitmap file and returns its rows. It fails unless the
// bitmap is whole, of this root and generation, and within the watermark: a
// pack that is gone, or an entry that did not exist, means that it is about
// another state of the store.
func decodeBitmap(b []byte, id string, generation uint64, packs watermark) (rows []byte, size int64, err error) {
	if len(b) < bitmapHeader+bitmapSum || string(b[:4]) != bitmapMagic {
		return nil, 0, fmt.Errorf("not a bitmap: %d bytes", len(b))
	}
	body, sum := b[:len(b)-bitmapSum], le.Uint64(b[len(b)-bitmapSum:])
	if xxhash.Sum64(body) != sum {
		return nil, 0, errors.New("bitmap is damaged")
	}
	if v := le.Uint32(b[4:]); v != bitmapVersion {
		return nil, 0, fmt.Errorf("bitmap has version %d, this program knows %d", v, bitmapVersion)
	}
	if [32]byte(b[8:40]) != sha256.Sum256([]byte(id)) || le.Uint64(b[40:]) != generation {
		return nil, 0, errStale
	}
	size = int64(le.Uint64(b[48:]))
	rows = body[bitmapHeader:]
	for r, err := range readRows(rows) {
		if err != nil {
			return nil, 0, err
		}
		for len(packs) > 0 && packs[0].Number < r.number {
			packs = packs[1:]
		}
		if len(packs) == 0 || packs[0].Number != r.number || r.end() > (uint64(packs[0].Entries)+63)/64 {
			return nil, 0, errStale
		}
	}
	return rows, size, nil
}

// sealed reports whether a pack took nothing more when the collection began.
func (w watermark) sealed(number uint32) bool {
	i, ok := slices.BinarySearchFunc(w, number, func(p pack.Info, n uint32) int { return cmp.Compare(p.Number, n) })
	return ok && w[i].Sealed
}

// covers reports whether every entry of refs is below the watermark.
func (w watermark) covers(refs *pack.Set) bool {
	for number, words := range refs.Rows() {
		for len(w) > 0 && w[0].Number < number {
			w = w[1:]
		}
		if len(w) == 0 || w[0].Number != number || !below(words, w[0].Entries) {
			return false
		}
	}
	return true
}

// below reports whether no bit of words is at entries or above.
func below(words []uint64, entries uint32) bool {
	for i, w := range words {
		room := int(entries) - i*64 // Go shifts by 64 and more to zero
		if w>>max(room, 0) != 0 {
			return false
		}
	}
	return true
}
