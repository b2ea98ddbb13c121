// Package pulls is how copies move between the nodes of a mesh: it runs the sync
// jobs of this node, each as a task that pulls from another node through the
// tunnel, and answers the nodes that pull from this one.
//
// A job belongs to the node whose datastore it fills. It runs by its schedule,
// when something is new at its source (on-change), or by hand, never twice at
// once. What a job fetched stays fetched when it is stopped or the node dies.
//
// Who may read what here: a node that has an account, NAME@node, may read what
// the ACL gives that account. A node without one may read everything if its role
// is full or replica, since then it is there to hold copies, and nothing if it
// is another. Nobody from outside the cluster gets through the tunnel.
package pulls

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/traffic"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// A Network connects this node with others; see [network.Network].
type Network interface {
	Listen(service uint16) (net.Listener, error)
	Dial(ctx context.Context, node string, service uint16) (net.Conn, error)
}

// A Member is a node of the cluster.
type Member struct {
	ID, Name, Role string
}

// Config says what the pulls of a node work with. The zero value of an optional
// field means its default.
type Config struct {
	Self      string                         // ID of this node; required
	Settings  settings.Store                 // required
	Stores    *stores.Set                    // required
	Scheduler *jobs.Scheduler                // required
	Network   Network                        // default: this node is linked to no other
	Members   func() []Member                // required: those that belong to the cluster now
	Member    func(id string) (Member, bool) // required: one of them

	// Account says what the ACL gives the account of a node on a part of a
	// datastore, and whether it has an account. Required.
	Account func(node, store string, ns naming.Namespace) (read, has bool)

	// May tells whether the owner of a job may make namespaces below another
	// one here. Default: yes.
	May func(owner, store string, ns naming.Namespace) bool

	// Foreign opens a datastore of a remote, which is a server outside the
	// cluster; is tells whether there is one of that name. Default: there is none.
	Foreign func(remote, store string, in *rate.Bucket) (s replication.Source, is bool, err error)

	// Push runs a job that pushes to a remote. Default: there are none.
	Push func(ctx context.Context, t *jobs.Task, j settings.SyncJob, limit func(time.Time) rate.Limit) error

	// Keys returns the keys of these names, for jobs that decrypt. Default: there are
	// none.
	Keys func(names []string) ([]*chunks.Key, error)

	// Unmount takes a datastore out whose disk comes and goes; removable tells whether
	// it is such a one. Default: there are none.
	Unmount func(ctx context.Context, store string) (removable bool, err error)

	// Removed says what a node has signed of a snapshot that it had: when it removed
	// it on purpose, and why. Default: nothing, so that no copy here ever goes.
	Removed func(node, store string, s wire.Snapshot) (at time.Time, why string, is bool)

	// Held returns what a node has said that it holds in a datastore. Default: that
	// is not known.
	Held func(node, store string) []facts.Held

	// Tasks runs healings; required.
	Tasks *jobs.Manager

	// Key is that of this node: it signs what the encrypted chunks are of backups
	// that clients send here. Default: nothing is signed, and nothing checked.
	Key crypto.Signer
	// Origins returns to which nodes clients sent the snapshot with a manifest, by
	// the SHA-256 of its canonical form.
	Origins func(manifest [32]byte) []Origin
	// Pulled is told, before a snapshot can be seen here, from which node it came.
	Pulled func(store string, ns naming.Namespace, s naming.Snapshot, node string)

	Traffic *traffic.Limiter             // rules for links; default: none
	Where   func(node string) netip.Addr // the address that rules go by; default: that in the tunnel
	Now     func() time.Time             // what passes count by; default: time.Now
	In, Out rate.Limit                   // of all pulls of this node, and of all that others pull from it
	Log     *slog.Logger                 // default: discard
}

// Pulls are the sync jobs of a node, and what it gives others.
type Pulls struct {
	cfg     Config
	in, out *rate.Bucket // nil: no limit
	server  *wire.Server
	local   *loop // for jobs within this node

	mu   sync.Mutex
	jobs map[string]*job // by ID
	puts map[string]bool // schedules that were put
	seen *settings.State
	left chan string // datastores of jobs that were removed

	healings healings
	sums     sums
}

// New returns the pulls of a node. It starts nothing.
func New(cfg Config) (*Pulls, error) {
	if cfg.Self == "" || cfg.Settings == nil || cfg.Stores == nil || cfg.Scheduler == nil || cfg.Tasks == nil || cfg.Members == nil || cfg.Member == nil || cfg.Account == nil {
		return nil, errors.New("pulls: the ID of this node, settings, datastores, a scheduler, tasks, members and their rights are needed")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	p := &Pulls{cfg: cfg, jobs: map[string]*job{}, puts: map[string]bool{}, left: make(chan string, 16), local: newLoop(cfg.Self),
		healings: healings{last: map[string]Healing{}, runs: map[string]bool{}},
		sums:     sums{keepers: map[string]kept{}, todo: map[group]bool{}, wake: make(chan struct{}, 1)}}
	if cfg.In.Rate > 0 {
		p.in = rate.New(nil, rate.Fixed(cfg.In))
	}
	if cfg.Out.Rate > 0 {
		p.out = rate.New(nil, rate.Fixed(cfg.Out))
	}
	var err error
	p.server, err = wire.NewServer(wire.ServerConfig{
		Vouch: p.vouched, Names: cfg.Stores.Names, Store: p.open, Who: who, May: p.may, Out: func(string) *rate.Bucket { return p.out }, Log: cfg.Log,
	})
	return p, err
}

// lookEvery is how often Run looks for changes of the settings.
const lookEvery = 2 * time.Second

// Run answers other nodes and starts jobs until ctx is done. Jobs that run are
// tasks: they end with the manager of tasks.
func (p *Pulls) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.serveLocal(ctx) })
	g.Go(func() error { return p.serve(ctx) })
	g.Go(func() error { return p.follow(ctx) })
	g.Go(func() error { return p.watch(ctx) })
	g.Go(func() error { return p.mounts(ctx) })
	g.Go(func() error { return p.heals(ctx) })
	g.Go(func() error { return p.sign(ctx) })
	return g.Wait()
}

// follow makes the schedules what the settings say.
func (p *Pulls) follow(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := p.Sync(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Log.Warn("sync jobs do not follow the settings", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

const jobType = "syncjob"

func scheduleName(id string) string { return jobType + ":" + id }

// Sync makes the schedules what the settings say, at once. One that makes no
// sense is reported, and stops none of the others.
func (p *Pulls) Sync(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.cfg.Settings.State()
	if state == p.seen {
		return nil
	}
	var errs []error
	puts := map[string]bool{}
	for _, j := range state.SyncJobs {
		sched := jobs.Schedule{
			Name: scheduleName(j.ID), Event: j.Schedule, Type: jobType, ID: WorkerID(j), Auth: ownerOfRuns,
			Work: func(ctx context.Context, t *jobs.Task) error { return p.work(ctx, t, j.ID) },
		}
		if j.Disable {
			sched.Event = ""
		}
		if sched = state.Timed("sync:"+j.ID, sched); j.Disable {
			sched.After = ""
		}
		puts[sched.Name] = true
		if err := p.cfg.Scheduler.Put(sched); err != nil {
			errs = append(errs, fmt.Errorf("schedule %s: %w", sched.Name, err))
		}
	}
	for name := range p.puts {
		if puts[name] {
			continue
		}
		p.cfg.Scheduler.Remove(name)
		if j, was := p.seen.SyncJob(strings.TrimPrefix(name, scheduleName(""))); was {
			select {
			case p.left <- j.Store:
			default: // it is done within a day
			}
		}
	}
	p.puts, p.seen = puts, state
	return errors.Join(errs...)
}

// ownerOfRuns is whose tasks those are that the schedule starts.
const ownerOfRuns = "root@pam"

// WorkerID is what tasks of a job are called (PBS protocol notes §7.9).
func WorkerID(j settings.SyncJob) string {
	return fmt.Sprintf("%s:%s:%s:%s:%s", cmp.Or(j.Remote, "-"), j.RemoteStore, j.Store, j.NS, j.ID)
}

// Out is what bounds all that leaves this node for pulls; nil: nothing does.
func (p *Pulls) Out() *rate.Bucket { return p.out }

// Schedule returns how the schedule of a job stands.
func (p *Pulls) Schedule(id string) (jobs.ScheduleStatus, error) {
	return p.cfg.Scheduler.Status(scheduleName(id))
}

// Start runs a job now, for someone.
func (p *Pulls) Start(id, auth string) (jobs.UPID, error) {
	return p.cfg.Scheduler.Trigger(scheduleName(id), auth)
}

// begin runs a job since something has happened, unless it is paused, or its window
// is closed.
func (p *Pulls) begin(id, why string) error {
	s, err := p.Schedule(id)
	if err != nil {
		return err
	}
	if s.Held {
		return errHeld
	}
	_, err = p.cfg.Scheduler.Begin(scheduleName(id), ownerOfRuns, why)
	return err
}

var errHeld = errors.New("it is paused, or its window is closed")

// job returns what is kept of a job between its runs.
func (p *Pulls) job(id string) *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := p.jobs[id]
	if j == nil {
		j = &job{}
		p.jobs[id] = j
	}
	return j
}
