package peers

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/mesh/gossip"
	"github.com/holdfast-mesh/holdfast/mesh/host"
	"github.com/holdfast-mesh/holdfast/mesh/record"
	"github.com/holdfast-mesh/holdfast/tunnel"
)

// apply makes the tables of tunnel, libp2p and gossip what the roster says: who
// is not in it is cut off when it returns.
func (l *Link) apply() {
	l.learn()
	var table []tunnel.Peer
	var talk []gossip.Member
	known := map[string]host.Known{}
	for _, node := range l.cluster.Nodes() {
		if node == l.self.NodeID() || !(members{l.cluster}).Member(node) {
			continue
		}
		key, err := record.ParseNodeID(node)
		if err != nil {
			continue // IDs in the roster are checked
		}
		talk = append(talk, gossip.Member{Node: node, Key: ed25519.PublicKey(key[:])})
		r, is := l.records.Get(key)
		if !is {
			known[node] = host.Known{Addrs: texts(l.ByHand(node))}
			continue
		}
		at := l.ByHand(node)
		known[node] = host.Known{Addrs: append(r.Texts(), texts(at)...), Relay: r.Relay}
		peer := tunnel.Peer{ID: tunnel.NodeID(node), Address: record.Address(l.cfg.Cluster, key), Endpoints: append(r.Endpoints(), at...)}
		for _, k := range r.WireGuard {
			peer.Keys = append(peer.Keys, tunnel.PublicKey(k))
		}
		table = append(table, peer)
	}
	l.host.SetPeers(known)
	l.gossip.SetMembers(talk)
	l.setPeers(table)
}

// setPeers gives the tunnel its table, and says once of which rows it has no use.
func (l *Link) setPeers(table []tunnel.Peer) {
	fault := ""
	if err := l.tunnel.SetPeers(table); err != nil {
		fault = err.Error()
	}
	l.mu.Lock()
	news := fault != l.fault
	l.fault = fault
	l.mu.Unlock()
	if news && fault != "" {
		l.cfg.Log.Error("the tunnel does not follow the roster", "err", fault)
	}
}

// learn takes over the records that machines showed when they joined, and forgets those
// of who was removed.
func (l *Link) learn() {
	for _, r := range l.records.Have() {
		if node := r.Node.NodeID(); l.cluster.RemovalSigned(node) && node != l.self.NodeID() {
			if err := l.records.Forget(r.Node); err != nil {
				l.cfg.Log.Error("the record of a node that was removed stays", "node", node, "err", err)
			}
		}
	}
	for id, row := range ledger.Members.All(l.cluster.View()) {
		if len(row.Body.Record) == 0 || row.Body.State == ledger.Removed {
			continue
		}
		_, err := l.records.Put(record.Signed{Body: row.Body.Record, Sig: row.Body.RecordSig})
		if err != nil && !errors.Is(err, record.ErrOld) && !l.disputed(err) {
			l.cfg.Log.Warn("a node's record in the ledger is of no use", "node", id, "err", err)
		}
	}
}

// disputed notes that two nodes say that one key of the tunnel is theirs, which is told in
// their state until none of them does any more.
func (l *Link) disputed(err error) bool {
	taken, is := errors.AsType[*record.TakenError](err)
	if is {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.disputes[taken.Node.NodeID()] = dispute{taken.By.NodeID(), timeNow()}
	}
	return is
}

type dispute struct {
	with string
	seen time.Time
}

// disputeFor is how long it is told: records are compared more often.
const disputeFor = 15 * time.Minute

// dispute says of a node with whom it has one, in words.
func (l *Link) dispute(node string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, is := l.disputes[node]
	if !is || timeNow().Sub(d.seen) > disputeFor || !(members{l.cluster}).Member(d.with) {
		return ""
	}
	return fmt.Sprintf("it says that the tunnel key of %s is its own, and was not the first to say so: it lies, or one machine has the key of the other", l.cluster.NameOf(d.with))
}

// renew signs a new record of this node if it is not where the last one says.
func (l *Link) renew() error {
	now := record.Record{WireGuard: l.keys.public(), Addrs: l.addrs(), Version: l.cfg.Version, Relay: l.host.Relays()}
	is, known := l.records.Get(l.self)
	if l.own != 0 && is.Seq > l.own && is.At > l.begun.Unix() { // one of before this life is of a disk that went back
		l.twice.Store(timeNow().Unix())
		l.cfg.Log.Error("somebody else has signed a record of this node since it was started: another machine has its key", "says", is.Addrs)
	}
	l.own = is.Seq
	if known && is.Version == now.Version && is.Relay == now.Relay &&
		slices.Equal(is.WireGuard, now.WireGuard) && slices.Equal(is.Addrs, now.Addrs) {
		l.keys.published(timeNow()) // after a restart, perhaps
		return nil
	}
	if _, err := l.records.Renew(now, l.cfg.Key, timeNow()); err != nil {
		return err
	}
	is, _ = l.records.Get(l.self)
	l.own = is.Seq
	l.keys.published(timeNow())
	l.syncer.Push()
	return nil
}

// Holds says which part of the link still has to do with a node, "" if none has.
func (l *Link) Holds(node string) string {
	for _, s := range l.tunnel.Stats() {
		if string(s.ID) == node {
			return "tunnel"
		}
	}
	switch {
	case l.host.Connected(node):
		return "libp2p"
	case l.gossip.Member(node):
		return "gossip"
	}
	return ""
}

// Where returns the address at which a node is reached, if it is reached without
// a relay.
func (l *Link) Where(node string) netip.Addr {
	for _, s := range l.tunnel.Stats() {
		if string(s.ID) == node && s.Endpoint.IsValid() {
			return s.Endpoint.Addr().Unmap()
		}
	}
	return netip.Addr{}
}

// addrs are where this node can be reached: what it knows by itself, and what
// the others see.
func (l *Link) addrs() []record.Addr {
	all := l.host.Addrs()
	add := func(text string) {
		if len(all) < record.MaxAddrs && !slices.ContainsFunc(all, func(a record.Addr) bool { return a.Text == text }) {
			all = append(all, record.Addr{Text: text, Origin: record.Observed})
		}
	}
	for _, at := range l.tunnel.Observed() {
		add(quicAt(at))
	}
	return all
}

func quicAt(at netip.AddrPort) string { return textAt(at, "udp") + "/quic-v1" }
func tcpAt(at netip.AddrPort) string  { return textAt(at, "tcp") }

func textAt(at netip.AddrPort, over string) string {
	family := "ip4"
	if at.Addr().Unmap().Is6() {
		family = "ip6"
	}
	return fmt.Sprintf("/%s/%s/%s/%d", family, at.Addr().Unmap(), over, at.Port())
}

// sawUs notes where a member sees this node.
func (l *Link) sawUs(by, address string) {
	if _, err := multiaddr.NewMultiaddr(address); err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[by] = address
}
