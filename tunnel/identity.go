package tunnel

import (
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"github.com/holdfast-mesh/holdfast/tunnel/bind"
	"github.com/holdfast-mesh/holdfast/tunnel/stack"
)

// An identity is one key of ours and a WireGuard that has it. There is more
// than one while the key changes.
type identity struct {
	key       *ecdh.PrivateKey
	wireGuard *device.Device
	applied   map[PublicKey]rule // what WireGuard has

	// nodes are those that WireGuard is to know, nil for all: a new key is for
	// nodes in use first, as each costs memory twice while it changes.
	nodes map[NodeID]bool
	until time.Time // when it is given up; zero: it is the newest
}

var errClosed = errors.New("tunnel: it is closed")

// newIdentity returns an identity that is not up yet, and knows no node.
func (t *Tunnel) newIdentity(key *ecdh.PrivateKey) (*identity, error) {
	d := t.stack.NewDevice(publicOf(key).mark())
	id := &identity{key: key, applied: map[PublicKey]rule{}}
	id.wireGuard = device.NewDevice(d, t.bind.NewIdentity(key), wireGuardLog(t.cfg.Log))
	id.wireGuard.DisableSomeRoamingForBrokenMobileSemantics() // the endpoint of a key never changes
	if err := id.wireGuard.IpcSet("private_key=" + hex.EncodeToString(key.Bytes()) + "\n"); err != nil {
		id.wireGuard.Close()
		return nil, fmt.Errorf("tunnel: set private key: %w", err)
	}
	return id, nil
}

// start opens the mesh port.
func (t *Tunnel) start() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.identities) == 0 {
		return errClosed
	}
	t.up = true
	for _, id := range slices.Backward(t.identities) {
		if err := id.wireGuard.Up(); err != nil {
			return err
		}
	}
	return nil
}

// privateKeys returns our keys in use, newest first; t.mu is held, or nobody
// else has t.
func (t *Tunnel) privateKeys() (all []*ecdh.PrivateKey) {
	for _, id := range t.identities {
		all = append(all, id.key)
	}
	return all
}

func (t *Tunnel) olderKeys() []*ecdh.PrivateKey {
	if t.previous == nil {
		return nil
	}
	return []*ecdh.PrivateKey{t.previous}
}

// A rule is what WireGuard is told of one key of a node.
type rule struct {
	node    NodeID
	allowed string
}

func ruleFor(p Peer, k PublicKey) rule {
	return rule{p.ID, stack.Marked(p.Address, k.mark()).String()}
}

func (r rule) config(k PublicKey) string {
	return fmt.Sprintf("public_key=%s\nendpoint=%s\nreplace_allowed_ips=true\nallowed_ip=%s/128\n",
		k.hex(), bind.EndpointOf(r.node, k), r.allowed)
}

// apply tells WireGuard the difference between what it has and is to have.
func (id *identity) apply(peers map[NodeID]Peer) error {
	want := map[PublicKey]rule{}
	for _, p := range peers {
		if id.nodes != nil && !id.nodes[p.ID] {
			continue
		}
		for _, k := range p.Keys {
			want[k] = ruleFor(p, k)
		}
	}
	var b strings.Builder
	for k, r := range id.applied {
		if want[k] != r {
			fmt.Fprintf(&b, "public_key=%s\nremove=true\n", k.hex())
		}
	}
	for k, r := range want {
		if id.applied[k] != r {
			b.WriteString(r.config(k))
		}
	}
	return id.configure(b.String(), want)
}

// configure gives WireGuard its rules. If that fails half way, the next time
// begins from nothing.
func (id *identity) configure(text string, have map[PublicKey]rule) error {
	if len(id.applied) == 0 {
		text = "replace_peers=true\n" + text
	}
	if err := id.wireGuard.IpcSet(text); err != nil {
		clear(id.applied)
		return fmt.Errorf("tunnel: configure wireguard: %w", err)
	}
	id.applied = maps.Clone(have)
	return nil
}

// forget has WireGuard forget its sessions with all nodes.
func (id *identity) forget() error {
	have := id.applied
	var b strings.Builder
	for k, r := range have {
		b.WriteString(r.config(k))
	}
	id.applied = map[PublicKey]rule{}
	return id.configure(b.String(), have)
}
