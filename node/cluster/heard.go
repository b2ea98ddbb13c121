package cluster

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// heardFile has the time of its last change as content: when the ledger was
// heard of last. A node that reboots alone has to know.
const heardFile = "heard"

// LedgerAge is how long this node has not heard of the ledger: of a leader, which
// it may be itself.
func (c *Cluster) LedgerAge() time.Duration {
	last := c.group.Status().LeaderSeen
	if info, err := os.Stat(filepath.Join(c.cfg.Dir, heardFile)); err == nil && info.ModTime().After(last) {
		last = info.ModTime()
	}
	if at := c.ledger.View().At(); at.After(last) {
		last = at
	}
	return max(0, time.Since(last))
}

// compareEvery is how often ledgers are compared, and the time noted.
const compareEvery = time.Minute

// compare compares the ledger of this node with that of the leader, and notes
// when it was heard of, until ctx is done.
func (c *Cluster) compare(ctx context.Context) {
	every(ctx, compareEvery, func() {
		if time.Since(c.group.Status().LeaderSeen) < compareEvery {
			if err := os.WriteFile(filepath.Join(c.cfg.Dir, heardFile), nil, 0o600); err != nil {
				c.cfg.Log.Warn("when the ledger was heard of is not noted", "err", err)
			}
		}
		if !c.leads() {
			_ = c.compareOnce(ctx) // without a leader there is nothing to compare with
		}
	})
}

// A sum is what the state comes to at an index.
type sum struct {
	index uint64
	hash  [32]byte
}

const sumSize = 8 + 32

// sums are those that this node knows: at every thousandth index, and now.
func (c *Cluster) sums() (all []sum) {
	for _, h := range c.ledger.Hashes() {
		all = append(all, sum{h.Index, h.Sum})
	}
	v := c.ledger.View()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.newest.index != v.Index() {
		c.newest = sum{v.Index(), v.Hash()}
	}
	return append(all, c.newest)
}

func (c *Cluster) encodeSums() []byte {
	b := binary.BigEndian.AppendUint64(nil, c.keeper.Incarnation())
	for _, s := range c.sums() {
		b = append(binary.BigEndian.AppendUint64(b, s.index), s.hash[:]...)
	}
	return b
}

// compareOnce asks the leader for its sums. Two ledgers that differ at one index
// have lost each other: that is noted for [Cluster.Diverged] until a later
// comparison finds none.
func (c *Cluster) compareOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, compareEvery/2)
	defer cancel()
	theirs, by, err := c.ask(ctx, "", askSums, nil)
	if err != nil {
		return err
	}
	return c.judge(theirs, by)
}

func (c *Cluster) judge(theirs []byte, by string) error {
	if len(theirs) < 8 || (len(theirs)-8)%sumSize != 0 {
		return errors.New("sums that cannot be read")
	}
	if binary.BigEndian.Uint64(theirs) != c.keeper.Incarnation() {
		return nil
	}
	ours := map[uint64][32]byte{}
	for _, s := range c.sums() {
		ours[s.index] = s.hash
	}
	compared, differ := false, uint64(0)
	for b := theirs[8:]; len(b) > 0; b = b[sumSize:] {
		index := binary.BigEndian.Uint64(b)
		hash, is := ours[index]
		if !is || index == 0 {
			continue
		}
		compared = true
		if subtle.ConstantTimeCompare(hash[:], b[8:sumSize]) == 0 && differ == 0 {
			differ = index
		}
	}
	if !compared {
		return nil
	}
	c.mu.Lock()
	was := c.differs
	c.differs = differ
	c.mu.Unlock()
	if differ != 0 && was == 0 {
		c.cfg.Log.Error("ledgers differ: keep both data directories, and recover from the one that you trust", "index", differ, "leader", by)
	}
	return nil
}

// Diverged returns the index at which the ledger of this node is not that of the
// leader, 0 if they are the same as far as is known.
func (c *Cluster) Diverged() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.differs
}
