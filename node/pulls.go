package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/node/figures"
	"github.com/holdfast-mesh/holdfast/node/keyring"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/metrics"
	"github.com/holdfast-mesh/holdfast/node/plans"
	"github.com/holdfast-mesh/holdfast/node/pulls"
	"github.com/holdfast-mesh/holdfast/node/pushes"
	"github.com/holdfast-mesh/holdfast/node/remotes"
	remoteapi "github.com/holdfast-mesh/holdfast/pbs/api/remotes"
	"github.com/holdfast-mesh/holdfast/pbs/api/rules"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// openPulls makes what pulls from other nodes, and gives them what is here.
func (n *Node) openPulls() (err error) {
	c := pulls.Config{
		Self: n.cluster.Self(), Settings: n.settings, Stores: n.stores, Scheduler: n.schedules, Tasks: n.tasks,
		Key: n.key, Origins: n.origins, Pulled: n.feeds.Pulled,
		Members: n.members, Member: n.member, Account: n.accountOfNode, May: n.mayMakeNamespace,
		Foreign: n.foreign, Push: n.push, Removed: n.removedBy, Held: n.feeds.Snapshots, Traffic: n.traffic, Log: n.log,
		Keys: func(names []string) ([]*chunks.Key, error) { return n.keyring().Decrypts(names) },
	}
	c.Unmount = func(ctx context.Context, store string) (bool, error) {
		if !n.disks.Removable(store) {
			return false, nil
		}
		return true, n.disks.Unmount(ctx, store, string(access.Root))
	}
	if n.link != nil {
		c.Network, c.Where = n.link.Network(), n.link.Where
	}
	if c.In, err = limit("pull-rate-in", n.cfg.Limits.PullRateIn); err != nil {
		return err
	}
	if c.Out, err = limit("pull-rate-out", n.cfg.Limits.PullRateOut); err != nil {
		return err
	}
	if n.pulls, err = pulls.New(c); err != nil {
		return err
	}
	n.feeds.OnNews(func(node, _ string) { n.pulls.News(node) }) // for as long as the node lives
	return nil
}

// changed says that something has changed in a group: others hear of it, and what
// a client sent is signed.
func (n *Node) changed(store string, ns naming.Namespace, g naming.Group) {
	n.feeds.Changed(store, ns, g)
	n.pulls.Changed(store, ns, g)
}

// corrupt says that a verification has found damage: somebody is told, and it is
// healed from wherever it is whole.
func (n *Node) corrupt(store string, damaged, missing int) {
	n.notices.Corrupt(store, damaged, missing)
	n.pulls.HealSoon(store)
}

// foreign opens a datastore of a remote.
func (n *Node) foreign(remote, store string, in *rate.Bucket) (replication.Source, bool, error) {
	r, is := n.settings.State().Remote(remote)
	if !is {
		return nil, false, nil
	}
	password, err := n.vault().Password(r)
	if err != nil {
		return nil, true, err
	}
	s, err := remotes.New(remotes.Config{Remote: r, Password: password, Store: store, In: in})
	if err != nil {
		return nil, true, err
	}
	return s, true, nil
}

// pushConfig opens what a job that pushes works with. done closes it.
func (n *Node) pushConfig(j settings.SyncJob, limit func(time.Time) rate.Limit) (c pushes.Config, done func(), err error) {
	r, is := n.settings.State().Remote(j.Remote)
	if !is {
		return c, nil, fmt.Errorf("there is no remote '%s'", j.Remote)
	}
	password, err := n.vault().Password(r)
	if err != nil {
		return c, nil, err
	}
	d, let, err := n.stores.Use(j.Store, false)
	if err != nil {
		return c, nil, err
	}
	c = pushes.Config{Job: j, Local: d, User: r.AuthID, May: func(ns naming.Namespace, _ naming.Group, owner string) bool { return n.mayPush(j, ns, owner) }}
	c.MayRemove = func(ns naming.Namespace) bool { // what is above is changed (features row 77)
		up, _ := ns.Parent()
		return n.access.Privileges(access.AuthID(j.OwnerOrRoot()), "remote", j.Remote, j.RemoteStore, string(up)).HasAny(access.PrivRemoteDatastoreModify)
	}
	if j.ActiveKey != "" && !settings.Is(j.EncryptedOnly) {
		c.Key, err = n.keyring().Encrypts(j.ActiveKey)
	}
	if err == nil {
		c.Remote, err = remotes.Client(r, password, j.RemoteStore, remotes.Pace{Out: rate.New(n.pulls.Out(), limit)})
	}
	if err != nil {
		let()
		return c, nil, err
	}
	return c, func() { c.Remote.Close(); let() }, nil
}

// push runs a job that pushes to a remote.
func (n *Node) push(ctx context.Context, t *jobs.Task, j settings.SyncJob, limit func(time.Time) rate.Limit) error {
	c, done, err := n.pushConfig(j, limit)
	if err != nil {
		return err
	}
	defer done()
	c.Printf, c.Warnf = t.Logf, t.Warnf
	c.Progress = func(done, total int, what string) { t.Progress(float64(done)/float64(max(total, 1)), what) }
	var moved atomic.Int64
	t.Watch(moved.Load)
	c.Moved = func() { moved.Add(1) }
	r, err := pushes.Run(ctx, c)
	for what, n := range map[string]int64{"snapshots": int64(r.Snapshots), "chunks": int64(r.Chunks), "bytes": r.Bytes} {
		t.Count(what, n)
	}
	for what, n := range map[string]int{"encrypted": r.Encrypted, "left": r.Left, "removed": r.Removed, "failed": r.Failed} {
		if n > 0 {
			t.Count(what, int64(n))
		}
	}
	return err
}

// plans say what jobs would do.
func (n *Node) plans() plans.Config {
	return plans.Config{
		Settings: n.settings, Stores: n.stores, Exports: n.exports, Offload: n.offloads.Plan,
		Pull: func(ctx context.Context, id string) (any, error) { return n.pulls.Plan(ctx, id) },
		Push: func(ctx context.Context, j settings.SyncJob) ([]pushes.Step, error) {
			c, done, err := n.pushConfig(j, func(time.Time) rate.Limit { return rate.Limit{} })
			if err != nil {
				return nil, err
			}
			defer done()
			return pushes.Plan(ctx, c)
		},
	}
}

// calendar is when the jobs of all nodes are due.
func (n *Node) calendar(from, until time.Time) []rules.Slot {
	var all []plans.Site
	said := n.feeds.Nodes()
	for _, m := range members.All(n.cluster, false) {
		s := plans.Site{Node: m.Name, Site: m.Site, State: n.cluster.SettingsOf(m.ID).State(), Zone: time.Local}
		s.Resolve = func(remote string) (string, bool) {
			if remote == "" {
				return m.Name, true
			}
			other, err := n.pulls.Resolve(remote)
			return other.Name, err == nil
		}
		s.Took = func(job string) time.Duration { return plans.Took(said[m.ID].Last, s.State, job) }
		all = append(all, s)
	}
	return plans.Calendar(all, from, until)
}

// keyring are the keys of jobs that encrypt and decrypt.
func (n *Node) keyring() *keyring.Ring {
	return keyring.New(keyring.Config{
		Client: n.cluster.Client(), Key: n.key, Name: n.cluster.NameOf,
		Nodes: func() (ids []string) {
			for _, m := range members.All(n.cluster, false) {
				ids = append(ids, m.ID)
			}
			return ids
		},
		Find: func(node string) (string, error) {
			m, err := n.pulls.Resolve(node)
			return m.ID, err
		},
		State: func(node string) *settings.State { return n.cluster.SettingsOf(node).State() },
	})
}

// vault has the passwords of remotes.
func (n *Node) vault() keyring.Vault {
	return keyring.Vault{
		Ring: n.keyring(), Legacy: func(remote string) string { return n.secrets.Get(remoteapi.SecretOf(remote)) },
		Of: func(id string) settings.Store { return n.cluster.SettingsOf(id) },
	}
}

// mayPush tells whether whose job it is may read a group.
func (n *Node) mayPush(j settings.SyncJob, ns naming.Namespace, owner string) bool {
	who := access.AuthID(j.OwnerOrRoot())
	p := n.access.Privileges(who, "datastore", j.Store, string(ns))
	return p.HasAny(access.PrivDatastoreRead) || p.HasAny(access.PrivDatastoreBackup) && who.Owns(access.AuthID(owner))
}

// removedBy says what a node has signed of a snapshot that it removed.
func (n *Node) removedBy(node, store string, s wire.Snapshot) (time.Time, string, bool) {
	return n.feeds.Removed(node, store, factsGroup(s.Namespace, s.Group), s.Time)
}

// origins are the nodes to which clients sent a snapshot.
func (n *Node) origins(manifest [32]byte) (all []pulls.Origin) {
	for _, c := range n.feeds.Origins(manifest) {
		g := naming.Group{Type: naming.Type(c.Group.Type), ID: c.Group.ID}
		all = append(all, pulls.Origin{Node: c.Node, Store: c.Store, Snap: wire.Snapshot{
			Namespace: naming.Namespace(c.Group.Namespace), Snapshot: naming.Snapshot{Group: g, Time: c.Time},
		}})
	}
	return all
}

func factsGroup(ns naming.Namespace, g naming.Group) facts.Group {
	return facts.Group{Namespace: string(ns), Type: string(g.Type), ID: g.ID}
}

// members are the nodes that belong to the cluster.
func (n *Node) members() (all []pulls.Member) {
	for id, row := range ledger.Members.All(n.cluster.View()) {
		if m, ok := shownMember(id, row.Body); ok {
			all = append(all, m)
		}
	}
	return all
}

// member is one of them.
func (n *Node) member(id string) (pulls.Member, bool) {
	row, is := ledger.Members.Get(n.cluster.View(), id)
	if !is || n.cluster.Removed(id) {
		return pulls.Member{}, false
	}
	return shownMember(id, row.Body)
}

func shownMember(id string, m ledger.Member) (pulls.Member, bool) {
	return pulls.Member{ID: id, Name: m.Name, Role: m.Role}, m.State == ledger.Active || m.State == ledger.Draining
}

// accountOfNode says what the ACL gives the account of a node.
func (n *Node) accountOfNode(node, store string, ns naming.Namespace) (read, has bool) {
	id := access.AuthID(node + "@" + access.RealmNode)
	if _, err := n.access.User(id); err != nil {
		return false, false
	}
	return n.access.Active(id) && n.access.Privileges(id, "datastore", store, string(ns)).HasAny(access.PrivDatastoreRead), true
}

// mayMakeNamespace tells whether somebody may make namespaces below another.
func (n *Node) mayMakeNamespace(owner, store string, ns naming.Namespace) bool {
	return n.access.Privileges(access.AuthID(owner), "datastore", store, string(ns)).HasAny(access.PrivDatastoreModify)
}

// limit reads a rate of node.toml.
func limit(option, text string) (l pulls.Limit, err error) {
	if l, err = pulls.ParseLimit(text); err != nil {
		err = fmt.Errorf("limits: %s: %w", option, err)
	}
	return l, err
}

// settingsOf returns what another node has set up.
func (n *Node) settingsOf(node string) (settings.Store, error) {
	m, err := n.pulls.Resolve(node)
	if err != nil {
		return nil, err
	}
	return n.cluster.SettingsOf(m.ID), nil
}

// syncRunner runs sync jobs for the API.
type syncRunner struct {
	*pulls.Pulls
	settings settings.Store
}

func (r syncRunner) Plan(ctx context.Context, id string) (any, error) { return r.Pulls.Plan(ctx, id) }

func (r syncRunner) Standing(id string) (behind int, since time.Time, known bool) {
	s, known := r.Pulls.Standing(id)
	return s.Behind, s.Since, known
}

// figures are what monitors are told of the mesh and of pulls.
func (n *Node) figures() metrics.Mesh {
	m := figures.Of(n.cluster, n.feeds, n.ways())
	for id, s := range n.pulls.Standings() {
		m.Pulls = append(m.Pulls, metrics.Pull{Job: id, Behind: s.Behind, Since: s.Since})
	}
	return m
}

func (r syncRunner) Known(node string) error {
	_, err := r.Resolve(node)
	if _, is := r.settings.State().Remote(node); is {
		return nil
	}
	return err
}

func (r syncRunner) Start(id, auth string) (jobs.UPID, error) { return r.Pulls.Start(id, auth) }
