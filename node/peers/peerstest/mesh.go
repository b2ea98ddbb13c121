// Package peerstest is whole meshes in one process, over a network in memory
// with its routers and its weather (tunneltest): each node has its part of the
// cluster on disk, its tunnel, libp2p and gossip, as a daemon puts them together.
// Nothing of it needs privileges or touches the network of the machine.
//
// Time is real: the tunnel is too much of its own for virtual time.
package peerstest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/mesh/record"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/cluster/home"
	"github.com/holdfast-mesh/holdfast/node/peers"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// A Mesh is a cluster of nodes, the first of which has founded it.
type Mesh struct {
	Net   *tunneltest.Network
	Nodes []*Node

	Log *slog.Logger // of all nodes; default: discard

	dir      string
	operator ed25519.PrivateKey
}

// A Node is one of them.
type Node struct {
	Name    string
	ID      string
	Cluster *cluster.Cluster // while it runs, as Link
	Link    *peers.Link

	m    *Mesh
	host *tunneltest.Host
	key  ed25519.PrivateKey
	dir  string
	net  *peers.Simulated
	stop context.CancelFunc
	done chan error
}

// New returns a mesh without nodes, whose files are in dir and whose chances come
// from seed. Close ends it.
func New(dir string, seed uint64) *Mesh {
	_, operator, _ := ed25519.GenerateKey(rand.Reader) // never fails
	return &Mesh{Net: tunneltest.New(seed), dir: dir, operator: operator}
}

// Close stops all nodes and the network.
func (m *Mesh) Close() error {
	var g errgroup.Group
	for _, n := range m.Nodes {
		g.Go(n.Stop)
	}
	err := g.Wait()
	m.Net.Close()
	return err
}

// listen is where all nodes do, each on its host.
const listen = ":51820"

// node returns a node on a host, which all can reach or only who was called.
func (m *Mesh) node(h *tunneltest.Host, open bool) (*Node, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	addresses, err := h.Addresses()
	if err != nil {
		return nil, err
	}
	n := &Node{
		host: h, Name: h.Name, ID: record.KeyOf(key).NodeID(), m: m, key: key, dir: filepath.Join(m.dir, h.Name),
		net: &peers.Simulated{Listen: h.Listen, Addresses: h.Addresses, Packets: h.Packets},
	}
	if open {
		n.net.At = []netip.AddrPort{netip.AddrPortFrom(addresses[0], 51820)}
	}
	m.Nodes = append(m.Nodes, n)
	return n, nil
}

func (n *Node) config() cluster.Config {
	return cluster.Config{Dir: n.dir, Key: n.key, Version: "test", Log: n.m.Log}
}

// Found makes the first node, on a host that all can reach. It does not run yet.
func (m *Mesh) Found(ctx context.Context, h *tunneltest.Host) (*Node, error) {
	n, err := m.node(h, true)
	if err != nil {
		return nil, err
	}
	err = cluster.Found(ctx, n.config(), cluster.Founding{Name: n.Name, Site: n.Name, Operator: func() (ed25519.PrivateKey, error) { return m.operator, nil }})
	return n, errors.Join(err, home.Founded(n.dir))
}

// Join has a machine join with a token that the first node makes, which runs.
func (m *Mesh) Join(ctx context.Context, h *tunneltest.Host, open bool) (*Node, error) {
	token, err := m.token(ctx)
	if err != nil {
		return nil, err
	}
	n, err := m.node(h, open)
	if err != nil {
		return nil, err
	}
	_, err = peers.Join(ctx, peers.Joining{
		Dir: n.dir, Key: n.key, Token: token, Name: n.Name, Site: n.Name, Listen: listen, Version: "test", Log: m.log(), Simulated: n.net,
	})
	if err != nil {
		return nil, fmt.Errorf("%s joins: %w", n.Name, err)
	}
	return n, nil
}

func (m *Mesh) log() *slog.Logger {
	if m.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return m.Log
}

// token makes an invite that operators have granted, for one node.
func (m *Mesh) token(ctx context.Context) (string, error) {
	first := m.Nodes[0]
	t := invite.Token{Role: "full", Expires: time.Now().Add(time.Hour).Unix(), Members: first.Link.Ask()}
	rand.Read(t.ID[:]) // never fails
	rand.Read(t.Seed[:])
	chain := first.Cluster.Chain()
	grant := authority.Grant{Key: authority.PublicKey(t.Key()), Token: t.ID, Role: t.Role, Uses: 1, Expires: t.Expires}
	body := ledger.NewInvite{Token: t.ID, Link: m.sign(chain, authority.AddGrant, grant), Invite: ledger.Invite{
		Key: grant.Key, Role: t.Role, Expires: t.Expires, Uses: 1,
	}}
	if _, err := first.Cluster.Client().Do(ctx, "root@pam", "", ledger.KindInvite, body); err != nil {
		return "", fmt.Errorf("make an invite: %w", err)
	}
	chain = first.Cluster.Chain()
	t.Cluster, t.Genesis = chain.Cluster(), chain.GenesisHash()
	_, t.Head = chain.Head()
	return t.Text()
}

func (m *Mesh) sign(chain *authority.Chain, kind uint8, body any) []byte {
	return chain.Sign(chain.Draft(kind, body), m.operator)
}

// Admit makes members of machines as if they had joined one after the other, on
// hosts that all can reach: each knows the first node, and no other. None of them
// runs; the first one does.
func (m *Mesh) Admit(ctx context.Context, hosts ...*tunneltest.Host) error {
	first := m.Nodes[0]
	for _, h := range hosts {
		n, err := m.node(h, true)
		if err != nil {
			return err
		}
		member := authority.Node{Key: authority.PublicKey(n.key), Name: n.Name, Site: n.Name, Role: "full", Votes: true}
		link := m.sign(first.Cluster.Chain(), authority.AddNode, member)
		if _, err := first.Cluster.Client().Do(ctx, "root@pam", "", ledger.KindAuthority, ledger.Link{Link: link}); err != nil {
			return err
		}
	}
	chain := first.Cluster.Chain()
	records, err := record.Open(filepath.Join(first.dir, "records"), chain.Cluster())
	if err != nil {
		return err
	}
	theirs, is := records.Signed(record.KeyOf(first.key))
	if !is {
		return errors.New("the first node has not said yet where it is")
	}
	for _, n := range m.Nodes[len(m.Nodes)-len(hosts):] {
		if err := cluster.Enter(n.config(), chain); err != nil {
			return err
		}
		store, err := record.Open(filepath.Join(n.dir, "records"), chain.Cluster())
		if err != nil {
			return err
		}
		if _, err := store.Put(theirs); err != nil {
			return err
		}
	}
	return nil
}

// Start runs a node.
func (n *Node) Start() error {
	id, err := home.ID(n.dir)
	if err != nil {
		return err
	}
	link, err := peers.New(peers.Config{Dir: n.dir, Key: n.key, Cluster: id, Listen: listen, Version: "test", Log: n.m.Log, Simulated: n.net})
	if err != nil {
		return err
	}
	cfg := n.config()
	cfg.Network = link.Network()
	c, err := cluster.Open(cfg)
	if err != nil {
		return errors.Join(err, link.Close())
	}
	if err := link.Attach(c); err != nil {
		return errors.Join(err, link.Close(), c.Close())
	}
	link.Serve(c.Run)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	n.Cluster, n.Link, n.stop, n.done = c, link, stop, done
	go func() { done <- errors.Join(link.Run(ctx), c.Close()) }()
	return nil
}

// Move puts a node that does not run on another host, which all can reach.
func (n *Node) Move(h *tunneltest.Host) error {
	addresses, err := h.Addresses()
	if err != nil {
		return err
	}
	n.host = h
	n.net = &peers.Simulated{Listen: h.Listen, Addresses: h.Addresses, Packets: h.Packets, At: []netip.AddrPort{netip.AddrPortFrom(addresses[0], 51820)}}
	return nil
}

// At is where a node is that all can reach.
func (n *Node) At() []netip.AddrPort { return n.net.At }

// Stop ends a node, if it runs.
func (n *Node) Stop() error {
	if n.stop == nil {
		return nil
	}
	n.stop()
	n.stop = nil
	if err := <-n.done; err != nil && !errors.Is(err, peers.ErrRemoved) {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return nil
}

// Split cuts nodes off from all others, or ends that.
func (m *Mesh) Split(some []*Node, cut bool) {
	for _, a := range some {
		for _, b := range m.Nodes {
			if !slices.Contains(some, b) {
				m.Net.Between(a.host, b.host, tunneltest.Link{Down: cut})
			}
		}
	}
}

// Eject has operators remove a node, at another that has a quorum.
func (m *Mesh) Eject(ctx context.Context, at, victim *Node) error {
	link := m.sign(at.Cluster.Chain(), authority.RemoveNode, authority.Removal{Key: authority.PublicKey(victim.key)})
	_, err := at.Cluster.Client().Do(ctx, "root@pam", "", ledger.KindAuthority, ledger.Link{Link: link})
	if errors.Is(err, consensus.ErrNoLeader) {
		err = at.Cluster.Believe(link)
	}
	at.Link.Follow()
	return err
}

// Promote has operators sign again that a node may vote, at another that has a quorum.
func (m *Mesh) Promote(ctx context.Context, at, of *Node) error {
	chain := at.Cluster.Chain()
	body, _ := chain.Node(of.Key())
	body.Votes = true
	_, err := at.Cluster.Client().Do(ctx, "root@pam", "", ledger.KindAuthority, ledger.Link{Link: m.sign(chain, authority.AddNode, body)})
	return err
}
