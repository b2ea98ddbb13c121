package mesh

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/node/peers/peerstest"
)

// A node that is cut off ejects another, while the rest has a quorum and signs something
// else: its branch does not count when the sides meet. Nodes that were off meanwhile, or
// that it did not show it to, see the other branch only, and keep out whom it has ejected
// all the same, soon after they are back, and after a restart. They went on talking to it,
// before, until somebody heeded an alarm. It ends when operators eject it again.
func TestEjectedWhereItDoesNotCount(t *testing.T) {
	m := crowd(t, 6)
	lone, away, victim := m.Nodes[3], m.Nodes[4], m.Nodes[5]
	for _, n := range []*peerstest.Node{away, victim} {
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	rest := m.Nodes[:3]
	m.Split([]*peerstest.Node{lone}, true)
	await(t, "it is alone", func() string {
		if leader := lone.Cluster.Group().Status().Leader; leader != "" {
			return "it hears of " + leader
		}
		return ""
	})
	if err := m.Eject(t.Context(), lone, victim); err != nil {
		t.Fatal(err)
	}
	if !lone.Cluster.RemovalSigned(victim.ID) {
		t.Fatal("it was not cut off: the others know")
	}
	await(t, "the others go on", func() string {
		if err := m.Promote(t.Context(), m.Nodes[0], m.Nodes[1]); err != nil {
			return err.Error()
		}
		return ""
	})
	m.Split([]*peerstest.Node{lone}, false)
	out := func(nodes ...*peerstest.Node) func() string {
		return func() string {
			for _, n := range nodes {
				if !n.Cluster.Blocked(victim.ID) {
					return n.Name + " does not keep it out"
				}
			}
			return ""
		}
	}
	await(t, "those who see the branch keep it out", out(append(rest, lone)...))
	await(t, "the branch is gone", func() string { return peerstest.Apart(m.Nodes[:4]) })
	if _, is := lone.Cluster.Chain().Node(victim.Key()); !is {
		t.Fatal("it is removed by all, and nothing is to be shown")
	}

	for _, n := range []*peerstest.Node{victim, away} {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "who was off keeps it out", out(away))
	await(t, "and has cut it off", func() string { return peerstest.Reaches(away, victim) })
	await(t, "the others are one", func() string { return peerstest.Apart(m.Nodes[:5]) })
	if victim.Cluster.Gone() {
		t.Error("it was told of itself")
	}

	if err := away.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := away.Start(); err != nil {
		t.Fatal(err)
	}
	if what := out(away)(); what != "" {
		t.Errorf("after a restart %s", what)
	}
	await(t, "the others are one", func() string { return peerstest.Apart(m.Nodes[:5]) })
	if err := m.Eject(t.Context(), away, victim); err != nil {
		t.Fatal(err)
	}
	await(t, "it is removed by all", func() string {
		for _, n := range m.Nodes[:5] {
			if !n.Cluster.RemovalSigned(victim.ID) || len(n.Cluster.Strays().Offered(n.Cluster.Chain())) != 0 {
				return n.Name + " does not know"
			}
		}
		return ""
	})
}
