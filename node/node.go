// Package node puts one site together and runs it: it reads the configuration,
// opens what is in the directory of the node, hands each part what it needs,
// and keeps all of them running. It is the one place that knows everybody, and
// holds no algorithm.
//
// The directory of a node, which belongs to one daemon at a time:
//
//	node.toml       the configuration, written by the operator
//	cluster/        the ledger: accounts, datastores, jobs, members; see package cluster
//	feeds.db        what this node and the others say that they hold and ran
//	operator.key    signs who belongs to the cluster, until its owner takes it away
//	secrets.json    passwords and tokens of notification targets
//	notices         what people are still to be told
//	s3-secrets.json secret keys of S3 stores, and the key that opens encrypted ones
//	identity.key    whom other sites know the node by
//	ticket.key      signs the tickets of users
//	tls/            certificate and key, unless the configuration names others
//	tasks/          logs of tasks; schedules.json: when schedules last ran
//	history/        figures of the last months, for graphs
//	admin.sock      where the command line reaches the daemon
package node

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/node/alarms"
	"github.com/holdfast-mesh/holdfast/node/certificate"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/dirlock"
	"github.com/holdfast-mesh/holdfast/node/doctor"
	"github.com/holdfast-mesh/holdfast/node/feeds"
	"github.com/holdfast-mesh/holdfast/node/front"
	"github.com/holdfast-mesh/holdfast/node/notices"
	"github.com/holdfast-mesh/holdfast/node/peers"
	"github.com/holdfast-mesh/holdfast/node/shares"
	"github.com/holdfast-mesh/holdfast/node/systemd"
	"github.com/holdfast-mesh/holdfast/pbs/secrets"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A Node is one site.
type Node struct {
	cfg      Config
	log      *slog.Logger
	started  time.Time
	ending   atomic.Bool
	notifier *systemd.Notifier

	key         ed25519.PrivateKey // whom others know the node by
	link        *peers.Link        // nil: the node is linked to no other
	cluster     *cluster.Cluster
	raised      *alarms.Alarms // what has happened to this node
	feeds       *feeds.Feeds
	shares      shares.Shares // who does what several could
	settings    settings.Store
	access      *access.Service
	certificate *certificate.Keeper
	identity    string // see identityName
	secrets     *secrets.Secrets
	notices     *notices.Notices
	tasks       *jobs.Manager
	schedules   *jobs.Scheduler
	doctor      *doctor.Doctor
	services

	front      *front.Server
	admin      *admin.Server
	monitor    *http.Server // nil: no address for it
	address    net.Addr     // of front
	monitoring net.Listener

	closers []io.Closer // in the order of opening
}

// New opens all that the node needs, the addresses that it listens on too. It
// answers nobody before [Node.Run], which also closes everything; a Node that
// is not run has to be closed.
func New(cfg Config) (*Node, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	n := &Node{cfg: cfg, log: cfg.Log, started: time.Now(), notifier: systemd.New(cfg.Getenv, cfg.Log)}
	for _, step := range []func() error{n.openDir, n.openCluster, n.openFeeds, n.openState, n.openNotices, n.openTasks, n.openServices, n.openDoctor, n.openDoors} {
		if err := step(); err != nil {
			return nil, errors.Join(fmt.Errorf("node %s: %w", cfg.Dir, err), n.Close())
		}
	}
	return n, nil
}

// keep has c closed with the node, those that came first last.
func (n *Node) keep(c io.Closer) { n.closers = append(n.closers, c) }

// Close closes a node that was not run, or is done.
func (n *Node) Close() error {
	var errs []error
	for len(n.closers) > 0 {
		last := len(n.closers) - 1
		errs = append(errs, n.closers[last].Close())
		n.closers = n.closers[:last]
	}
	return errors.Join(errs...)
}

// Address returns where clients reach the node.
func (n *Node) Address() net.Addr { return n.address }

func (n *Node) openDir() error {
	info, err := os.Stat(n.cfg.Dir)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return &hinted{fmt.Errorf("others may look into the directory (mode %#o)", mode), "run: chmod 700 " + n.cfg.Dir}
	}
	held, err := dirlock.Take(n.cfg.Dir)
	if err != nil {
		return err
	}
	n.keep(held)
	return nil
}

func (n *Node) openState() error {
	c := &n.cfg
	key, err := access.OpenKey(c.at(ticketKeyFile))
	if err != nil {
		return err
	}
	n.settings = n.cluster.Settings()
	n.shares = shares.Shares{Cluster: n.cluster, Alive: n.hears}
	if n.access, err = access.New(access.Config{Store: n.cluster.Accounts(), Key: key}); err != nil {
		return err
	}
	n.certificate, err = certificate.NewKeeper(certificate.Config{Files: c.Files(), Log: n.log})
	return err
}

func (n *Node) openTasks() error {
	var err error
	ended := func(i jobs.Info) {
		n.feeds.Ended(i)
		n.notices.TaskEnded(i)
	}
	if n.tasks, err = jobs.New(jobs.Config{Dir: n.cfg.at(tasksDir), Node: jobs.NodeName(n.cfg.Name), Turns: n.cfg.Limits.turns(), Ended: ended, Log: n.log}); err != nil {
		return err
	}
	n.keep(closer(func() error { return n.endTasks(context.Background()) }))
	n.schedules, err = jobs.NewScheduler(jobs.SchedulerConfig{Manager: n.tasks, File: n.cfg.at(schedulesFile), Missed: n.notices.Missed, Share: n.shares.Share, Relief: n.shares.Relief, Log: n.log})
	return err
}

type closer func() error

func (c closer) Close() error { return c() }

// tasksTime is how long tasks may take to end, when all ends: backups are cut
// off, so that nothing but their chunks is left, and other work stops within a
// second.
const tasksTime = 10 * time.Second

// endTasks ends all tasks, sessions of backups among them, and waits for them.
func (n *Node) endTasks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tasksTime)
	defer cancel()
	return n.tasks.Close(ctx)
}

// Run runs the node until ctx ends or a part of it fails, and closes it.
func (n *Node) Run(ctx context.Context) error {
	n.log.Info("node is up", "name", n.cfg.Name, "site", n.cfg.Site, "version", n.cfg.Version, "listen", n.address.String(),
		"fingerprint", certificate.Fingerprint(n.certificate.Leaf()), "took", time.Since(n.started).Round(time.Millisecond))
	n.notifier.Ready("listening on " + n.address.String())
	n.cluster.OnInherit(n.reloadServices)
	err := errors.Join(runAll(ctx, n.parts()), n.Close())
	if err == nil {
		n.log.Info("node has ended")
	}
	return err
}

// parts are what runs.
func (n *Node) parts() []part {
	parts := []part{
		{"farewell", n.farewell},
		{"cluster", n.cluster.Run},
		{"listener " + n.address.String(), n.front.Run},
		{"admin socket", n.admin.Run},
		{"certificate", n.certificate.Run},
		{"schedules", n.schedules.Run},
		{"feeds", n.feeds.Run},
		{"notifications", n.notices.Run},
		{"doctor", n.doctor.Run},
		{"watchdog", func(ctx context.Context) error { return n.notifier.Run(ctx, n.alive) }},
	}
	if n.link != nil {
		parts = append(parts, part{"link to other sites", n.runLink})
	}
	if n.monitor != nil {
		parts = append(parts, part{"monitor address", n.runMonitor})
	}
	return append(parts, n.serviceParts()...)
}

// farewell waits for the end and begins it: sessions end with their tasks, and
// those who serve them wait for them.
func (n *Node) farewell(ctx context.Context) error {
	<-ctx.Done()
	n.ending.Store(true)
	n.notifier.Stopping()
	n.log.Info("node ends: backups that run are cut off, and leave nothing but chunks")
	return n.endTasks(ctx)
}

// alive tells whether the daemon still answers, which the command line would ask.
func (n *Node) alive(ctx context.Context) error {
	c := admin.NewClient(n.cfg.Dir)
	defer c.Close()
	_, err := c.Call(ctx, http.MethodGet, "/ping", nil)
	return err
}

// Reload reads again what may change while the node runs: the
// certificate and the level of the log. What cannot be read stays as
// it was; the error says what that is.
func (n *Node) Reload() error {
	n.notifier.Reloading()
	defer n.notifier.Ready("listening on " + n.address.String())
	c, err := ReadConfig(n.cfg.Dir)
	if err == nil && n.cfg.level != nil {
		err = n.cfg.level.UnmarshalText([]byte(c.Logging.Level))
	}
	err = errors.Join(err, n.certificate.Reload(), n.reloadServices())
	if err != nil {
		n.log.Error("reload: something stays as it was", "err", err)
		return err
	}
	n.log.Info("reloaded certificate and log level; a change of addresses or limits needs a restart")
	return nil
}
