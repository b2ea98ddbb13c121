package disktest

import (
	"maps"
	"math/rand/v2"
)

// sectorSize is what a disk writes whole or not at all.
const sectorSize = 512

// torn is a file that lost power while its changes were on their way.
type torn struct {
	rng    *rand.Rand
	blocks map[int64]*block
	own    map[int64]bool // blocks that are not part of any other state
	size   int64
}

// torn returns one of the states in which a crash may leave the file: each
// change is there with the given odds.
func (i *inode) torn(rng *rand.Rand, odds float64) (map[int64]*block, int64) {
	t := &torn{rng, maps.Clone(i.saved), map[int64]bool{}, i.size}
	for _, c := range i.pending {
		if rng.Float64() >= odds {
			continue
		}
		switch c.kind {
		case Truncate:
			t.cut(c.off)
			t.size = c.off
		case Punch:
			t.pieces(c, pageSize, t.zero)
		case Write:
			t.grow(c.off + c.n)
			t.pieces(c, sectorSize, func(from, to int64) { t.write(c.data[from-c.off:to-c.off], from) })
		case Clone:
			t.grow(c.off + c.n)
			t.pieces(c, pageSize, func(from, _ int64) { t.share(from/pageSize, c.blocks[(from-c.off)/pageSize]) })
		}
	}
	t.cut(t.size) // what was written behind it was never part of the file
	return t.blocks, t.size
}

// grow makes the file end at end, or somewhere on the way, or not yet: a file
// system may write data and length in either order.
func (t *torn) grow(end int64) {
	if end <= t.size {
		return
	}
	switch at := t.size + t.rng.Int64N(end-t.size); t.rng.IntN(5) {
	case 0:
	case 1:
		t.size = at
	case 2:
		t.size = max(t.size, at/sectorSize*sectorSize)
	default:
		t.size = end
	}
}

// pieces calls do for those parts of a change that happened: all of them, the
// first, the last, or any. Pieces end at multiples of unit.
func (t *torn) pieces(c change, unit int64, do func(from, to int64)) {
	how := t.rng.IntN(5)
	at := c.off
	if c.n > 0 {
		at += t.rng.Int64N(c.n)
	}
	for from := c.off; from < c.off+c.n; {
		to := min((from/unit+1)*unit, c.off+c.n)
		switch {
		case how == 0 && to > at, how == 1 && from < at, how == 2 && t.rng.IntN(2) == 0:
		default:
			do(from, to)
		}
		from = to
	}
}

func (t *torn) share(i int64, b *block) {
	delete(t.own, i)
	if b == nil {
		delete(t.blocks, i)
	} else {
		t.blocks[i] = b
	}
}

// block returns block i, which may be changed.
func (t *torn) block(i int64) *block {
	switch b := t.blocks[i]; {
	case b == nil:
		t.blocks[i] = new(block)
	case !t.own[i]:
		t.blocks[i] = cloneBlock(b)
	}
	t.own[i] = true
	return t.blocks[i]
}

// write stores p, which lies within one block.
func (t *torn) write(p []byte, off int64) {
	copy(t.block(off / pageSize)[off%pageSize:], p)
}

// zero clears a part of one block.
func (t *torn) zero(from, to int64) {
	i := from / pageSize
	switch {
	case t.blocks[i] == nil:
	case to-from == pageSize:
		t.share(i, nil)
	default:
		clear(t.block(i)[from-i*pageSize : to-i*pageSize])
	}
}

// cut forgets what lies behind size.
func (t *torn) cut(size int64) {
	for i := range t.blocks {
		if i*pageSize >= size {
			t.share(i, nil)
		}
	}
	if i := size / pageSize; size%pageSize != 0 && t.blocks[i] != nil {
		clear(t.block(i)[size%pageSize:])
	}
}
