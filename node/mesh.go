package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/overview"
	"github.com/holdfast-mesh/holdfast/node/peers"
)

// openLink opens what links the node to the others.
func (n *Node) openLink(id [16]byte) (err error) {
	c := &n.cfg
	if c.MeshListen == "" {
		return nil
	}
	n.link, err = peers.New(peers.Config{
		Dir: c.at(clusterDir), Key: n.key, Cluster: id, Listen: c.MeshListen, Version: c.Version,
		NoUDPGSO: c.Getenv("HOLDFAST_NO_UDP_GSO") != "", Log: n.log,
	})
	if err != nil {
		return fmt.Errorf("link to other sites: %w", err)
	}
	n.keep(n.link)
	return nil
}

// portAlarm is the key of the alarm that the mesh port cannot be opened.
const portAlarm = "mesh-port"

// runLink links the node to the others until ctx ends. A site stands alone: if
// it cannot, the rest goes on.
func (n *Node) runLink(ctx context.Context) error {
	alarm := n.raised.Shown(n.log)
	alarm(portAlarm, "", "")
	n.link.AwaitPort(ctx, func(port *peers.PortError) {
		n.log.Error("this node is linked to no other site yet; backups and restores go on", "err", port, "hint", port.Hint())
		alarm(portAlarm, "it is linked to no other site yet: "+port.Error(), port.Hint())
	})
	alarm(portAlarm, "", "")
	err := n.link.Run(ctx)
	var port *peers.PortError
	switch {
	case errors.As(err, &port):
		n.log.Error("this node is linked to no other site until it is restarted; backups and restores go on", "err", err, "hint", port.Hint())
		alarm(portAlarm, "it is linked to no other site until it is restarted: "+port.Error(), port.Hint())
	case errors.Is(err, peers.ErrRemoved):
		n.log.Error("operators have removed this node from the cluster: it is linked to nobody, and its copies do not count; restores of what it holds go on", "hint", goneHint)
	case err != nil && ctx.Err() == nil:
		n.log.Error("this node is linked to no other site until it is restarted; backups and restores go on", "mesh-listen", n.cfg.MeshListen, "err", err)
	}
	<-ctx.Done()
	return nil
}

// goneHint is what to do about a node that was removed.
const goneHint = "to take it back: move its data directory away, keep its datastores, and join it again with a new token"

// ways is what is known of the ways to the other nodes.
func (n *Node) ways() map[string]peers.Peer {
	if n.link == nil {
		return nil
	}
	return n.link.Peers()
}

// hears tells whether another node is heard of now.
func (n *Node) hears(id string) bool {
	p := n.ways()[id]
	return p.Path != "" && p.Path != peers.PathNone
}

// statusOfPeer fills in what this node has heard of another.
func statusOfPeer(m *overview.Member, p peers.Peer) {
	m.LastHeard = m.LastSaid
	if p.Path == "" {
		return // this node is linked to none, or not to that one yet
	}
	m.Reachable, m.Path, m.LastHeard, m.Version = p.Path != peers.PathNone, p.Path, p.Heard.UTC(), p.Version
	if p.Heard.IsZero() { // it was not heard of since this node was started, but what it said before is held
		m.LastHeard = m.LastSaid
	}
	m.Health, m.Text, m.Loss = string(p.State), p.Text, p.Loss
	m.RTT = float64(p.RTT.Microseconds()) / 1000
	m.Ready, m.Trouble = m.Reachable, p.Trouble
	m.Why = overview.Reason(p.Why)
	m.Running = append(m.Running, p.Running...)
	m.Tasks = max(m.Tasks, len(p.Running))
}

// Join makes the directory of a node, as Init does, and puts it into a cluster
// with a token; replaces names a removed node whose place it takes, "" none. When
// it fails, it may be called again.
func Join(ctx context.Context, c Config, token, replaces string) (peers.Joined, error) {
	t, err := invite.Parse(token)
	if err != nil {
		return peers.Joined{}, fmt.Errorf("join: %w", err)
	}
	c.Site = cmp.Or(c.Site, t.Site, c.Name)
	full, err := c.initial()
	if err != nil {
		return peers.Joined{}, err
	}
	full.Dir, full.Version, full.Log = c.Dir, c.Version, c.Log
	var joined peers.Joined
	err = makeDir(full, func() error {
		if is, _ := cluster.IsMember(full.at(clusterDir)); is {
			return &hinted{errors.New("it belongs to a cluster, and only " + ConfigFile + " is missing"), "write that file again, see docs/node.md; to begin anew, move the directory away"}
		}
		key, err := keyfile.Read(full.at(identityFile))
		if err != nil {
			return err
		}
		joined, err = peers.Join(ctx, peers.Joining{
			Dir: full.at(clusterDir), Key: key, Token: token, Name: full.Name, Site: full.Site, Replaces: replaces, Listen: full.MeshListen, Version: full.Version, Log: full.Log,
		})
		if err != nil {
			return err
		}
		_, err = statefile.WriteSecret(full.at(ConfigFile), []byte(full.text()), false)
		return err
	})
	if err != nil {
		return peers.Joined{}, fmt.Errorf("join with node in %s: %w", filepath.Clean(c.Dir), err)
	}
	return joined, nil
}

// membership is what the endpoints about members need.
func (n *Node) membership() members.Config {
	c := members.Config{Cluster: n.cluster, Ask: n.ask, Cut: n.cut}
	if n.link != nil {
		c.Rotate, c.Keys, c.Told = n.link.RotateKeys, n.link.Keys, n.link.Told
		c.ByHand, c.SetHand, c.Clocks = n.link.ByHand, n.link.SetByHand, n.link.Clocks
		c.Health = func(node string) string { return string(n.ways()[node].State) }
	}
	return c
}

// ask returns whom a machine that joins can ask.
func (n *Node) ask() []invite.Member {
	if n.link == nil {
		return nil
	}
	return n.link.Ask()
}

// cut has the link follow the roster at once.
func (n *Node) cut(context.Context) {
	if n.link != nil {
		n.link.Follow()
	}
}
