package gossip

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// A State is what is believed of a node.
type State uint8

// The states of a node.
const (
	Unknown State = iota // a member that nothing has been heard of since this node runs
	Alive
	Dead // it does not answer anybody
	Gone // it said farewell
)

func (s State) String() string {
	return [...]string{"unknown", "alive", "failed", "left"}[min(int(s), 3)]
}

// A Peer is another member.
type Peer struct {
	Node   string
	State  State
	Since  time.Time // of the state; zero if unknown
	Heard  time.Time // when something came from the node itself, zero: never
	Meta   Meta      // the last that is known
	MetaAt time.Time // when it came
	Twice  time.Time // when it was last seen to run in two places at once, zero: never
	signed []byte    // the meta as it came
	lives  []int64   // when the lives of it began that were seen, the one of now last
}

const maxLives = 16

// live notes which life of a node has spoken. A node that is started again has a life
// that was not seen before; one that speaks again after another is of a machine with the
// same directory.
func (p *Peer) live(started int64, now time.Time) {
	i := slices.Index(p.lives, started)
	switch {
	case started == 0, i >= 0 && i == len(p.lives)-1:
		return
	case i >= 0:
		p.Twice = now
		p.lives = slices.Delete(p.lives, i, i+1)
	case len(p.lives) == maxLives:
		p.lives = slices.Delete(p.lives, 0, 1)
	}
	p.lives = append(p.lives, started)
}

// Twice is when somebody else spoke last as this node, in a life that began after its
// own; zero: nobody has.
func (g *Gossip) Twice() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.twice
}

// Peers returns all other members that have been seen, ordered by node.
func (g *Gossip) Peers() []Peer {
	g.mu.Lock()
	all := make([]Peer, 0, len(g.peers))
	for _, p := range g.peers {
		all = append(all, *p)
	}
	g.mu.Unlock()
	return g.complete(all)
}

// Members returns all other members, seen or not, ordered by node.
func (g *Gossip) Members() []Peer {
	g.mu.Lock()
	all := make([]Peer, 0, len(g.members))
	for name := range g.members {
		if p := g.peers[name]; p != nil {
			all = append(all, *p)
		} else if name != g.cfg.Self {
			all = append(all, Peer{Node: name})
		}
	}
	g.mu.Unlock()
	return g.complete(all)
}

func (g *Gossip) complete(all []Peer) []Peer {
	for i := range all {
		all[i].Heard = g.heard.when(all[i].Node)
	}
	slices.SortFunc(all, func(a, b Peer) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

// Refused returns how much was refused so far, by reason.
func (g *Gossip) Refused() map[string]uint64 { return g.refused.all() }

// An EventKind is what has happened.
type EventKind uint8

// The kinds of events.
const (
	Joined    EventKind = iota // a member is there
	Updated                    // it says something new of itself
	Failed                     // it does not answer anybody
	Left                       // it said farewell
	Removed                    // it is no member any more
	Announced                  // it has news
)

func (k EventKind) String() string {
	return [...]string{"joined", "updated", "failed", "left", "removed", "announced"}[min(int(k), 5)]
}

// An Event is what has happened to a member.
type Event struct {
	Kind EventKind
	Node string
	Meta Meta // the last that is known; not for Announced
	News News // for Announced
}

// Subscribe has f called for every event, in order and one at a time, while
// Run runs. f must be quick: others wait for it. If it is too slow, events are
// lost, oldest first, and counted; [Gossip.Peers] is always right. cancel ends
// it.
func (g *Gossip) Subscribe(f func(Event)) (cancel func()) { return g.events.subscribe(f) }

const maxEvents = 4096

// events are on their way to who wants to know.
type events struct {
	more chan struct{}

	mu    sync.Mutex
	queue []Event
	lost  uint64
	subs  []*func(Event)
}

func (e *events) subscribe(f func(Event)) func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.subs = append(e.subs, &f)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.subs = slices.DeleteFunc(e.subs, func(o *func(Event)) bool { return o == &f })
	}
}

func (e *events) add(v Event) {
	e.mu.Lock()
	if len(e.queue) >= maxEvents {
		e.queue = e.queue[1:]
		e.lost++
	}
	e.queue = append(e.queue, v)
	e.mu.Unlock()
	select {
	case e.more <- struct{}{}:
	default:
	}
}

// dispatch hands out events until ctx ends.
func (e *events) dispatch(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.more:
		}
		e.mu.Lock()
		queue := e.queue
		e.queue = nil
		subs := slices.Clone(e.subs)
		e.mu.Unlock()
		for _, v := range queue {
			for _, f := range subs {
				(*f)(v)
			}
		}
	}
}
