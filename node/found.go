package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/node/alarms"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/cluster/home"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// migrated is what the name of a file ends with that the ledger has taken over.
const migrated = ".migrated"

// found makes a cluster with this node alone, which takes over the accounts and
// settings of its files. It can be repeated.
func found(ctx context.Context, c Config) error {
	key, err := keyfile.Read(c.at(identityFile))
	if err != nil {
		return err
	}
	f := cluster.Founding{Name: c.Name, Site: c.Site, Operator: func() (ed25519.PrivateKey, error) { return keyfile.Make(c.at(OperatorFile)) }}
	if c.Recovery != nil {
		f.Recovery = authority.Key(c.Recovery)
	}
	if there(c.at(accountsFile)) {
		file, err := access.OpenFile(c.at(accountsFile))
		if err != nil {
			return err
		}
		f.Accounts = file.State()
	}
	if there(c.at(settingsFile)) {
		file, err := settings.OpenFile(c.at(settingsFile))
		if err != nil {
			return err
		}
		f.Settings = file.State()
	}
	return cluster.Found(ctx, cluster.Config{Dir: c.at(clusterDir), Key: key, Version: c.Version, Log: c.Log}, f)
}

func there(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// openCluster opens what the node knows of its cluster. A node from before
// there were any is founded as a cluster of its own: nothing changes for
// anybody, and its files stay, under another name.
func (n *Node) openCluster() error {
	c := &n.cfg
	if home.Lost(c.at(clusterDir)) {
		return &hinted{
			fmt.Errorf("this node belongs to a cluster, and what it knew of it is gone from %s", c.at(clusterDir)),
			"restore the whole directory of the node from one backup; or see \"The directory of the cluster is lost or damaged\" in docs/cluster.md",
		}
	}
	if _, complete := home.IsMember(c.at(clusterDir)); !complete {
		fresh := !there(c.at(OperatorFile))
		if err := found(context.Background(), *c); err != nil {
			return err
		}
		for _, file := range []string{accountsFile, settingsFile} {
			if err := os.Rename(c.at(file), c.at(file+migrated)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := home.Founded(c.at(clusterDir)); err != nil {
			return err
		}
		if fresh {
			n.log.Warn("this node is now a cluster of its own; move the operator's key off this machine, who has it says who belongs to the cluster",
				"key", c.at(OperatorFile))
		}
	}
	key, err := keyfile.Read(c.at(identityFile))
	if err != nil {
		return err
	}
	n.key, n.identity = key, identityName(key)
	id, err := home.ID(c.at(clusterDir))
	if err != nil {
		return err
	}
	if err := n.openLink(id); err != nil {
		return err
	}
	if n.raised, err = alarms.Open(c.at(alarmsFile), time.Now); err != nil {
		n.log.Warn("alarms of before are not shown", "err", err)
	}
	open := cluster.Config{Dir: c.at(clusterDir), Key: key, Version: c.Version, Log: n.log, Alarm: n.raised.Shown(n.log)}
	if n.link != nil {
		open.Network, open.Feeds, open.Now = n.link.Network(), true, n.link.Now
	}
	if n.cluster, err = cluster.Open(open); err != nil {
		return fmt.Errorf("accounts and settings: %w", err)
	}
	n.keep(n.cluster)
	if n.link == nil {
		return nil
	}
	return n.link.Attach(n.cluster)
}
