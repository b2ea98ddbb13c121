package ledger_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// An ejection is one node of the simulation in hostile hands: operators remove
// it at some moment, at some site, with or without a quorum, and it goes on as if
// nothing had happened. From when a site knows, the node is not reached there:
// its connections end, and new ones get no more than a refusal.
type ejection struct {
	m      *mesh
	victim *site
	link   []byte // what operators have signed; nil: nothing yet

	mu     sync.Mutex
	visits []*visit
}

// What a site that knows may still give an ejected node.
const (
	goodbye  = time.Second      // until its connections have ended
	stranger = 12 * time.Second // that one may be heard who is not known to be one
	refusal  = 1 << 10          // bytes
)

// A visit is a connection from the victim that a site has accepted.
type visit struct {
	net.Conn
	e       *ejection
	at      *site
	service uint16
	began   time.Time
	known   time.Time // when the site was first seen to know; zero: not yet
	given   int       // bytes since
	counted bool      // as an error
	closed  bool
}

// RemoteNode is proof of who is at the other end.
func (v *visit) RemoteNode() string { return v.e.victim.id }

// knows tells whether a site believes that the victim was ejected.
func (e *ejection) knows(s *site) bool { return s.keeper.Member(e.victim.id) != nil }

func (v *visit) Write(b []byte) (int, error) {
	knew := v.e.knows(v.at)
	n, err := v.Conn.Write(b)
	if knew {
		v.e.mu.Lock()
		v.given += n
		v.e.mu.Unlock()
	}
	return n, err
}

func (v *visit) Close() error {
	v.e.mu.Lock()
	v.closed = true
	v.e.mu.Unlock()
	return v.Conn.Close()
}

// watched is the network of a site, whose visits of the victim are watched.
type watched struct {
	consensus.Network
	e  *ejection
	at *site
}

func (w watched) Listen(service uint16) (net.Listener, error) {
	l, err := w.Network.Listen(service)
	return watchedListener{l, w, service}, err
}

type watchedListener struct {
	net.Listener
	w       watched
	service uint16
}

func (l watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || c.(consensus.Conn).RemoteNode() != l.w.e.victim.id {
		return c, err
	}
	v := &visit{Conn: c, e: l.w.e, at: l.w.at, service: l.service, began: time.Now()}
	l.w.e.mu.Lock()
	defer l.w.e.mu.Unlock()
	l.w.e.visits = append(l.w.e.visits, v)
	return v, nil
}

// look reports visits that last.
func (e *ejection) look() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	knows := map[*site]bool{}
	for _, s := range e.m.sites {
		knows[s] = e.knows(s)
	}
	for _, v := range e.visits {
		if v.known.IsZero() && knows[v.at] {
			v.known = now
		}
		lasts := goodbye
		if v.known.Sub(v.began) < goodbye { // it came when the site knew, or nearly
			lasts = stranger
		}
		if v.known.IsZero() || v.counted {
			continue
		}
		if !v.closed && now.Sub(v.known) > lasts || v.given > refusal {
			v.counted = true
			e.m.t.Errorf("service %d of site %s reaches the ejected node: %v after it knew, the connection is open: %t; it was given %d bytes", v.service, v.at.id, now.Sub(v.known), !v.closed, v.given)
		}
	}
	e.visits = slices.DeleteFunc(e.visits, func(v *visit) bool { return v.closed && (v.counted || !v.known.IsZero()) })
}

// sign has operators remove the victim, and a site told of it: it gives that to
// the ledger or, without a quorum, believes it at once.
func (e *ejection) sign(s *site) {
	if e.link != nil || s == e.victim || s.stop == nil {
		return
	}
	chain := s.keeper.Chain()
	e.link = chain.Sign(chain.Draft(authority.RemoveNode, authority.Removal{Key: authority.PublicKey(e.victim.key)}), key(operator))
	if _, err := s.client.Do(context.Background(), "root@pam", "", ledger.KindAuthority, ledger.Link{Link: e.link}); err == nil {
		return
	}
	if err := s.keeper.Extend([][]byte{e.link}); err != nil && !e.knows(s) {
		e.m.t.Errorf("site %s does not believe the operators: %v", s.id, err)
	}
	s.group.Recheck()
}

// settle has the ledger know at last what operators have signed, as the leader of
// a cluster does by itself.
func (e *ejection) settle(s *site) {
	e.sign(s)
	for range 10 {
		if _, err := s.client.Do(context.Background(), "root@pam", "", ledger.KindAuthority, ledger.Link{Link: e.link}); err == nil {
			return
		}
		if e.applied(s.ledger.View()) {
			return
		}
		time.Sleep(10 * time.Second)
	}
	e.m.t.Errorf("the ledger does not take what operators have signed: %+v", s.group.Status())
}

func (e *ejection) applied(v ledger.View) bool {
	m, _ := ledger.Members.Get(v, e.victim.id)
	return m.Body.State == ledger.Removed
}

// check looks at a state in the end: the victim is no member, and nothing that it
// wanted was done after it had ceased to be one.
func (e *ejection) check(v ledger.View) {
	removed, _ := ledger.Members.Get(v, e.victim.id)
	if removed.Body.State != ledger.Removed {
		e.m.t.Errorf("the ejected node is %q", removed.Body.State)
	}
	for _, a := range ledger.Audits.All(v) {
		if a.Body.Index > removed.Version && a.Body.Node == authority.PublicKey(e.victim.key) && a.Body.Result.Code == ledger.Done {
			e.m.t.Errorf("command %d of the ejected node was applied, which was removed by command %d", a.Body.Index, removed.Version)
		}
	}
}
