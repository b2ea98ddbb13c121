package tunnel

import (
	"cmp"
	"crypto/ecdh"
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
// and their connections end. Peers that stay notice nothing. A row with a fault is
// left out, which the error says, and the others count: what one node says of itself
// harms nobody else.
func (t *Tunnel) SetPeers(table []Peer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.identities) == 0 {
		return errClosed
	}
	peers, faults := t.plan(table)
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
	errs := []error{faults}
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

// plan checks a table and returns what can be used of it, by node. A peer that is in the
// table of now comes first: nobody takes its keys from it.
func (t *Tunnel) plan(table []Peer) (map[NodeID]Peer, error) {
	p := planned{t: t, peers: map[NodeID]Peer{}, keys: map[PublicKey]bool{}, addresses: map[netip.Addr]bool{t.cfg.Address: true}}
	for _, k := range t.privateKeys() {
		p.keys[publicOf(k)] = true
	}
	table = slices.Clone(table)
	slices.SortStableFunc(table, func(a, b Peer) int { return cmp.Compare(t.strange(a), t.strange(b)) })
	var errs []error
	for _, row := range table {
		if row.MTU == 0 {
			row.MTU = DefaultMTU
		}
		if err := p.add(row); err != nil {
			errs = append(errs, err)
		}
	}
	return p.peers, errors.Join(errs...)
}

// strange is how many keys of a row are not those of the table of now.
func (t *Tunnel) strange(p Peer) (n int) {
	for _, k := range p.Keys {
		if !slices.Contains(t.peers[p.ID].Keys, k) {
			n++
		}
	}
	return n
}

// planned is what a table makes.
type planned struct {
	t         *Tunnel
	peers     map[NodeID]Peer
	keys      map[PublicKey]bool
	addresses map[netip.Addr]bool
}

func (n *planned) add(p Peer) error {
	ours, _ := n.t.cfg.Address.Prefix(64)
	_, twice := n.peers[p.ID]
	switch {
	case p.ID == "" || p.ID == n.t.cfg.Self || twice:
		return fmt.Errorf("tunnel: peer %q is empty, ourselves, or there twice", p.ID)
	case len(p.Keys) == 0:
		return fmt.Errorf("tunnel: peer %s has no key", p.ID)
	case !ours.Contains(p.Address) || n.addresses[p.Address]:
		return fmt.Errorf("tunnel: address of peer %s is %v, want one of its own in %v", p.ID, p.Address, ours)
	case p.MTU < minMTU || p.MTU > n.t.cfg.MTU:
		return fmt.Errorf("tunnel: MTU of peer %s is %d, want %d to %d", p.ID, p.MTU, minMTU, n.t.cfg.MTU)
	}
	var marks []stack.Mark
	for _, k := range p.Keys {
		if n.keys[k] {
			return fmt.Errorf("tunnel: key %s of peer %s is another node's, too", k, p.ID)
		}
		if slices.Contains(marks, k.mark()) {
			return &keyError{"set peers", p.ID}
		}
		if !slices.Contains(n.t.peers[p.ID].Keys, k) { // those of now were tried
			if err := n.try(k); err != nil {
				return fmt.Errorf("tunnel: key %s of peer %s: %w", k, p.ID, err)
			}
		}
		marks = append(marks, k.mark())
	}
	for _, k := range p.Keys {
		n.keys[k] = true
	}
	n.addresses[p.Address] = true
	p.Keys, p.Endpoints = slices.Clone(p.Keys), slices.Clone(p.Endpoints)
	n.peers[p.ID] = p
	return nil
}

// try says whether this node can have a secret with a key.
func (n *planned) try(k PublicKey) error {
	public, err := ecdh.X25519().NewPublicKey(k[:])
	if err == nil {
		_, err = n.t.privateKeys()[0].ECDH(public)
	}
	return err
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
