package peerstest

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/peers"
)

// Apart says what nodes, all of which run, do not agree on yet, or "": each
// reaches each other and knows that it lives, and all have the same chain and the
// same ledger, and hear of one leader.
func Apart(nodes []*Node) string {
	want := nodes[0].Cluster.View()
	leader := nodes[0].Cluster.Group().Status().Leader
	for _, n := range nodes {
		ways := n.Link.Peers()
		for _, o := range nodes {
			if w := ways[o.ID]; o != n && (w.Path == peers.PathNone || w.Path == "" || w.Gossip != "alive") {
				return fmt.Sprintf("%s reaches %s by %q and believes it %q: %s", n.Name, o.Name, w.Path, w.Gossip, w.Why)
			}
		}
		v, s := n.Cluster.View(), n.Cluster.Group().Status()
		switch {
		case s.Leader == "" || s.Leader != leader:
			return fmt.Sprintf("%s takes %q for the leader, %s takes %q", n.Name, s.Leader, nodes[0].Name, leader)
		case v.Index() != want.Index() || v.Hash() != want.Hash():
			return fmt.Sprintf("%s is at %d, %s at %d", n.Name, v.Index(), nodes[0].Name, want.Index())
		}
		if a, b := chainOf(n), chainOf(nodes[0]); a != b {
			return fmt.Sprintf("%s has the chain %s, %s has %s", n.Name, a, nodes[0].Name, b)
		}
	}
	return ""
}

func chainOf(n *Node) string {
	length, head := n.Cluster.Chain().Head()
	return fmt.Sprintf("%d %x", length, head[:4])
}

// Reaches says by what a node still reaches one that was ejected, or "".
func Reaches(n, ejected *Node) string {
	if n.Cluster.Roster().Member(ejected.ID) == nil {
		return "roster"
	}
	return n.Link.Holds(ejected.ID)
}

// Await looks again and again until apart says "", and returns how long it took.
func Await(ctx context.Context, apart func() string) (time.Duration, error) {
	began := time.Now()
	for {
		what := apart()
		if what == "" {
			return time.Since(began), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: after %s: %s", ctx.Err(), time.Since(began).Round(time.Millisecond), what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Put changes a setting at a node.
func (n *Node) Put(ctx context.Context, name, value string) error {
	row, _ := ledger.Settings.Get(n.Cluster.View(), name)
	_, err := n.Cluster.Client().Do(ctx, "root@pam", "", ledger.KindChange, ledger.Change{Ops: []ledger.Op{ledger.Settings.Put(name, row.Version, ledger.Setting{Value: value})}})
	return err
}

// Key is that of the node.
func (n *Node) Key() authority.Key { return authority.PublicKey(n.key) }
