package staging

import (
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// Old returns which packs have been here for so long. A pack is as old as its first
// chunk: seen says since when it is known, first is called of one that is new there,
// and those that have gone leave it.
func Old(seen map[uint32]time.Time, packs []pack.Info, now time.Time, after time.Duration, first func(number uint32)) map[uint32]bool {
	old := map[uint32]bool{}
	for _, info := range packs {
		at, known := seen[info.Number]
		if !known {
			at = now
			seen[info.Number] = at
			first(info.Number)
		}
		old[info.Number] = now.Sub(at) >= after
	}
	for n := range seen {
		if _, there := old[n]; !there {
			delete(seen, n)
		}
	}
	return old
}

// Within returns the chunks of packs.
func Within(packs []layout.Pack) map[chunks.Digest]bool {
	within := map[chunks.Digest]bool{}
	for _, p := range packs {
		for _, r := range p.Rows {
			within[r.Digest] = true
		}
	}
	return within
}
