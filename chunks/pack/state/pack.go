package state

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// A Pack is one pack file as the store knows it. Its fields may be read at any
// time; what is not atomic is set before the pack is added to a [Table].
type Pack struct {
	Number  uint32 // in this store; never used twice
	ID      format.ID
	Epoch   uint64        // the store's epoch when it was begun
	Covered uint32        // at start: ordinals below this one are in the index's files
	Unread  bool          // at start: the disk did not let us read it, so the index may lack any of it
	Entries atomic.Uint32 // ordinals below this one were given out
	Size    atomic.Int64  // bytes of the file, or of what will be in it
	Sealed  atomic.Bool
	Retired atomic.Bool // not sealed, and nothing is appended any more
	Missing atomic.Bool // its file is not there

	committed atomic.Int64           // what the journal was told last
	dead, bad atomic.Pointer[Bitmap] // changed under State.mu
	gone      atomic.Pointer[Bitmap] // part of dead whose space was given back; likewise
}

// Info describes one pack at one moment.
type Info struct {
	Number  uint32    `json:"number"`
	ID      format.ID `json:"id"`
	Epoch   uint64    `json:"epoch"`   // the store's epoch when the pack was begun
	Entries uint32    `json:"entries"` // entries [0, Entries) exist
	Sealed  bool      `json:"sealed"`
	Bytes   int64     `json:"bytes"` // length of the file

	Created time.Time `json:"created,omitzero"` // in a bucket, where age has a price
}

// Info describes p as it is now.
func (p *Pack) Info() Info {
	return Info{Number: p.Number, ID: p.ID, Epoch: p.Epoch, Entries: p.Entries.Load(), Sealed: p.Sealed.Load(), Bytes: p.Size.Load()}
}

// Name is the name of p's file in its directory.
func (p *Pack) Name() string { return fmt.Sprintf("%08x-%s.hfpk", p.Epoch, p.ID) }

// ParseName reads the epoch and the ID from the name of a pack file.
func ParseName(name string) (epoch uint64, id format.ID, ok bool) {
	stem, ok := strings.CutSuffix(name, ".hfpk")
	first, rest, found := strings.Cut(stem, "-")
	if !ok || !found || len(first) < 8 {
		return 0, id, false
	}
	epoch, err := strconv.ParseUint(first, 16, 64)
	if err != nil || id.UnmarshalText([]byte(rest)) != nil {
		return 0, id, false
	}
	return epoch, id, (&Pack{ID: id, Epoch: epoch}).Name() == name
}

// Live reports whether an entry may be relied on: given out, not condemned and
// not quarantined.
func (p *Pack) Live(entry uint32) bool { return p.Held(entry) && !p.bad.Load().Has(entry) }

// Held reports whether an entry was given out, is not condemned, and has a file
// to be in.
func (p *Pack) Held(entry uint32) bool {
	return entry < p.Entries.Load() && !p.dead.Load().Has(entry) && !p.Missing.Load()
}

// Dead returns the entries that are condemned, reclaimed or were never whole.
func (p *Pack) Dead() *Bitmap { return p.dead.Load() }

// Gone returns the dead entries whose space was given back.
func (p *Pack) Gone() *Bitmap { return p.gone.Load() }

// Bad returns the entries that are quarantined.
func (p *Pack) Bad() *Bitmap { return p.bad.Load() }

// A Bitmap is a set of entries of one pack that is never changed in place. A
// nil one is empty.
type Bitmap []uint64

// Has reports whether entry is in the set.
func (b *Bitmap) Has(entry uint32) bool {
	if b == nil {
		return false
	}
	w := int(entry >> 6)
	return w < len(*b) && (*b)[w]&(1<<(entry&63)) != 0
}

// End returns the ordinal behind the last entry of the set.
func (b *Bitmap) End() uint32 {
	words := b.Words()
	for i := len(words) - 1; i >= 0; i-- {
		if words[i] != 0 {
			return uint32(64*i + bits.Len64(words[i]))
		}
	}
	return 0
}

// With returns the union of b and words.
func (b *Bitmap) With(words []uint64) *Bitmap {
	var old Bitmap
	if b != nil {
		old = *b
	}
	sum := make(Bitmap, max(len(old), len(words)))
	copy(sum, old)
	for i, w := range words {
		sum[i] |= w
	}
	return &sum
}

// without returns b less one entry.
func (b *Bitmap) without(entry uint32) *Bitmap {
	less := b.With(nil)
	if less.Has(entry) {
		(*less)[entry>>6] &^= 1 << (entry & 63)
	}
	return less
}

// lacks returns those of words that are not in b, and how many they are.
func (b *Bitmap) lacks(words []uint64) (fresh []uint64, n int) {
	fresh = slices.Clone(words)
	for i, w := range b.Words() {
		if i < len(fresh) {
			fresh[i] &^= w
		}
	}
	for _, w := range fresh {
		n += bits.OnesCount64(w)
	}
	return fresh, n
}

// Words returns the bitmap as [Set.Row] does.
func (b *Bitmap) Words() []uint64 {
	if b == nil {
		return nil
	}
	return *b
}

// One returns the bitmap of one entry.
func One(entry uint32) []uint64 {
	words := make([]uint64, entry>>6+1)
	words[entry>>6] = 1 << (entry & 63)
	return words
}
