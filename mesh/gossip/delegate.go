package gossip

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/holdfast-mesh/holdfast/mesh/network"
)

// A delegate is what memberlist asks. It calls with its own lock held, so
// nothing here waits or calls back.
type delegate Gossip

var (
	errStranger = errors.New("of or from a node that is no member")
	errForeign  = errors.New("it speaks in another's name")
)

// NotifyAlive refuses news of a node that is no member, that is not where its
// name says, or that it has not signed.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	g := (*Gossip)(d)
	key := g.key(n.Name)
	switch {
	case key == nil:
		return g.refused.note(errStranger, n.Name)
	case !n.Addr.Equal(address(n.Name)) || n.Port != network.ServiceGossip:
		return g.refused.note(errForeign, n.Name)
	}
	if g.knows(n) {
		return nil
	}
	meta, err := parseMeta(n.Name, key, n.Meta)
	if err != nil {
		return g.refused.note(err, n.Name)
	}
	if n.Name == g.cfg.Self {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.started != 0 && meta.Started > g.started { // no life of before
			g.twice = time.Now()
		}
	}
	return nil
}

// knows tells whether the meta of n is the one that was verified last.
func (g *Gossip) knows(n *memberlist.Node) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.peers[n.Name]
	return p != nil && bytes.Equal(p.signed, n.Meta)
}

// metaOf reads the meta of n, and verifies it unless that was done.
func (g *Gossip) metaOf(n *memberlist.Node, key ed25519.PublicKey) (Meta, error) {
	g.mu.Lock()
	p := g.peers[n.Name]
	if p != nil && bytes.Equal(p.signed, n.Meta) {
		defer g.mu.Unlock()
		return p.Meta, nil
	}
	g.mu.Unlock()
	return parseMeta(n.Name, key, n.Meta)
}

func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.seen(n, Joined) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.seen(n, Updated) }

// seen notes that a node is there.
func (d *delegate) seen(n *memberlist.Node, kind EventKind) {
	g := (*Gossip)(d)
	key := g.key(n.Name)
	if n.Name == g.cfg.Self {
		g.nowPublished(n.Meta)
		return
	}
	if key == nil {
		return
	}
	meta, err := g.metaOf(n, key)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.peers[n.Name]
	switch {
	case p == nil || p.State != Alive:
		kind = Joined
		was := p
		p = &Peer{Node: n.Name, State: Alive, Since: time.Now()}
		if was != nil {
			p.Twice, p.lives = was.Twice, was.lives
		}
		g.peers[n.Name] = p
		g.news.forget(n.Name)
		g.heard.returned(n.Name)
	case kind == Joined:
		return // it is known
	}
	p.live(meta.Started, time.Now())
	p.Meta, p.MetaAt, p.signed = meta, time.Now(), bytes.Clone(n.Meta)
	g.events.add(Event{Kind: kind, Node: n.Name, Meta: meta})
}

func (d *delegate) NotifyLeave(n *memberlist.Node) {
	g := (*Gossip)(d)
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.peers[n.Name]
	if p == nil || p.State != Alive {
		return
	}
	e := Event{Kind: Failed, Node: n.Name, Meta: p.Meta}
	p.State, p.Since = Dead, time.Now()
	if g.heard.saidFarewell(n.Name) {
		p.State, e.Kind = Gone, Left
	}
	g.events.add(e)
}

func (d *delegate) NodeMeta(int) []byte {
	g := (*Gossip)(d)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.meta
}

func (d *delegate) NotifyMsg(b []byte) {
	g := (*Gossip)(d)
	a, err := g.news.take(g.key, b)
	switch {
	case err != nil:
		_ = g.refused.note(err, a.Node)
	case a.Kind != 0 && a.Kind != newsFarewell && a.Node != g.cfg.Self:
		g.events.add(Event{Kind: Announced, Node: a.Node, News: a})
	}
}

func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return (*Gossip)(d).news.queue.GetBroadcasts(overhead, limit)
}

func (d *delegate) LocalState(bool) []byte        { return nil }
func (d *delegate) MergeRemoteState([]byte, bool) {}

// logWriter passes on what memberlist says, which is much.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	w.log.Debug(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// joinAddress is how memberlist is told whom to call.
func joinAddress(node string) string {
	return fmt.Sprintf("%s/[%s]:%d", node, address(node), network.ServiceGossip)
}
