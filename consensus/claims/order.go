package claims

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// A Candidate is a node that could do a thing. Its weight is how much of such
// things it is to do beside others; every node has to know the same one.
type Candidate struct {
	Node   string
	Weight float64
}

// Order returns in which order nodes should try to claim a resource: the same on
// every node, and with one node more or less nearly the same. Each resource has
// its own, so that work is spread by weight. Nodes without weight are left out.
func Order(resource string, all []Candidate) []string {
	type scored struct {
		node  string
		score float64
	}
	var list []scored
	for _, c := range all {
		if c.Weight <= 0 {
			continue
		}
		h := (float64(xxhash.Sum64String(resource+"\x00"+c.Node)>>11) + 0.5) / (1 << 53)
		list = append(list, scored{c.Node, -c.Weight / math.Log(h)})
	}
	slices.SortFunc(list, func(a, b scored) int { return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.node, b.node)) })
	nodes := make([]string, len(list))
	for i, s := range list {
		nodes[i] = s.node
	}
	return nodes
}

// Step is how long each node in [Order] waits behind the one before.
const Step = 20 * time.Second

// Wait is how long a node leaves a resource to those before it; false if it is
// not for this node at all.
func Wait(order []string, node string) (time.Duration, bool) {
	i := slices.Index(order, node)
	return time.Duration(max(i, 0)) * Step, i >= 0
}
