package members

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster"
)

// A Removal is what became of the removal of a member, when it is answered.
type Removal struct {
	Removed string `json:"removed"` // name
	Nodes   int    `json:"nodes"`   // others that take part, which are to hear of it
	Heard   int    `json:"heard"`   // how many of them have
	Agreed  bool   `json:"agreed"`  // there is a quorum, and the ledger has it
}

// hearTime is how long is waited for those that are reached: they cut off within two
// seconds who is ejected.
const (
	hearTime  = 2 * time.Second
	hearPause = 50 * time.Millisecond
)

// heard waits until those that are reached have heard that a member was removed, and
// says how many have.
func (a api) heard(ctx context.Context, m Member) Removal {
	r := Removal{Removed: m.Name, Agreed: a.Cluster.Group().Status().Leader != ""}
	var others []string
	for _, o := range All(a.Cluster, false) {
		if o.ID != m.ID && !o.Self && o.State != ledger.Pending {
			others = append(others, o.ID)
		}
	}
	r.Nodes = len(others)
	since, until := time.Now(), time.After(hearTime)
	a.Cut(ctx) // once more, since what was told before this moment is not counted
	for {
		told, left := a.Told(since)
		r.Heard = 0
		for _, id := range others {
			if slices.Contains(told, id) {
				r.Heard++
			}
		}
		if left == 0 || r.Heard == r.Nodes {
			return r
		}
		select {
		case <-ctx.Done():
			return r
		case <-until:
			return r
		case <-time.After(hearPause):
		}
	}
}

// startTime is how long a node may look for a leader when it was started, before that is
// worth more than a word.
const startTime = 2 * time.Minute

// Starting tells whether a node that runs since then has just started, and has found no
// leader yet.
func Starting(c *cluster.Cluster, since time.Time) bool {
	return c.Group().Status().Leader == "" && time.Since(since) < startTime
}

// Missed is for how long the ledger was not heard of, as far as people have to look at
// it: no time if there is none yet, or if the node is starting, which status says itself.
func Missed(c *cluster.Cluster, since time.Time) time.Duration {
	if c.Waits() || Starting(c, since) {
		return 0
	}
	return c.LedgerAge()
}
