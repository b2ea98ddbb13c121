package gossip

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// Every answer to a probe has the clock of who answers, in Unix milliseconds: a node
// whose clock is wrong by hours finds out, and so do the others.

// clockFor is how long what a node said of its clock counts.
const clockFor = 2 * time.Minute

// A clock is how far another node's is ahead of ours.
type clock struct {
	ahead time.Duration
	at    time.Time
}

// AckPayload is what goes with an answer.
func (d *delegate) AckPayload() []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli()))
}

// NotifyPingComplete takes it.
func (d *delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	if len(payload) != 8 {
		return // an older node says nothing
	}
	g := (*Gossip)(d)
	now := time.Now()
	theirs := time.UnixMilli(int64(binary.BigEndian.Uint64(payload)))
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.members[n.Name] != nil {
		g.clocks[n.Name] = clock{theirs.Sub(now.Round(0).Add(-rtt / 2)), now}
	}
}

// Ahead is how far the clock that most have is ahead of ours: the median of ours and of
// those that were heard of in the last two minutes, the nearer one of two, and how many
// others these are. Of one other it is that one's.
func (g *Gossip) Ahead() (median time.Duration, of int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []time.Duration
	for _, ahead := range g.fresh() {
		all = append(all, ahead)
	}
	switch of = len(all); of {
	case 0:
		return 0, 0
	case 1:
		return all[0], 1
	}
	all = append(all, 0)
	slices.Sort(all)
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	if low.Abs() < high.Abs() {
		return low, of
	}
	return high, of
}

// Clocks returns how far those of others are ahead of ours, as far as they were heard of
// in the last two minutes.
func (g *Gossip) Clocks() map[string]time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fresh()
}

func (g *Gossip) fresh() map[string]time.Duration {
	all := map[string]time.Duration{}
	for name, c := range g.clocks {
		if g.members[name] != nil && time.Since(c.at) < clockFor {
			all[name] = c.ahead
		}
	}
	return all
}
