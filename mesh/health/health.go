// Package health makes one word of what is known of the way to each other node:
// what the gossip says, how packets go, when something came from it last, and
// how long its answers take. It measures nothing and sends nothing.
//
// Who has died is known within 20 seconds, as the gossip knows it. A node that
// the others reach and this one does not is [Apart], not dead.
package health

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A State is how a node is, seen from here.
type State string

// The states.
const (
	Unknown State = "unknown" // it was never heard of since this node runs
	Up      State = "up"
	Slow    State = "slow"  // it answers in far more time than it can: somebody's line is full
	Apart   State = "apart" // it lives, and nothing goes from here to there
	Down    State = "down"  // it does not answer anybody
	Left    State = "left"  // it said farewell
)

// Seen is what is known at one moment.
type Seen struct {
	Gossip    string        // "alive", "failed", "left"; "": it has said nothing
	Path      string        // "direct", "relay", "none"
	Heard     time.Time     // when something came from it last, zero: never
	Handshake time.Time     // of the tunnel, zero: never
	RTT       time.Duration // zero: not measured
	Loss      float64       // the share of packets of late that did not arrive
	Why       string        // it is not reached
}

// A Peer is a node as it is known over time.
type Peer struct {
	Node    string
	State   State
	Since   time.Time     // of the state
	RTT     time.Duration // smoothed; zero: not measured
	Best    time.Duration // the shortest that is remembered
	Changes uint64        // of the state, since this node runs
	Seen
}

const (
	// patience is how long a node that the gossip calls alive may have no path:
	// paths change, and a new one is found within seconds.
	patience = 20 * time.Second
	// slowFactor and slowLeast are by how much answers take longer than the
	// best when a line is full.
	slowFactor, slowLeast = 4, 200 * time.Millisecond
	// bestKept is after how long the best is measured anew: routes change.
	bestKept = time.Hour
)

// A Tracker remembers. Its methods may be called concurrently.
type Tracker struct {
	told func(Peer, State)

	mu    sync.Mutex
	peers map[string]*tracked
}

type tracked struct {
	Peer
	pathless time.Time // since when there is no path; zero: there is one
	bestAt   time.Time
}

// New returns an empty Tracker. told, if not nil, is called with every node
// whose state has changed, and what it was.
func New(told func(now Peer, was State)) *Tracker {
	if told == nil {
		told = func(Peer, State) {}
	}
	return &Tracker{told: told, peers: map[string]*tracked{}}
}

// Look takes over what is known of all nodes now; nodes that are not in it are
// forgotten.
func (t *Tracker) Look(now time.Time, all map[string]Seen) {
	t.mu.Lock()
	type change struct {
		is  Peer
		was State
	}
	var changes []change
	for node := range t.peers {
		if _, is := all[node]; !is {
			delete(t.peers, node)
		}
	}
	for node, s := range all {
		p := t.peers[node]
		if p == nil {
			p = &tracked{Peer: Peer{Node: node, State: Unknown, Since: now}}
			t.peers[node] = p
		}
		if was := p.State; p.look(now, s) {
			changes = append(changes, change{p.Peer, was})
		}
	}
	t.mu.Unlock()
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.is.Node, b.is.Node) })
	for _, c := range changes {
		t.told(c.is, c.was)
	}
}

// look tells whether the state changes.
func (p *tracked) look(now time.Time, s Seen) bool {
	p.measure(now, s.RTT)
	s.RTT = p.RTT
	p.Seen = s
	switch {
	case s.Path != "none":
		p.pathless = time.Time{}
	case p.pathless.IsZero():
		p.pathless = now
	}
	state := p.judge(now)
	if state == p.State {
		return false
	}
	p.State, p.Since = state, now
	p.Changes++
	return true
}

// measure smooths round trips as TCP does.
func (p *tracked) measure(now time.Time, rtt time.Duration) {
	if rtt <= 0 {
		return
	}
	if p.RTT == 0 {
		p.RTT = rtt
	}
	p.RTT += (rtt - p.RTT) / 8
	if p.Best == 0 || rtt <= p.Best || now.Sub(p.bestAt) > bestKept {
		p.Best, p.bestAt = rtt, now
	}
}

// judge is the state that follows from what is known.
func (p *tracked) judge(now time.Time) State {
	switch p.Gossip {
	case "left":
		return Left
	case "failed":
		return Down
	}
	switch {
	case p.Path == "none" && p.Gossip == "alive":
		if now.Sub(p.pathless) < patience && (p.State == Up || p.State == Slow) {
			return p.State
		}
		return Apart
	case p.Path == "none" && p.Heard.IsZero():
		return Unknown
	case p.Path == "none":
		return Down
	case p.RTT > slowFactor*p.Best && p.RTT > p.Best+slowLeast:
		return Slow
	case p.State == Slow && p.RTT > p.Best+slowLeast/2:
		return Slow // it has not become well yet
	}
	return Up
}

// Peers returns all nodes, ordered by ID.
func (t *Tracker) Peers() []Peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]Peer, 0, len(t.peers))
	for _, p := range t.peers {
		all = append(all, p.Peer)
	}
	slices.SortFunc(all, func(a, b Peer) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

// Peer returns one node.
func (t *Tracker) Peer(node string) (Peer, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[node]; p != nil {
		return p.Peer, true
	}
	return Peer{}, false
}

// Text says in a few words why a node is not [Up]; "" if it is.
func (p Peer) Text() string {
	switch p.State {
	case Up:
		return ""
	case Slow:
		return fmt.Sprintf("answers take %v instead of %v: a line is full", p.RTT.Round(time.Millisecond), p.Best.Round(time.Millisecond))
	case Apart:
		return "others reach it, and this node does not: is UDP to its mesh port let through?"
	case Left:
		return "it has left"
	case Unknown:
		return cmp.Or(p.Why, "nothing was heard of it since this node runs")
	}
	return cmp.Or(p.Why, "it does not answer anybody")
}
