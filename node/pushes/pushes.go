// Package pushes copies snapshots of this node to a Proxmox Backup Server, or to a
// node of another cluster, over the protocol of backups. Between the nodes of one
// mesh nothing is pushed: there data moves to who asks for it.
//
// What arrives there belongs to the user of the remote. Of each group only
// snapshots are pushed that are newer than the newest there, since a server takes
// no others, the oldest first; a group of another owner is left alone. Chunks go as
// they are stored here: what a client has encrypted stays so; what is not may be
// encrypted on the way. See PBS protocol notes §6.5.
package pushes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/listing"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// Config says what is pushed, and where to. All but Key, May, MayRemove and
// Progress are required.
type Config struct {
	Job    settings.SyncJob
	Local  *catalog.Datastore
	Remote *client.Client
	User   string      // of the remote, who owns what is pushed
	Key    *chunks.Key // encrypts what is not encrypted; default: all goes as it is

	// May tells whether the job may read a group here. Default: yes.
	May func(ns naming.Namespace, g naming.Group, owner string) bool

	// MayRemove tells whether the job may remove a namespace there. Default: yes.
	MayRemove func(ns naming.Namespace) bool

	Printf, Warnf func(format string, args ...any)
	Progress      func(done, total int, what string) // of snapshots; default: nobody is told
	Moved         func()                             // is called with each chunk; default: nobody is told
}

// A Report is what a push did.
type Report struct {
	Groups    int   `json:"groups"`
	Snapshots int   `json:"snapshots"` // that were pushed
	Encrypted int   `json:"encrypted"` // of them, on the way
	Left      int   `json:"left"`      // that were not pushed, since only a part of them is encrypted
	Bytes     int64 `json:"bytes"`     // of chunks that were sent, as they are stored
	Chunks    int   `json:"chunks"`
	Removed   int   `json:"removed"` // snapshots there that are not here any more
	Failed    int   `json:"failed"`  // groups, and lists of what is there
}

// A push is one run.
type push struct {
	Config
	filters naming.Filters
	total   int
	known   map[naming.Namespace]bool // that there are, there
	here    map[place]bool            // groups that there are here, as they are named there

	mu     sync.Mutex
	report Report
	done   int
}

// A group is one that is to be pushed.
type group struct {
	naming.Group
	from, to naming.Namespace
	here     map[int64]bool // times of all that there is here
	all      []listing.Info // that the job is about, the oldest first
	fresh    []listing.Info // of these what is to be pushed
	there    []listing.Info
	names    names // of chunks that were encrypted
}

func (g *group) String() string {
	if g.from == "" {
		return g.Group.String()
	}
	return string(g.from) + ":" + g.Group.String()
}

// Run pushes what is to be pushed. It goes on after the failure of a group, and
// fails in the end.
func Run(ctx context.Context, cfg Config) (Report, error) {
	p := &push{Config: cfg}
	var err error
	if p.filters, err = cfg.Job.Filters(); err != nil {
		return p.report, err
	}
	if err := p.version(ctx); err != nil {
		return p.report, err
	}
	by, err := p.wanted(ctx)
	if err != nil {
		return p.report, err
	}
	if err := p.makeNamespaces(ctx, by); err != nil {
		return p.report, err
	}
	groups, err := p.compare(ctx, by)
	if err != nil {
		return p.report, err
	}
	workers, ctx2 := errgroup.WithContext(ctx)
	workers.SetLimit(max(cfg.Job.WorkerThreads, 1))
	for _, g := range groups {
		workers.Go(func() error {
			if err := p.group(ctx2, g); err != nil {
				p.fail("group %s: %v", g, err)
			}
			return ctx2.Err()
		})
	}
	if err := workers.Wait(); err != nil {
		return p.report, context.Cause(ctx)
	}
	if settings.Is(cfg.Job.RemoveVanished) {
		p.removeVanished(ctx, groups)
	}
	r := p.report
	if r.Snapshots == 0 && r.Removed == 0 && r.Failed == 0 {
		p.Printf("Summary: sync job found no new data to push")
	} else {
		p.Printf("Summary: sync job pushed %d snapshots of %d groups, %d chunks with %d bytes; %d snapshots there were removed", r.Snapshots, r.Groups, r.Chunks, r.Bytes, r.Removed)
	}
	if r.Failed > 0 {
		return r, fmt.Errorf("sync failed with some errors: %d", r.Failed)
	}
	return r, nil
}

func (p *push) fail(format string, args ...any) {
	p.mu.Lock()
	p.report.Failed++
	p.mu.Unlock()
	p.Warnf(format, args...)
}

// version refuses servers from before there were namespaces.
func (p *push) version(ctx context.Context) error {
	v, err := p.Remote.Version(ctx)
	if err != nil {
		return err
	}
	major, minor, _ := strings.Cut(v.Version, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	if errA != nil || errB != nil || a < 2 || a == 2 && b < 2 {
		return &hinted{fmt.Errorf("%s has version %s, and nothing is pushed to one before 2.2", p.Remote, v), "upgrade it"}
	}
	return nil
}

// wanted lists the groups that the job is about, by name, and the namespaces there.
func (p *push) wanted(ctx context.Context) (by map[string]*group, err error) {
	j := p.Job
	depth := -1
	if j.MaxDepth != nil {
		depth = *j.MaxDepth
	}
	list, err := p.Local.List(ctx, catalog.ListOptions{Namespace: j.NS, Depth: depth, Filters: p.filters})
	if err != nil {
		return nil, err
	}
	by, p.here = map[string]*group{}, map[place]bool{}
	for _, i := range list {
		to, err := i.Namespace.Map(j.NS, j.RemoteNS)
		if err != nil {
			return nil, err
		}
		g := &group{Group: i.Snapshot().Group, from: i.Namespace, to: to, here: map[int64]bool{}}
		p.here[place{to, g.Group}] = true // also what the job may not read, or is not finished
		if p.May != nil && !p.May(g.from, g.Group, i.Owner) {
			continue
		}
		if known := by[g.String()]; known != nil {
			g = known
		}
		g.here[i.Time] = true
		if i.Finished() {
			by[g.String()] = g
			if p.wants(i) {
				g.all = append(g.all, i)
			}
		}
	}
	has, err := p.Remote.Namespaces(ctx, "", -1)
	if err != nil {
		return nil, err
	}
	p.known = map[naming.Namespace]bool{"": true}
	for _, ns := range has {
		p.known[ns] = true
	}
	return by, nil
}

// wants tells whether the job is about a snapshot.
func (p *push) wants(i listing.Info) bool {
	if settings.Is(p.Job.VerifiedOnly) && (i.Verification == nil || i.Verification.State != "ok") {
		return false
	}
	return !settings.Is(p.Job.EncryptedOnly) || encrypted(i)
}

// encrypted tells whether all that a snapshot has is encrypted.
func encrypted(i listing.Info) (all bool) {
	for _, f := range i.Files {
		if f.Name == manifest.Name || f.Name == manifest.LogName {
			continue
		}
		if all = f.CryptMode == manifest.Encrypt; !all {
			return false
		}
	}
	return all
}

// missing returns the namespaces that are not there, each behind the one that it is in.
func (p *push) missing(by map[string]*group) (all []naming.Namespace) {
	for _, g := range by {
		for ns := g.to; !p.known[ns]; {
			if !slices.Contains(all, ns) {
				all = append(all, ns)
			}
			ns, _ = ns.Parent()
		}
	}
	slices.Sort(all)
	return all
}

func (p *push) makeNamespaces(ctx context.Context, by map[string]*group) error {
	for _, ns := range p.missing(by) {
		if err := p.Remote.CreateNamespace(ctx, ns); err != nil {
			return err
		}
		p.known[ns] = true
		p.Printf("created namespace '%s'", ns)
	}
	return nil
}

// compare finds out what of each group is to be pushed. Groups that belong to
// somebody else are left out.
func (p *push) compare(ctx context.Context, by map[string]*group) (groups []*group, err error) {
	owners := map[naming.Namespace]map[naming.Group]string{}
	for _, g := range by {
		if owners[g.to] == nil {
			owners[g.to] = map[naming.Group]string{}
			there := []client.Group{}
			if p.known[g.to] {
				if there, err = p.Remote.Groups(ctx, g.to); err != nil {
					return nil, err
				}
			}
			for _, t := range there {
				owners[g.to][t.Group()] = t.Owner
			}
		}
		owner, is := owners[g.to][g.Group]
		if is && owner != p.User {
			p.Warnf("group %s is left out: there it belongs to %s, and not to %s", g, owner, p.User)
			continue
		}
		if is {
			if g.there, err = p.Remote.Snapshots(ctx, g.to, g.Group); err != nil {
				return nil, err
			}
		}
		g.choose(p.Job.TransferLast)
		p.total += len(g.fresh)
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *group) int { return cmp.Compare(a.String(), b.String()) })
	p.report.Groups = len(groups)
	p.Printf("found %d groups to sync, %d snapshots to push", len(groups), p.total)
	return groups, nil
}

// choose sets what is to be pushed: what is newer than the newest there, of the
// newest last.
func (g *group) choose(last int) {
	byTime := func(a, b listing.Info) int { return cmp.Compare(a.Time, b.Time) }
	slices.SortFunc(g.all, byTime)
	slices.SortFunc(g.there, byTime)
	g.fresh = g.all
	if last > 0 && len(g.fresh) > last {
		g.fresh = g.fresh[len(g.fresh)-last:]
	}
	if n := len(g.there); n > 0 {
		newest := g.there[n-1].Time
		g.fresh = g.fresh[slices.IndexFunc(append(slices.Clone(g.fresh), listing.Info{Time: newest + 1}), func(i listing.Info) bool { return i.Time > newest }):]
	}
}

// group pushes what is new of a group, and removes what is not here any more.
func (p *push) group(ctx context.Context, g *group) error {
	if skipped := len(g.all) - len(g.fresh); skipped > 0 {
		p.Printf("%s: %d snapshots are older than the newest there, or not among the newest", g, skipped)
	}
	g.names.of = map[chunks.Digest]chunks.Digest{}
	for _, i := range g.fresh {
		pushed, err := p.snapshot(ctx, g, i.Snapshot())
		if err != nil {
			return fmt.Errorf("push %s: %w", i.Snapshot(), err)
		}
		p.mu.Lock()
		if pushed {
			p.report.Snapshots++
		}
		p.done++
		done := p.done
		p.mu.Unlock()
		if p.Progress != nil {
			p.Progress(done, p.total, fmt.Sprintf("%d/%d snapshots", done, p.total))
		}
	}
	if !settings.Is(p.Job.RemoveVanished) {
		return nil
	}
	return p.removeSnapshots(ctx, g)
}

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is printed on its own line below the error.
func (e *hinted) Hint() string { return e.cure }

var errEmpty = errors.New("there is nothing here that the job is about, and so nothing there is removed: is the datastore the right one?")
