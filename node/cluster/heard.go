package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
)

// heardFile has the time of its last change as content: when the ledger was
// heard of last. A node that reboots alone has to know.
const heardFile = "heard"

// LedgerAge is how long this node has not heard of the ledger: of a leader, which
// it may be itself.
func (c *Cluster) LedgerAge() time.Duration { return max(0, time.Since(c.LedgerSeen())) }

// LedgerSeen is when this node last heard of the ledger, also before it was started
// last; zero: never.
func (c *Cluster) LedgerSeen() time.Time {
	last := c.group.Status().LeaderSeen
	if info, err := os.Stat(filepath.Join(c.cfg.Dir, heardFile)); err == nil && info.ModTime().After(last) {
		last = info.ModTime()
	}
	if at := c.ledger.View().At(); at.After(last) && c.LedgerAhead() < compareEvery {
		last = at
	}
	return last
}

// LedgerAhead is how far the clock of the ledger is ahead; less than 0: it is not.
func (c *Cluster) LedgerAhead() time.Duration { return c.ledger.View().At().Sub(c.cfg.Now()) }

// LedgerAheadOfOwn is the same by the clock of this machine, which may not be that of most.
func (c *Cluster) LedgerAheadOfOwn() time.Duration { return c.ledger.View().At().Sub(c.cfg.Clock()) }

// compareEvery is how often ledgers are compared, and the time noted.
const compareEvery = time.Minute

// compare compares the ledger of this node with that of the leader, or, if it leads,
// with those of all in the group: who is asked does not hear what was found. And it
// notes when the ledger was heard of, until ctx is done.
func (c *Cluster) compare(ctx context.Context) {
	every(ctx, compareEvery, func() {
		c.hasty.Look()
		if time.Since(c.group.Status().LeaderSeen) < compareEvery {
			if err := os.WriteFile(filepath.Join(c.cfg.Dir, heardFile), nil, 0o600); err != nil {
				c.cfg.Log.Warn("when the ledger was heard of is not noted", "err", err)
			}
		}
		status := c.group.Status()
		for _, node := range compared(status, c.Self()) {
			if err := c.compareWith(ctx, node); err != nil {
				c.cfg.Log.Debug("the ledger is not compared", "node", node, "err", err)
			}
		}
		c.forgetOthers(slices.Concat(status.Voters, status.Standbys))
	})
}

// compared is with whom a node compares its ledger.
func compared(s consensus.Status, self string) []string {
	switch {
	case s.Role == "leader":
		return slices.DeleteFunc(slices.Concat(s.Voters, s.Standbys), func(node string) bool { return node == self })
	case s.Leader != "" && s.Leader != self:
		return []string{s.Leader}
	}
	return nil
}

// compareWith asks a node for its sums. Two ledgers that differ at one index have
// lost each other: that is noted until a later comparison of the two finds none.
func (c *Cluster) compareWith(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, compareEvery/6)
	defer cancel()
	theirs, by, err := c.ask(ctx, node, askSums, nil)
	if err != nil {
		return err
	}
	return c.judge(theirs, by)
}

func (c *Cluster) judge(theirs []byte, by string) error {
	index, err := c.sums.Judge(theirs, by)
	if err != nil {
		return err
	}
	if index != 0 {
		c.cfg.Log.Error("ledgers differ: keep both data directories, and recover from the one that you trust", "index", index, "node", by)
	}
	c.alarmDiffers()
	return nil
}

// forgetOthers forgets what was found of nodes that are in the group no more.
func (c *Cluster) forgetOthers(group []string) {
	if len(group) == 0 {
		return // it is not known
	}
	c.sums.Keep(group)
	c.alarmDiffers()
}

// alarmDiffers shows with whom this node does not agree. Which of two is wrong is
// not known, so that none is blamed; of three the third knows.
func (c *Cluster) alarmDiffers() {
	var all []string
	for node, index := range c.sums.Differ() {
		all = append(all, fmt.Sprintf("%s (at index %d)", c.NameOf(node), index))
	}
	if len(all) == 0 {
		c.cfg.Alarm("diverged", "", "")
		return
	}
	slices.Sort(all)
	c.cfg.Alarm("diverged", "its ledger is not the same as that of "+strings.Join(all, ", "), "one of them is wrong: compare `holdfast user list` and the like on a third; keep all data directories, and see docs/consensus.md")
}

// Diverged returns the lowest index at which the ledger of this node is not that of
// another, 0 if they are the same as far as is known.
func (c *Cluster) Diverged() (lowest uint64) {
	for _, index := range c.sums.Differ() {
		if lowest == 0 || index < lowest {
			lowest = index
		}
	}
	return lowest
}
