package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/brittle"
	"github.com/holdfast-mesh/holdfast/consensus/tail"
)

// lost is asked when this node has no log of the ledger, which it had. With the log
// its vote and its entries are gone, so that it is as one whose disk went back. A
// snapshot that is still there would let it begin with the voters of then, perhaps
// with itself alone: then it does not begin at all. If no other node votes, all that
// was agreed on is here, and it goes on.
func (c *Cluster) lost() error {
	if _, err := os.Lstat(filepath.Join(c.cfg.Dir, authorityFile)); errors.Is(err, fs.ErrNotExist) {
		return &Error{
			fmt.Errorf("the directory of the node was removed while it runs: %w", err),
			"stop the daemon; put the directory back as it was, or join again with an empty one: `holdfast invite create --replaces NAME` on another node",
		}
	}
	others := func(n authority.Node) bool { return n.Votes && !n.Removed && n.Key != c.self }
	if !slices.ContainsFunc(c.keeper.Chain().Nodes(), others) {
		return nil
	}
	dir := filepath.Join(c.cfg.Dir, "raft")
	snapshots, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case len(snapshots) > 0:
		return &Error{
			fmt.Errorf("the raft log %s is gone, and snapshots are there", filepath.Join(dir, "log.db")),
			"if the others are well: stop the daemon, move " + dir + " away and start it, and it fetches everything again; see docs/consensus.md",
		}
	}
	return c.votes.Note(true)
}

// takenBack is told that a leader has taken back what was agreed on, before this
// node puts its log away and begins again, empty. Like one whose disk went back, it
// does not know any more to what it has agreed.
func (c *Cluster) takenBack(e *brittle.TakenBackError, label string) error {
	if e.From == 0 {
		c.cfg.Alarm("taken-back", "it was put back to a time when it was alone, and led itself: what was changed on it since then is only in its old log",
			"keep "+filepath.Join(c.cfg.Dir, "raft.orphan-"+label)+" there, and make those changes again; see docs/consensus.md")
		return c.votes.Note(true)
	}
	c.cfg.Alarm("taken-back", fmt.Sprintf("the cluster lost entries %d to %d of its ledger, which were acknowledged: they are only in the old log of this node", e.From, e.To),
		"keep "+filepath.Join(c.cfg.Dir, "raft.orphan-"+label)+" there; what was changed last may have to be changed again; see docs/consensus.md")
	return c.votes.Note(true)
}

// behind is told of a node that knows more than this one, which would lead it with
// its own vote alone; nil says that there is none.
func (c *Cluster) behind(e *tail.Error) {
	if e == nil {
		c.cfg.Alarm("behind", "", "")
		return
	}
	name := c.NameOf(e.Node)
	text := fmt.Sprintf("its disk went back: %s knows more of the ledger, up to entry %d, where this node had %d; it does not lead %s", name, e.Last, e.Ours, name)
	if e.Other {
		text = fmt.Sprintf("its ledger is not that of %s: both have an entry %d that the other has not; it does not lead %s", name, e.Last, name)
	}
	c.cfg.Alarm("behind", text, "to go on with what "+name+" knows: `holdfast member recover-quorum` on "+name+", and this node is taken in again by itself; or stop it and put its newer disk back; see docs/consensus.md")
}

// Remember has this node, which knows of no other, take over links by which others
// belong to its cluster: it was put back to a time when it was alone. What it has
// agreed on alone, it has agreed on with nobody: that is put away first. by is who
// brings the links, and has to be one of those others.
func (c *Cluster) Remember(ctx context.Context, by string, links [][]byte) error {
	key, err := authority.ParseNodeID(by)
	if err != nil {
		return err
	}
	chain := c.keeper.Chain()
	for _, link := range links {
		if chain, err = chain.Next(link); err != nil {
			return err
		}
	}
	_, is := chain.Node(key)
	if _, still := chain.Node(c.self); !is || !still {
		return fmt.Errorf("not both %s and this node belong to the cluster as it says", by)
	}
	if err := c.group.BeginAnew(ctx); err != nil {
		return err
	}
	return c.keeper.Follow(chain)
}

// WentBack says whether the disk of this node is as it was when it ran last; see
// [Config.Feeds].
func (c *Cluster) WentBack(is bool) {
	if is {
		c.cfg.Alarm("restored", "its disk went back to an earlier state: others hold more of what it has said than it does; it has begun anew",
			"an old image of this machine was started; if that was not you, look at it. It votes again when it has caught up")
	}
	if is && !c.votes.Suspended() {
		c.cfg.Log.Error("the disk of this node went back to an earlier state: it does not vote before a leader has given it all that was agreed on")
	}
	if err := c.votes.Note(is); err != nil {
		c.cfg.Log.Error("that the disk of this node went back is not noted", "err", err)
	}
}

const catchUpEvery = 5 * time.Second

// catchUp lets a node vote again whose disk went back, when it may. It ends with ctx.
func (c *Cluster) catchUp(ctx context.Context) {
	every(ctx, catchUpEvery, func() {
		if s := c.group.Status(); !c.votes.Suspended() || s.Leader == "" || s.Leader == c.Self() || c.group.Linear(ctx) != nil {
			return
		}
		term := c.group.Status().Term
		if err := c.votes.CaughtUp(term); err != nil {
			c.cfg.Log.Warn("this node does not vote yet", "err", err)
			return
		}
		c.cfg.Log.Info("this node, whose disk went back, votes again in later terms", "term", term)
	})
}
