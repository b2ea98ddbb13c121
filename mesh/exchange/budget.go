package exchange

import (
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
)

// perDay is what comes back to a budget.
const perDay = 64 << 20

// A budget bounds what the disk takes of each origin: a member that signs
// garbage without end fills nobody's disk.
type budget struct {
	most int64

	mu   sync.Mutex
	left map[feed.Origin]allowance
}

type allowance struct {
	bytes int64
	at    time.Time
}

func newBudget(most int64) budget { return budget{most: most, left: map[feed.Origin]allowance{}} }

// allows tells whether more may be taken of o.
func (b *budget) allows(o feed.Origin) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now(o).bytes > 0
}

func (b *budget) spend(o feed.Origin, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.now(o)
	a.bytes -= int64(bytes)
	b.left[o] = a
}

func (b *budget) now(o feed.Origin) allowance {
	a, ok := b.left[o]
	if !ok {
		return allowance{b.most, time.Now()}
	}
	back := time.Since(a.at).Seconds() * perDay / (24 * 60 * 60)
	return allowance{min(b.most, a.bytes+int64(back)), time.Now()}
}
