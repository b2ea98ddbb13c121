package tunnel

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

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

// A rule is what WireGuard is told of one key.
type rule struct {
	node    NodeID
	allowed netip.Addr
}

// SetPeers makes the table of peers as desired: all others are cut off at once,
// and their connections end. Peers that stay notice nothing. A table with a
// fault changes nothing.
func (t *Tunnel) SetPeers(table []Peer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	peers, want, err := t.plan(table)
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
	return t.apply(want)
}

// plan checks a table and returns it by node, and what WireGuard is to have.
func (t *Tunnel) plan(table []Peer) (map[NodeID]Peer, map[PublicKey]rule, error) {
	peers, want := map[NodeID]Peer{}, map[PublicKey]rule{}
	addresses := map[netip.Addr]bool{t.cfg.Address: true}
	ours, _ := t.cfg.Address.Prefix(64)
	for _, p := range table {
		if p.MTU == 0 {
			p.MTU = DefaultMTU
		}
		_, twice := peers[p.ID]
		switch {
		case p.ID == "" || p.ID == t.cfg.Self || twice:
			return nil, nil, fmt.Errorf("tunnel: peer %q is empty, ourselves, or there twice", p.ID)
		case len(p.Keys) == 0:
			return nil, nil, fmt.Errorf("tunnel: peer %s has no key", p.ID)
		case !ours.Contains(p.Address) || addresses[p.Address]:
			return nil, nil, fmt.Errorf("tunnel: address of peer %s is %v, want one of its own in %v", p.ID, p.Address, ours)
		case p.MTU < minMTU || p.MTU > t.cfg.MTU:
			return nil, nil, fmt.Errorf("tunnel: MTU of peer %s is %d, want %d to %d", p.ID, p.MTU, minMTU, t.cfg.MTU)
		}
		addresses[p.Address] = true
		var marks []stack.Mark
		for _, k := range p.Keys {
			if _, taken := want[k]; taken || k == publicOf(t.private) {
				return nil, nil, fmt.Errorf("tunnel: key %s of peer %s is another node's, too", k, p.ID)
			}
			if slices.Contains(marks, k.mark()) {
				return nil, nil, &keyError{"set peers", p.ID}
			}
			marks = append(marks, k.mark())
			want[k] = rule{p.ID, stack.Marked(p.Address, k.mark())}
		}
		p.Keys, p.Endpoints = slices.Clone(p.Keys), slices.Clone(p.Endpoints)
		peers[p.ID] = p
	}
	return peers, want, nil
}

// apply tells WireGuard the difference between what it has and want.
func (t *Tunnel) apply(want map[PublicKey]rule) error {
	var b strings.Builder
	for k, r := range t.applied {
		if want[k] != r {
			fmt.Fprintf(&b, "public_key=%s\nremove=true\n", k.hex())
		}
	}
	for k, r := range want {
		if t.applied[k] != r {
			b.WriteString(r.config(k))
		}
	}
	return t.configure(b.String(), want)
}

func (r rule) config(k PublicKey) string {
	return fmt.Sprintf("public_key=%s\nendpoint=%s\nreplace_allowed_ips=true\nallowed_ip=%v/128\n", k.hex(), r.node, r.allowed)
}

// configure gives WireGuard its rules. If that fails half way, the next time
// begins from nothing.
func (t *Tunnel) configure(text string, have map[PublicKey]rule) error {
	if len(t.applied) == 0 {
		text = "replace_peers=true\n" + text
	}
	if err := t.device.IpcSet(text); err != nil {
		clear(t.applied)
		return fmt.Errorf("tunnel: configure wireguard: %w", err)
	}
	t.applied = maps.Clone(have)
	return nil
}

// forget has WireGuard forget its sessions with all peers.
func (t *Tunnel) forget() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	have := t.applied
	var b strings.Builder
	for k, r := range have {
		b.WriteString(r.config(k))
	}
	t.applied = map[PublicKey]rule{}
	return t.configure(b.String(), have)
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
