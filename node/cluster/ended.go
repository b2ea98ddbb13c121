package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster/orphans"
)

// orphansFile has what was changed in parts of the ledger that have ended.
const orphansFile = "orphans"

const judgeEvery = 5 * time.Second

// ended is told that the part of the ledger that this node has has ended, before it
// is put away under a label and this node begins again, empty. What was changed in it
// is noted first. That it cannot be is no reason to stay in a part that has ended.
func (c *Cluster) ended(label string) {
	c.orphaning.Lock()
	defer c.orphaning.Unlock()
	part := orphans.Part{Ended: time.Now().Unix(), Dir: filepath.Join(c.cfg.Dir, "raft.orphan-"+label), Changes: orphans.Of(c.ledger.View())}
	all, err := orphans.Read(c.orphansFile())
	if _, gone := os.Lstat(part.Dir); gone != nil { // a crash came before it was put away
		all = slices.DeleteFunc(all, func(p orphans.Part) bool { return p.Dir == part.Dir })
	}
	if len(part.Changes) > 0 && err == nil {
		err = orphans.Write(c.orphansFile(), append(all, part))
	}
	err = errors.Join(err, c.votes.Note(true)) // its vote goes, too
	if err != nil {
		c.cfg.Log.Error("which changes are only in the part of the ledger that has ended is not noted", "dir", part.Dir, "err", err)
	}
}

func (c *Cluster) orphansFile() string { return filepath.Join(c.cfg.Dir, orphansFile) }

// judgeEnded finds out which changes the ledger of now lacks, once it is here, and
// says so. It ends with ctx.
func (c *Cluster) judgeEnded(ctx context.Context) {
	every(ctx, judgeEvery, func() {
		if err := c.judgeOnce(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("what was changed only in a part of the ledger that has ended is not known yet", "err", err)
		}
	})
}

func (c *Cluster) judgeOnce(ctx context.Context) error {
	c.orphaning.Lock()
	defer c.orphaning.Unlock()
	all, err := orphans.Read(c.orphansFile())
	if err != nil || len(all) == 0 || all[len(all)-1].Judged {
		return err
	}
	if c.group.Status().Leader == "" || c.group.Linear(ctx) != nil {
		return nil // it is asked again
	}
	var left []orphans.Part
	more := false
	for _, p := range all {
		judged := p.Judged
		if !judged {
			p.Judged, p.Changes = true, orphans.Missing(c.ledger.View(), p.Changes)
		}
		if len(p.Changes) > 0 {
			left, more = append(left, p), more || !judged
		}
	}
	if more {
		c.tellOrphans(left) // before it is noted: a crash has it told again
	}
	return orphans.Write(c.orphansFile(), left)
}

// tellOrphans raises the alarm, of now: what was lost before nobody has seen to yet.
func (c *Cluster) tellOrphans(parts []orphans.Part) {
	var all []orphans.Change
	for _, p := range slices.Backward(parts) { // the newest first
		all = append(all, p.Changes...)
	}
	names := orphans.Names(all, c.NameOf)
	const shown = 3 // an alarm is cut where it is long
	first := strings.Join(names[:min(len(names), shown)], ", ")
	if more := len(names) - shown; more > 0 {
		first += fmt.Sprintf(" and %d more", more)
	}
	what := fmt.Sprintf("%d changes that were acknowledged on its side are", len(all))
	if len(all) == 1 {
		what = "1 change that was acknowledged on its side is"
	}
	text := fmt.Sprintf("the cluster went on without this node, and %s not in the ledger any more: %s", what, first)
	if text == c.orphansTold {
		return // it could not be noted, and was judged again
	}
	c.orphansTold = text
	c.cfg.Log.Error("changes that were acknowledged are only in the part of the ledger that has ended", "changes", len(all), "of", first, "dir", parts[len(parts)-1].Dir)
	c.cfg.Alarm("orphans", "", "")
	c.cfg.Alarm("orphans", text,
		"`holdfast member orphans` on it lists them; make those again that are missed, a datastore by `holdfast datastore create NAME --path DIR --reuse-datastore`, then `holdfast member orphans --forget`; see docs/consensus.md")
}

// NameOf returns the name of a node, or its ID if it has none.
func (c *Cluster) NameOf(id string) string {
	if m, is := ledger.Members.Get(c.ledger.View(), id); is && m.Body.Name != "" {
		return m.Body.Name
	}
	return id
}

// Orphans are the changes that this node knows of and the ledger lacks, with the parts
// of the ledger that they were in.
func (c *Cluster) Orphans() ([]orphans.Part, error) {
	c.orphaning.Lock()
	defer c.orphaning.Unlock()
	return orphans.Read(c.orphansFile())
}

// ForgetOrphans forgets them: somebody has seen to them. The parts of the ledger stay.
func (c *Cluster) ForgetOrphans() error {
	c.orphaning.Lock()
	defer c.orphaning.Unlock()
	c.orphansTold = ""
	c.cfg.Alarm("orphans", "", "")
	return orphans.Write(c.orphansFile(), nil)
}
