package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/mesh/feed"
	"github.com/holdfast-mesh/holdfast/mesh/gossip"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/feeds"
	"github.com/holdfast-mesh/holdfast/node/overview"
)

// openFeeds opens what nodes say that they hold and ran.
func (n *Node) openFeeds() (err error) {
	c := feeds.Config{
		File: n.cfg.at(feedsFile), Key: n.key, Ledger: checkpoints{n.cluster}, About: n.about, Log: n.log,
		Member:  func(node string) bool { return n.cluster.Roster().Member(node) == nil },
		Company: func() bool { return n.link != nil && len(n.others()) > 0 }, Heard: n.cluster.WentBack, Alarms: n.raised.List,
	}
	if n.link != nil {
		c.Alone = aloneTime
		c.Network, c.Gossip = n.link.Network(), n.link.Gossip()
	}
	if n.feeds, err = feeds.New(c); err != nil {
		return err
	}
	n.keep(n.feeds)
	if n.link != nil {
		n.link.Serve(n.feeds.Exchange)
	}
	return nil
}

// aloneTime is how long after the start of this node others tell it that they belong
// to it, if its disk went back to a time when it was alone.
const aloneTime = 2 * time.Minute

// others are the members beside this node.
func (n *Node) others() (all []string) {
	for _, node := range n.cluster.Nodes() {
		if node != n.cluster.Self() && n.cluster.Roster().Member(node) == nil {
			all = append(all, node)
		}
	}
	return all
}

// about is what other nodes shall know of this one.
func (n *Node) about() gossip.Meta {
	m := gossip.Meta{Version: n.cfg.Version, Started: n.started.Unix()}
	for _, name := range n.stores.Names() {
		if space, err := n.stores.Room(name); err == nil {
			m.Size += uint64(space.TotalBytes)
			m.Free += uint64(space.FreeBytes)
		}
	}
	m.Running, m.Trouble = n.running(), n.trouble()
	if n.link.Twice() {
		n.cluster.Alarm("twice", "it runs twice at once: another machine has a copy of its directory, and speaks as this node",
			"stop the other one for good, and never start it again; if you do not know of it, its key was stolen: eject this node, and join it again with an empty directory")
	}
	return m
}

// trouble is what others cannot hear from this node's feed: it is on the disk that is
// full, and a ledger that has stopped is of no use to them.
func (n *Node) trouble() string {
	switch stopped := n.cluster.Group().Status().Stopped; {
	case n.cluster.Gone():
	case len(overview.Vanished(n.cfg.at(identityFile), "")) > 0:
		return "its data directory was removed while it runs"
	case stopped != nil && !errors.Is(stopped, consensus.ErrStopped): // that one is between two lives
		return short("its ledger has stopped: "+stopped.Error(), 120)
	case n.clockWrong() != "":
		return n.clockWrong()
	case len(overview.Disk(n.cfg.Dir, n.cfg.Name, nil)) > 0:
		return "the disk of its data directory is nearly full"
	}
	return ""
}

// running is what this node does now, in short.
func (n *Node) running() (all []string) {
	tasks, _ := n.tasks.List(jobs.Filter{Running: true})
	for _, t := range tasks {
		text := t.UPID.Type + " " + t.UPID.ID
		if t.Progress > 0 { // in steps, so that not every look is news
			text += fmt.Sprintf(" %d%%", int(t.Progress*10)*10)
		}
		if all = append(all, short(text, 48)); len(all) == 8 {
			break
		}
	}
	return all
}

// short is a text that others can print, of so many characters at most.
func short(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

// checkpoints are in the ledger how long feeds were.
type checkpoints struct{ c *cluster.Cluster }

// Checkpoints returns them.
func (k checkpoints) Checkpoints() map[feed.Origin]feed.Head {
	all := map[feed.Origin]feed.Head{}
	for id, row := range ledger.Checkpoints.All(k.c.View()) {
		if key, err := authority.ParseNodeID(id); err == nil {
			all[feed.Origin(key)] = feed.Head{Epoch: row.Body.Epoch, Seq: row.Body.Seq, Hash: row.Body.Head}
		}
	}
	return all
}

// Checkpoint writes down where the feed of this node ends.
func (k checkpoints) Checkpoint(ctx context.Context, key ed25519.PrivateKey, h feed.Head) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c := ledger.Checkpoint{Epoch: h.Epoch, Seq: h.Seq, Head: h.Hash}
	copy(c.Sig[:], ed25519.Sign(key, ledger.CheckpointBytes(h.Epoch, h.Seq, h.Hash)))
	_, err := k.c.Client().Do(ctx, "node", "", ledger.KindCheckpoint, ledger.NewCheckpoint{Origin: authority.PublicKey(key), Checkpoint: c})
	return err
}
