package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/node/cluster/home"
	"github.com/holdfast-mesh/holdfast/node/cluster/strays"
)

// nextFile has the branch of the authority chain that takes the place of the one in
// [home.Authority], until it has.
const nextFile = "authority.next"

// StrayReason is why the guard keeps somebody out whom a branch that does not count has
// removed.
const StrayReason = strays.Reason

// partChain makes another branch durable before it is believed: in a file beside, then in
// the guard, which decides, and then in its place. [Cluster.settleBranch] completes what a
// crash has cut short.
func (c *Cluster) partChain(chain *authority.Chain, shared uint64) error {
	next := filepath.Join(c.cfg.Dir, nextFile)
	if err := home.WriteChain(next, chain); err != nil {
		return err
	}
	if err := c.guard.Part(chain, shared); err != nil {
		return err
	}
	c.cfg.Log.Error("operators have signed twice behind the same link of the authority chain; the branch that this node had does not count", "shared", shared)
	if err := home.WriteChain(filepath.Join(c.cfg.Dir, home.Authority), chain); err != nil {
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
		return length >= seen.Length && (seen.Length == 0 || home.HoldsAt(chain, seen.Length, seen.Head))
	}
	if !fits(chain) {
		next, err := home.ReadChain(path)
		if err != nil || !fits(next) {
			return chain, nil // believe says what is wrong
		}
		if err := home.WriteChain(filepath.Join(c.cfg.Dir, home.Authority), next); err != nil {
			return nil, err
		}
		chain = next
	}
	return chain, os.Remove(path)
}

// openStrays opens what this node knows of branches that do not count, and whom they have
// removed.
func (c *Cluster) openStrays() *strays.Store {
	return strays.Open(strays.Config{
		File: filepath.Join(c.cfg.Dir, straysFile), Self: c.self, Guard: c.guard, Log: c.cfg.Log, Name: c.NameOf, Block: BlockOf, Alarm: c.cfg.Alarm, Signed: c.RemovalSigned,
	})
}

// TakeStray keeps out whom a branch has removed that does not count and of which another
// node shows the links: see [strays.Store.Take].
func (c *Cluster) TakeStray(links [][]byte) error {
	changed, err := c.strays.Take(links, c.Chain())
	if changed {
		c.recheck()
	}
	return err
}

// Strays are the branches that do not count of which this node has the links.
func (c *Cluster) Strays() *strays.Store { return c.strays }
