package peers

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/holdfast-mesh/holdfast/mesh/gossip"
	"github.com/holdfast-mesh/holdfast/mesh/health"
	"github.com/holdfast-mesh/holdfast/mesh/host"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/mesh/record"
)

// The ways in which a node is reached.
const (
	PathNone   = "none"
	PathDirect = "direct"
	PathRelay  = "relay"
)

// A Peer is what is known of the way to another node.
type Peer struct {
	Path    string        // one of the above
	RTT     time.Duration // zero: not measured
	Heard   time.Time     // zero: never
	Version string        // of its program, as it said last
	Why     string        // it is not reached
	Running []string      // what it does now, in short
	Trouble string        // why it does not take part as it should, as it says; "": it does

	Gossip    string       // what the gossip knows of it; "": nothing
	Feed      gossip.Place // where its feed ends, as it says
	Handshake time.Time    // of the tunnel, zero: never
	Loss      float64      // the share of packets of late that did not arrive
	State     health.State // "" before it was looked at
	Since     time.Time    // of the state
	Changes   uint64       // of the state
	Text      string       // why it is not up; "" if it is
}

// twiceFor is how long it is said of a node that it runs twice, after that was seen.
const twiceFor = 10 * time.Minute

// Twice tells whether somebody else speaks as this node.
func (l *Link) Twice() bool {
	return l != nil && (time.Since(time.Unix(l.twice.Load(), 0)) < twiceFor || l.gossip != nil && time.Since(l.gossip.Twice()) < twiceFor)
}

// Ahead is how far the clocks of others are ahead of this node's, and of how many this is
// the median.
func (l *Link) Ahead() (median time.Duration, of int) {
	if l.gossip == nil {
		return 0, 0
	}
	return l.gossip.Ahead()
}

// Clocks are how far those of other nodes are ahead of that of this node, by their IDs.
func (l *Link) Clocks() map[string]time.Duration {
	if l.gossip == nil {
		return nil
	}
	return l.gossip.Clocks()
}

// wrongClock is how wrong the clock of this node is before that of most others is taken.
const wrongClock = time.Minute

// Now is the time by the clock of this node, or by that of most, of three at least, if it
// is far from that: one command under a wrong clock would set that of the ledger ahead.
func (l *Link) Now() time.Time {
	return righted(time.Now(), l.Ahead)
}

func righted(now time.Time, ahead func() (time.Duration, int)) time.Time {
	if d, of := ahead(); of >= 2 && d.Abs() > wrongClock {
		return now.Add(d)
	}
	return now
}

// Peers returns what is known of the ways to all nodes, by their IDs.
func (l *Link) Peers() map[string]Peer {
	all := map[string]Peer{}
	for _, h := range l.host.Peers() {
		all[h.Node] = Peer{Path: PathNone}
	}
	for _, s := range l.tunnel.Stats() {
		p := Peer{Path: PathNone, RTT: s.RTT, Heard: s.LastHandshake, Handshake: s.LastHandshake, Loss: max(s.LossIn, s.LossOut)}
		if s.Path != "none" {
			p.Path = strings.Replace(string(s.Path), "both", PathDirect, 1)
		}
		all[string(s.ID)] = p
	}
	seen := map[string]time.Time{}
	for _, h := range l.host.Peers() {
		p := all[h.Node]
		p.Why = h.Failure
		switch {
		case p.Path != PathNone:
		case h.Path == host.PathRelay:
			p.Path = PathRelay
		case h.Path == host.PathDirect:
			p.Path = PathDirect
		}
		p.RTT = cmp.Or(p.RTT, h.RTT)
		all[h.Node], seen[h.Node] = p, h.LastSeen
	}
	for _, g := range l.gossip.Peers() {
		p, is := all[g.Node]
		if !is {
			continue
		}
		p.Heard, p.Version, p.Gossip = latest(p.Heard, g.Heard), g.Meta.Version, g.State.String()
		p.Running, p.Feed = printable(g.Meta.Running), g.Meta.Feed
		p.Trouble = strings.Join(printable([]string{g.Meta.Trouble}), "")
		if !g.Twice.IsZero() && time.Since(g.Twice) < twiceFor {
			p.Trouble = "it runs twice at once: two machines have its directory"
		}
		if g.State == gossip.Dead || g.State == gossip.Gone { // a stream may not know it yet
			p.Path, p.RTT, p.Why, p.Running, p.Trouble = PathNone, 0, "it has "+g.State.String(), nil, ""
			delete(seen, g.Node) // its stream stays until somebody misses an answer
		}
		all[g.Node] = p
	}
	for node, p := range all {
		p.Heard = latest(p.Heard, seen[node])
		p.Trouble = cmp.Or(l.dispute(node), p.Trouble)
		if p.Path != PathNone {
			p.Why = ""
		}
		if key, err := record.ParseNodeID(node); err == nil && p.Version == "" {
			if r, is := l.records.Get(key); is {
				p.Version = r.Version
			}
		}
		if h, is := l.health.Peer(node); is {
			p.State, p.Since, p.Changes, p.Text = h.State, h.Since, h.Changes, h.Text()
		}
		all[node] = p
	}
	return all
}

// look has the health of all nodes follow what is known now.
func (l *Link) look() {
	seen := map[string]health.Seen{}
	for node, p := range l.Peers() {
		seen[node] = health.Seen{Gossip: p.Gossip, Path: p.Path, Heard: p.Heard, Handshake: p.Handshake, RTT: p.RTT, Loss: p.Loss, Why: p.Why}
	}
	l.health.Look(time.Now(), seen)
}

// tell logs that the state of a node has changed.
func (l *Link) tell(p health.Peer, was health.State) {
	level := slog.LevelInfo
	if p.State == health.Down || p.State == health.Apart {
		level = slog.LevelWarn
	}
	l.cfg.Log.Log(context.Background(), level, "a node is "+string(p.State), "node", p.Node, "was", was, "path", p.Path, "rtt", p.RTT, "why", p.Text())
}

// printable leaves out texts that would do more to a terminal than be shown.
func printable(all []string) (good []string) {
	for _, s := range all {
		if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
			good = append(good, s)
		}
	}
	return good
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// What a token names at most.
const (
	askMembers = 4
	askAddrs   = 4
)

// Ask returns members that a machine that joins can ask, this one first: those
// of whom the authority chain says who they are.
func (l *Link) Ask() (all []invite.Member) {
	nodes := l.cluster.Nodes()
	slices.SortStableFunc(nodes, func(a, b string) int {
		switch self := l.self.NodeID(); {
		case a == self && b != self:
			return -1
		case b == self && a != self:
			return 1
		}
		return 0
	})
	for _, node := range nodes {
		key, err := record.ParseNodeID(node)
		if err != nil || len(all) == askMembers || !l.cluster.Signed(node) || l.cluster.Roster().Member(node) != nil {
			continue
		}
		r, is := l.records.Get(key)
		if !is || len(r.Addrs) == 0 {
			continue
		}
		texts := r.Texts()
		all = append(all, invite.Member{Node: node, Addrs: texts[:min(len(texts), askAddrs)]})
	}
	return all
}

// Follow makes all tables what the roster says, before it returns.
func (l *Link) Follow() {
	l.apply()
	l.syncer.Push()
}
