package feeds

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/mesh/gossip"
)

// OnNews has f called with the ID of a node and the name of one of its
// datastores when that has snapshots that it had not before, also for this
// node. What [Feeds.Snapshots] returns is new when f is called; f must be quick.
func (f *Feeds) OnNews(do func(node, store string)) (cancel func()) {
	return f.model.Subscribe(func(n facts.News) { do(NodeID(n.Origin), n.Store) })
}

// Snapshots returns what a node says that it holds in a datastore, by group.
func (f *Feeds) Snapshots(node, store string) []facts.Held {
	o, _ := originOf(node)
	return f.model.Snapshots(o, store)
}

// Removed tells whether a node has signed that it removed a snapshot on purpose,
// which it has not had again since, and when. It is not that the snapshot is
// merely there no more.
func (f *Feeds) Removed(node, store string, g facts.Group, at int64) (when time.Time, why string, is bool) {
	o, _ := originOf(node)
	r, is := f.model.Removed(o, facts.Snapshot{Store: store, Group: g, Time: at})
	return time.Unix(r.At, 0), r.Why, is
}

// Origins returns the nodes to which a client sent the snapshot with a manifest:
// who has it and did not get it from another node.
func (f *Feeds) Origins(manifest [32]byte) (all []Copy) {
	for _, c := range f.Copies(manifest) {
		if c.From == "" {
			all = append(all, c)
		}
	}
	return all
}

// Proven returns how many other nodes have a copy that was whole when they read
// it last, of a snapshot that this node has or has removed.
func (f *Feeds) Proven(store string, g facts.Group, at int64) int {
	sum := f.sumOf(facts.Snapshot{Store: store, Group: g, Time: at})
	if sum == [32]byte{} {
		return 0
	}
	nodes := map[string]bool{}
	for _, c := range f.Copies(sum) {
		if c.Origin != f.self && c.Usable() && c.Verified != 0 {
			nodes[c.Node] = true
		}
	}
	return len(nodes)
}

// sumOf is the sum of the manifest of a snapshot of this node, zero if it is not
// known.
func (f *Feeds) sumOf(n facts.Snapshot) [32]byte {
	for _, h := range f.model.Holders(n.Group, n.Time) {
		if h.Origin == f.self && h.Store == n.Store {
			return h.Manifest
		}
	}
	r, _ := f.model.Removed(f.self, n)
	return r.Manifest
}

// A Copy is one of a snapshot, and who has it.
type Copy struct {
	Node string // ID
	facts.Holding
}

// Copies returns all copies of a snapshot: whose manifests have this sum, see
// [Here.Sum].
func (f *Feeds) Copies(manifest [32]byte) (all []Copy) {
	for _, h := range f.model.Copies(manifest) {
		all = append(all, Copy{NodeID(h.Origin), h})
	}
	return all
}

// Holders returns who holds a snapshot of a group, where it has the same name.
func (f *Feeds) Holders(g facts.Group, at int64) (all []Copy) {
	for _, h := range f.model.Holders(g, at) {
		all = append(all, Copy{NodeID(h.Origin), h})
	}
	return all
}

// Groups returns all groups of the mesh.
func (f *Feeds) Groups() []facts.GroupView { return f.model.Groups() }

// Stores returns the datastores of a node.
func (f *Feeds) Stores(node string) []facts.StoreView {
	o, _ := originOf(node)
	return f.model.Stores(o)
}

// Nodes returns what each node says, in short, by its ID.
func (f *Feeds) Nodes() map[string]facts.NodeView {
	all := map[string]facts.NodeView{}
	for _, n := range f.model.Nodes() {
		all[f.nodeID(n.Origin)] = n
	}
	return all
}

// A Warning is what an operator has to know.
type Warning struct {
	Critical bool
	Node     string // ID
	Text     string
	Hint     string
}

// Warnings returns what is wrong with feeds.
func (f *Feeds) Warnings() (all []Warning) {
	for _, v := range f.exchange.Forks() {
		if f.wanted(v.Origin) {
			all = append(all, Warning{true, NodeID(v.Origin), fmt.Sprintf("it shows two histories, at %d.%d: what it says does not count any more", v.Theirs.Epoch, v.Theirs.Seq), v.Hint()})
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all = append(all, f.denied...)
	slices.SortStableFunc(all, func(a, b Warning) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

// Lag is how many records of the feed of a node are not here, which says that it
// ends at a place; -1 if that is not known.
func (f *Feeds) Lag(node string, end gossip.Place) int64 {
	o, ok := originOf(node)
	if !ok || end == (gossip.Place{}) {
		return -1
	}
	ours := f.exchange.Heads()[o]
	if end.Epoch < ours.Epoch || end.Seq <= ours.Seq {
		return 0
	}
	return int64(end.Seq - ours.Seq)
}

// AsOf is when the oldest of the nodes has last said something, and its ID; of
// those that are here. Zero if there is none.
func (f *Feeds) AsOf() (at time.Time, node string) {
	for _, n := range f.model.Nodes() {
		if n.Origin != f.self && (node == "" || n.Newest.Before(at)) {
			at, node = n.Newest, NodeID(n.Origin)
		}
	}
	return at, node
}
