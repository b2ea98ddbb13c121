package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
)

// nextFile has the branch of the authority chain that takes the place of the one in
// [authorityFile], until it has.
const nextFile = "authority.next"

// StrayReason is why the guard keeps somebody out whom a branch that does not count has
// removed.
const StrayReason = "operators removed it, on a side that was cut off; it is to be removed again"

// removedReason is what takes its place when they have.
const removedReason = "operators removed it"

// partChain makes another branch durable before it is believed: in a file beside, then in
// the guard, which decides, and then in its place. [Cluster.settleBranch] completes what a
// crash has cut short.
func (c *Cluster) partChain(chain *authority.Chain, shared uint64) error {
	next := filepath.Join(c.cfg.Dir, nextFile)
	if err := writeChain(next, chain); err != nil {
		return err
	}
	if err := c.guard.Part(chain, shared); err != nil {
		return err
	}
	c.cfg.Log.Error("operators have signed twice behind the same link of the authority chain; the branch that this node had does not count", "shared", shared)
	if err := writeChain(filepath.Join(c.cfg.Dir, authorityFile), chain); err != nil {
		return err
	}
	return os.Remove(next)
}

// settleBranch returns the chain that the guard has followed: that of the file beside, if
// it had not come to its place.
func (c *Cluster) settleBranch(chain *authority.Chain) (*authority.Chain, error) {
	path := filepath.Join(c.cfg.Dir, nextFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return chain, nil
	}
	seen := c.guard.Chain()
	fits := func(chain *authority.Chain) bool {
		length, _ := chain.Head()
		return length >= seen.Length && (seen.Length == 0 || holds(chain, seen.Length, seen.Head))
	}
	if !fits(chain) {
		next, err := readChain(path)
		if err != nil || !fits(next) {
			return chain, nil // believe says what is wrong
		}
		if err := writeChain(filepath.Join(c.cfg.Dir, authorityFile), next); err != nil {
			return nil, err
		}
		chain = next
	}
	return chain, os.Remove(path)
}

// strays keeps out whom a branch that does not count has removed. Who is removed itself
// takes part no more: see [Cluster.Gone].
func (c *Cluster) strays(keys []authority.Key) {
	for _, k := range keys {
		if err := c.guard.Block("", guard.Block{What: BlockOf(k), Reason: StrayReason}); err != nil {
			c.cfg.Log.Error("whom operators have removed on another side is not kept out, since the guard cannot be written", "node", k.NodeID(), "err", err)
		}
	}
}

// tellStrays says who is kept out like that, and has not been removed since. For those
// who have been, the guard has another reason from then on.
func (c *Cluster) tellStrays() {
	var names []string
	if c.guard.BlocksAny() {
		for _, b := range c.guard.Blocks() {
			key, err := authority.ParseNodeID(strings.TrimPrefix(b.What, "node "))
			if b.Reason != StrayReason || err != nil || key == c.self {
				continue
			}
			if _, is := c.keeper.Chain().Node(key); is {
				names = append(names, c.NameOf(key.NodeID()))
			} else if c.RemovalSigned(key.NodeID()) {
				if err := c.guard.Explain(guard.Block{What: b.What, Reason: removedReason}); err != nil {
					c.cfg.Log.Warn("the guard has still the reason of before for whom it keeps out", "node", key.NodeID(), "err", err)
				}
			}
		}
	}
	if len(names) == 0 {
		c.cfg.Alarm("stray", "", "")
		return
	}
	slices.Sort(names)
	c.cfg.Alarm("stray", "operators removed "+strings.Join(names, ", ")+" on a side that was cut off, while the others signed something else: it is kept out here, and has not been removed by all",
		"remove it again: `holdfast member eject "+names[0]+"`; see docs/cluster.md")
}
