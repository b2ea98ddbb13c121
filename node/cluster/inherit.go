package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// replacesFile has the name of the node whose place this one takes, until it has
// taken it.
const replacesFile = "replaces"

const (
	inheritEvery = 2 * time.Second
	maxReplaces  = 1024
)

// Replace notes that the node with this directory takes the place of one that
// was removed: what that one had set up, this one will have.
func Replace(dir, name string) error {
	_, err := statefile.WriteSecret(filepath.Join(dir, replacesFile), []byte(name), true)
	return err
}

// OnInherit has f called when this node's settings are others without anybody's
// call: it has taken over what another had set up, or a draft is applied. It is
// to be called before Run.
func (c *Cluster) OnInherit(f func() error) { c.inherited = f }

// NotInherited says why what the node that this one replaces had set up is not taken
// over yet; "" if it is, or if this node replaces none. What is wrong with the name is
// mended in the file that it is in.
func (c *Cluster) NotInherited() (why, file string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heir, filepath.Join(c.cfg.Dir, replacesFile)
}

func (c *Cluster) notInherited(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heir = why
}

// inherit takes over what a removed node had set up, once, if this node takes
// its place. It ends with ctx.
func (c *Cluster) inherit(ctx context.Context) {
	path := filepath.Join(c.cfg.Dir, replacesFile)
	name, err := statefile.ReadSecret(path, maxReplaces)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	tick := time.NewTicker(inheritEvery)
	defer tick.Stop()
	for told := ""; err == nil; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if c.group.Status().Leader == "" {
			continue
		}
		why := c.inheritOnce(ctx, strings.TrimSpace(string(name)))
		if why == nil {
			c.notInherited("")
			c.cfg.Alarm("replaced", fmt.Sprintf("it has taken the place of %s, whose guard is lost: retention floors and blocks that it had hold here no more", strings.TrimSpace(string(name))),
				"raise them again (`holdfast guard raise`, `holdfast node block NODE --local`), or if there were none: `holdfast node seen`")
			c.cfg.Log.Info("this node has taken the place of one that was removed, with its datastores and jobs", "node", string(name))
			if err = os.Remove(path); err == nil && c.inherited != nil {
				err = c.inherited()
			}
			break
		}
		if ctx.Err() == nil && why.Error() != told {
			told = why.Error()
			c.notInherited(fmt.Sprintf("what node %s had set up is not taken over: %v", strings.TrimSpace(string(name)), why))
			c.cfg.Log.Warn("what the node that this one replaces had set up is not taken over yet", "node", string(name), "err", why)
		}
	}
	if err != nil {
		c.cfg.Log.Error("what the node that this one replaces had set up cannot be taken over", "err", err)
	}
}

func (c *Cluster) inheritOnce(ctx context.Context, name string) error {
	if _, is := ledger.Members.Get(c.ledger.View(), c.Self()); !is {
		return errors.New("this node is no member yet")
	}
	old := c.removedAs(name)
	if old == "" {
		return fmt.Errorf("no node %q was removed, or another has its place", name)
	}
	had := c.SettingsOf(old).State()
	return c.settings.Update(ctx, func(s *settings.State) error {
		if len(s.Datastores) > 0 {
			return nil // it was set up anew in the meantime, and stays as it is
		}
		*s = *settings.Clone(had)
		return nil
	})
}

// removedAs is the ID of the node that was removed last under a name, "" if none
// was.
func (c *Cluster) removedAs(name string) (id string) {
	newest := uint64(0)
	for other, m := range ledger.Members.All(c.ledger.View()) {
		if m.Body.Name == name && m.Body.State != ledger.Removed && other != c.Self() {
			return "" // another has its place already
		}
		if m.Body.Name == name && m.Body.State == ledger.Removed && other != c.Self() && m.Version > newest {
			id, newest = other, m.Version
		}
	}
	return id
}
