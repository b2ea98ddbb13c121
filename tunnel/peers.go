package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/holdfast-mesh/holdfast/tunnel/bind"
	"github.com/holdfast-mesh/holdfast/tunnel/stack"
)

// A Peer is one row of the desired table: a node that we are linked to.
type Peer struct {
	ID        NodeID
	Keys      []PublicKey      // newest first; more than one while the node changes its key
	Address   netip.Addr       // in the tunnel, in the same /64 as ours
	Endpoints []netip.AddrPort // where it may be reached; may be empty
	MTU       int              // largest packet to and from it; default 1280
}

// SetPeers makes the table of peers as desired: all others are cut off at once,
// and their connections end. Peers that stay notice nothing. A table with a
// fault changes nothing.
func (t *Tunnel) SetPeers(table []Peer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.identities) == 0 {
		return errClosed
	}
	peers, err := t.plan(table)
	if err != nil {
		return err
	}
	var toBind []bind.PeerConfig
	var routes []stack.Route
	byAddr := map[netip.Addr]NodeID{t.cfg.Address: t.cfg.Self}
	for _, p := range peers {
		c := bind.PeerConfig{ID: p.ID, Endpoints: p.Endpoints, Address: p.Address, MTU: p.MTU}
		r := stack.Route{Address: p.Address, MTU: p.MTU}
		for _, k := range p.Keys {
			c.Keys = append(c.Keys, k)
			r.Marks = append(r.Marks, k.mark())
		}
		toBind, routes = append(toBind, c), append(routes, r)
		byAddr[p.Address] = p.ID
	}
	if err := t.bind.SetPeers(toBind); err != nil {
		return err
	}
	if err := t.stack.SetRoutes(routes); err != nil {
		return err
	}
	before := t.peers
	t.peers, t.byAddr = peers, byAddr
	for id, p := range before {
		if now, ok := peers[id]; !ok || now.Address != p.Address {
			t.hangUp(id)
			delete(t.seen, id)
		}
	}
	var errs []error
	for _, id := range t.identities {
		for _, p := range peers {
			if _, ok := before[p.ID]; !ok && id.nodes != nil {
				id.nodes[p.ID] = true // it may know our newest key only
			}
		}
		errs = append(errs, id.apply(peers))
	}
	return errors.Join(errs...)
}

// plan checks a table and returns it by node.
func (t *Tunnel) plan(table []Peer) (map[NodeID]Peer, error) {
	peers, taken := map[NodeID]Peer{}, map[PublicKey]bool{}
	for _, k := range t.privateKeys() {
		taken[publicOf(k)] = true
	}
	addresses := map[netip.Addr]bool{t.cfg.Address: true}
	ours, _ := t.cfg.Address.Prefix(64)
	for _, p := range table {
		if p.MTU == 0 {
			p.MTU = DefaultMTU
		}
		_, twice := peers[p.ID]
		switch {
		case p.ID == "" || p.ID == t.cfg.Self || twice:
			return nil, fmt.Errorf("tunnel: peer %q is empty, ourselves, or there twice", p.ID)
		case len(p.Keys) == 0:
			return nil, fmt.Errorf("tunnel: peer %s has no key", p.ID)
		case !ours.Contains(p.Address) || addresses[p.Address]:
			return nil, fmt.Errorf("tunnel: address of peer %s is %v, want one of its own in %v", p.ID, p.Address, ours)
		case p.MTU < minMTU || p.MTU > t.cfg.MTU:
			return nil, fmt.Errorf("tunnel: MTU of peer %s is %d, want %d to %d", p.ID, p.MTU, minMTU, t.cfg.MTU)
		}
		addresses[p.Address] = true
		var marks []stack.Mark
		for _, k := range p.Keys {
			if taken[k] {
				return nil, fmt.Errorf("tunnel: key %s of peer %s is another node's, too", k, p.ID)
			}
			if slices.Contains(marks, k.mark()) {
				return nil, &keyError{"set peers", p.ID}
			}
			marks = append(marks, k.mark())
			taken[k] = true
		}
		p.Keys, p.Endpoints = slices.Clone(p.Keys), slices.Clone(p.Endpoints)
		peers[p.ID] = p
	}
	return peers, nil
}

// forget has WireGuard forget its sessions with all peers.
func (t *Tunnel) forget() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, id := range t.identities {
		errs = append(errs, id.forget())
	}
	return errors.Join(errs...)
}

// NodeOf returns the node behind an address in the tunnel: who is calling.
func (t *Tunnel) NodeOf(addr netAddr) (NodeID, bool) {
	if addr == nil {
		return "", false
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return "", false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := t.byAddr[ap.Addr()]
	return id, ok
}
