package mesh

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/holdfast-mesh/holdfast/node/peers/peerstest"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// crowd is a mesh of public nodes, all of which run and reach each other.
func crowd(t *testing.T, nodes int) *peerstest.Mesh {
	m := newMesh(t)
	found(t, m)
	var hosts []*tunneltest.Host
	for i := range nodes - 1 {
		hosts = append(hosts, m.Net.Host(fmt.Sprint("n", i+1), fmt.Sprintf("11.0.1.%d", i+1)))
	}
	if err := m.Admit(t.Context(), hosts...); err != nil {
		t.Fatal(err)
	}
	for _, n := range m.Nodes[1:] {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "all reach each other", func() string { return peerstest.Apart(m.Nodes) })
	return m
}

// The halves of a mesh are apart, see it, and are one again.
func TestHalvesMeetAgain(t *testing.T) {
	m := crowd(t, 6)
	half := m.Nodes[3:]
	m.Split(half, true)
	await(t, "the halves see that they are apart", func() string {
		for _, a := range m.Nodes[:3] {
			for _, b := range half {
				if a.Link.Peers()[b.ID].Gossip == "alive" || b.Link.Peers()[a.ID].Gossip == "alive" {
					return a.Name + " and " + b.Name + " believe in each other"
				}
			}
		}
		return ""
	})
	m.Split(half, false)
	await(t, "they are one again", func() string { return peerstest.Apart(m.Nodes) })
}

// Operators eject a node at any other: all others cut it off, from roster, tunnel,
// libp2p and gossip. It comes back, and stays out, and knows why.
func TestEjectedNodeStaysOut(t *testing.T) {
	m := crowd(t, 6)
	victim, at := m.Nodes[2], m.Nodes[4]
	if err := m.Eject(t.Context(), at, victim); err != nil {
		t.Fatal(err)
	}
	rest := append(append([]*peerstest.Node{}, m.Nodes[:2]...), m.Nodes[3:]...)
	cut := func() string {
		for _, n := range rest {
			if what := peerstest.Reaches(n, victim); what != "" {
				return n.Name + " has it in its " + what
			}
		}
		return ""
	}
	await(t, "the ejected node is cut off everywhere", cut)
	await(t, "it knows that it was ejected", func() string {
		if !victim.Cluster.Gone() {
			return "not yet"
		}
		return ""
	})
	if err := victim.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the others are one", func() string { return peerstest.Apart(rest) })
	if what := cut(); what != "" {
		t.Error(what)
	}
}

// All nodes have moved while they were down: none finds another by what it has
// written down. An operator tells one where another is, and they are one again, and
// are so after a restart.
func TestMovedNodesAreFoundByHand(t *testing.T) {
	m := crowd(t, 3)
	for i, n := range m.Nodes {
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := n.Move(m.Net.Host(fmt.Sprint("moved", i), fmt.Sprintf("12.0.0.%d", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range m.Nodes {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	a, b, c := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	if err := a.Link.SetByHand(b.ID, []netip.AddrPort{{}}); err == nil {
		t.Error("nowhere is taken for an address")
	}
	for _, to := range []*peerstest.Node{b, c} {
		if err := a.Link.SetByHand(to.ID, to.At()); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "they are one again", func() string { return peerstest.Apart(m.Nodes) })
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	if got := a.Link.ByHand(b.ID); len(got) != 1 || got[0] != b.At()[0] {
		t.Errorf("after a restart it looks for the other at %v", got)
	}
	if err := a.Link.SetByHand(b.ID, nil); err != nil || len(a.Link.ByHand(b.ID)) != 0 {
		t.Errorf("what was said is taken back: %v, %v", a.Link.ByHand(b.ID), err)
	}
}
