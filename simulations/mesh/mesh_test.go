// Package mesh is whole clusters in one process, over a simulated network below
// the tunnels: what labs of network namespaces show as root, without being root.
package mesh

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/node/peers"
	"github.com/holdfast-mesh/holdfast/node/peers/peerstest"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// patience is for machines that do a lot else. What is waited for ends it.
const patience = 5 * time.Minute

func newMesh(t *testing.T) *peerstest.Mesh {
	t.Helper()
	if testing.Short() {
		t.Skip("takes a minute")
	}
	m := peerstest.New(t.TempDir(), 1)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// await waits until apart says nothing more.
func await(t *testing.T, what string, apart func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	took, err := peerstest.Await(ctx, apart)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Logf("%s: after %s", what, took.Round(time.Millisecond))
}

// found has a node found the cluster, at a public address, and runs it until it
// can be asked.
func found(t *testing.T, m *peerstest.Mesh) *peerstest.Node {
	t.Helper()
	first, err := m.Found(t.Context(), m.Net.Host("public", "11.0.0.1"))
	if err == nil {
		err = first.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the first node can be asked", func() string {
		if len(first.Link.Ask()) == 0 || first.Cluster.Group().Status().Leader == "" {
			return "not yet"
		}
		return ""
	})
	return first
}

// Five sites: one that all reach, two behind NATs of which one is symmetric, and
// two whose providers have NATs, too, so that they reach each other by nothing but
// a relay. All join by token, and one cluster comes of it.
func TestFiveSites(t *testing.T) {
	m := newMesh(t)
	found(t, m)
	nat := func(kind tunneltest.Kind, name, outer, inner string) *tunneltest.Host {
		return m.Net.Behind(m.Net.NAT(kind, outer), name, inner)
	}
	for _, h := range []*tunneltest.Host{
		nat(tunneltest.Preserving, "home", "11.0.0.2", "10.213.1.10"),
		nat(tunneltest.Symmetric, "office", "11.0.0.3", "10.213.2.10"),
		nat(tunneltest.Symmetric, "flat", "11.0.0.4", "10.213.3.10"),
		nat(tunneltest.Symmetric, "cabin", "11.0.0.5", "10.213.4.10"),
	} {
		n, err := m.Join(t.Context(), h, false)
		if err == nil {
			err = n.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	await(t, "all reach each other", func() string { return peerstest.Apart(m.Nodes) })
	flat, cabin := m.Nodes[3], m.Nodes[4]
	await(t, "the pair is linked by a relay", func() string {
		if path := flat.Link.Peers()[cabin.ID].Path; path != peers.PathRelay {
			return fmt.Sprintf("by %q", path)
		}
		return ""
	})
	await(t, "who can is linked directly", func() string {
		for _, n := range m.Nodes[1:] {
			if path := n.Link.Peers()[m.Nodes[0].ID].Path; path != peers.PathDirect {
				return fmt.Sprintf("%s by %q", n.Name, path)
			}
		}
		return ""
	})
	if err := cabin.Put(t.Context(), "said", "by cabin"); err != nil {
		t.Fatal(err)
	}
	await(t, "all know what cabin has decided", func() string { return peerstest.Apart(m.Nodes) })

}
