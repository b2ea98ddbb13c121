package swarm

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// An item is a chunk that is wanted.
type item struct {
	digest  chunks.Digest
	size    int
	holders uint64  // who may have it
	refused uint64  // who said or showed that it has not
	by      []*line // of which it is outstanding
	since   time.Time
	done    []func(error)
	why     error // what those who refused it said

	queued   bool
	at       int    // its place in its queue
	mask     uint64 // its queue
	checking bool   // it has arrived
	over     bool
}

// leave notes that it is not outstanding of a stream any more.
func (it *item) leave(l *line) {
	it.by = slices.DeleteFunc(it.by, func(x *line) bool { return x == l })
}

func (it *item) failure() error {
	return fmt.Errorf("no source gives chunk %s: %w", it.digest.Short(), it.why)
}

// queues are items that nobody was asked for, by the set of their holders, each
// in the order in which it was wanted: that is about the order in which they
// lie at the source.
type queues map[uint64]*queue

type queue struct {
	items []*item // nil: it was taken
	head  int
	left  int
}

func (q queues) add(it *item) {
	if it.queued {
		return
	}
	at := q[it.holders]
	if at == nil {
		at = &queue{}
		q[it.holders] = at
	}
	it.queued, it.mask, it.at = true, it.holders, len(at.items)
	at.items = append(at.items, it)
	at.left++
}

func (q queues) remove(it *item) {
	if !it.queued {
		return
	}
	at := q[it.mask]
	at.items[it.at] = nil
	it.queued = false
	if at.left--; at.left == 0 {
		delete(q, it.mask)
	}
}

// take returns the next item that a source may be asked for: one that few
// others hold before one that many do. It returns nil if there is none.
func (q queues) take(bit uint64) *item {
	var best uint64
	for mask := range q {
		if mask&bit != 0 && (best == 0 || fewer(mask, best)) {
			best = mask
		}
	}
	if best == 0 {
		return nil
	}
	at := q[best]
	for at.items[at.head] == nil {
		at.head++
	}
	it := at.items[at.head]
	q.remove(it)
	return it
}

func fewer(a, b uint64) bool {
	if n, m := bits.OnesCount64(a), bits.OnesCount64(b); n != m {
		return n < m
	}
	return a < b
}
