package authority

import (
	"bytes"
	"sort"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// Two operators, or one at two sites that do not reach each other, may sign behind the
// same link: then a chain has two branches. Both are valid, and one has to go. What
// counts is the branch of the later incarnation, and of two in the same one that which
// the ledger has agreed on. The other is only a removal that was believed without a
// quorum, or what an old majority did behind a recovery: its links are not in the chain
// any more, and would have to be signed again. Until then, whom it has removed is kept
// out by everybody who has seen it, or is shown a [Stray].

// headAt is the hash of the last of the first n links; false if there are fewer.
func (c *Chain) headAt(n uint64) (head [32]byte, is bool) {
	length, last := c.Head()
	switch {
	case n == length:
		return last, true
	case n > length:
		return head, false
	}
	var l Link
	is = canon.Decode(c.links[n], &l) == nil
	return l.Prev, is
}

// Parts tells whether c has as many links as another chain, or more, and is not that
// with more links.
func (c *Chain) Parts(length uint64, head [32]byte) bool {
	h, is := c.headAt(length)
	return is && h != head
}

// common is how many links two chains share.
func common(a, b *Chain) uint64 {
	n, _ := a.Head()
	m, _ := b.Head()
	return uint64(sort.Search(int(min(n, m)), func(i int) bool {
		x, _ := a.headAt(uint64(i) + 1)
		y, _ := b.headAt(uint64(i) + 1)
		return x != y
	}))
}

// whole takes links over that are all of a chain, whose beginning is that of ours, with
// the same care as [Keeper.Extend]; what waits has not been known here for long.
func (k *Keeper) whole(ours *Chain, links [][]byte) error {
	same := 0
	for known := ours.Links(0); same < min(len(known), len(links)) && bytes.Equal(known[same], links[same]); same++ {
	}
	if same == 0 {
		return refused("the chain of another cluster")
	}
	c, err := Read(links[:same])
	for _, l := range links[same:] {
		if err != nil || c.Hurried(l) {
			break
		}
		c, err = c.Next(l)
	}
	if err != nil {
		return err
	}
	return k.Follow(c)
}
