package peers

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/holdfast-mesh/holdfast/mesh/gossip"
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
}

// Peer returns what is known of the way to a node.
func (l *Link) Peer(node string) Peer {
	p := Peer{Path: PathNone}
	for _, s := range l.tunnel.Stats() {
		if string(s.ID) == node {
			p.RTT, p.Heard = s.RTT, s.LastHandshake
			if s.Path != "none" {
				p.Path = strings.Replace(string(s.Path), "both", PathDirect, 1)
			}
		}
	}
	var seen time.Time
	for _, h := range l.host.Peers() {
		if h.Node != node {
			continue
		}
		if h.Failure != "" {
			p.Why = h.Failure
		}
		if p.Path == PathNone && h.Path == host.PathRelay {
			p.Path = PathRelay
		} else if p.Path == PathNone && h.Path == host.PathDirect {
			p.Path = PathDirect
		}
		if p.RTT == 0 {
			p.RTT = h.RTT
		}
		seen = h.LastSeen
	}
	if key, err := record.ParseNodeID(node); err == nil {
		if r, is := l.records.Get(key); is {
			p.Version = r.Version
		}
	}
	for _, g := range l.gossip.Peers() {
		if g.Node == node {
			p.Heard = latest(p.Heard, g.Heard)
			if g.Meta.Version != "" {
				p.Version = g.Meta.Version
			}
			p.Running = printable(g.Meta.Running)
			if g.State == gossip.Dead || g.State == gossip.Gone { // a stream may not know it yet
				p.Path, p.RTT, p.Why, p.Running = PathNone, 0, "it has "+g.State.String(), nil
				seen = time.Time{} // its stream stays until somebody misses an answer
			}
		}
	}
	p.Heard = latest(p.Heard, seen)
	if p.Path != PathNone {
		p.Why = ""
	}
	return p
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
	if err := l.apply(); err != nil {
		l.cfg.Log.Error("the tunnel does not follow the roster", "err", err)
	}
	l.syncer.Push()
}
