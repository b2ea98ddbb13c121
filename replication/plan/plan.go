// Package plan decides what a pull has to do: which snapshots it fetches,
// which it leaves and why, and which have vanished at the source.
//
// It is pure: what both sides hold and what the job wants go in, a [Plan]
// comes out, and `holdfast job plan` prints just that. The rules are those of
// sync jobs of a Proxmox Backup Server (PBS protocol notes §6.3, §6.4, §6.6).
package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// Options are what a job wants. The zero value pulls everything into the root
// namespace and removes nothing.
type Options struct {
	From, To naming.Namespace // what lies below From at the source lands below To
	MaxDepth *int             // levels of namespaces below From; nil: all
	Filters  naming.Filters   // groups; none: all
	Owner    string           // of the groups here; required

	VerifiedOnly   bool // snapshots whose last verification was fine
	EncryptedOnly  bool // snapshots that are wholly encrypted
	ResyncCorrupt  bool // again what failed its verification here, whatever its age
	TransferLast   int  // of each group the newest so many; 0: all
	RemoveVanished bool
}

// Side is what one side holds, as far as the job may see it.
type Side struct {
	Namespaces []naming.Namespace // also the empty ones
	Groups     []Group
}

// A Group is a group on one side, with its finished snapshots.
type Group struct {
	Namespace naming.Namespace
	naming.Group
	Owner     string
	Snapshots []Snapshot // in any order
}

// A Snapshot is what a plan has to know of a snapshot.
type Snapshot struct {
	Time      int64
	Size      uint64 // bytes of its files as the manifest states them
	Verified  string // "ok", "failed", or "" if it never was
	Encrypted bool   // all of it
	Protected bool

	// Manifest is a sum of its manifest as it is now; zero: not known. Two that
	// are equal need not be compared.
	Manifest [16]byte
}

// Why a snapshot is fetched.
type Why string

// The reasons.
const (
	Fresh   Why = "new"
	Changed Why = "newest here: its manifest may have changed"
	Corrupt Why = "failed its verification here"
)

// A Fetch is a snapshot to be fetched.
type Fetch struct {
	Snapshot
	Why Why `json:"why"`
}

// A Skip is a snapshot that is left, and why.
type Skip struct {
	Time   int64  `json:"backup-time"`
	Reason string `json:"reason"`
}

// A GroupPlan is what becomes of a group of the source.
type GroupPlan struct {
	From  naming.Namespace `json:"from-ns"`
	To    naming.Namespace `json:"ns"`
	Group naming.Group     `json:"group"`
	Fetch []Fetch          `json:"fetch"` // oldest first
	Skip  []Skip           `json:"skip"`

	// Gone are snapshots here that the source has no more, oldest first.
	Gone []Snapshot `json:"gone,omitempty"`

	// Refused says why nothing can be done with the group.
	Refused string `json:"refused,omitempty"`
}

// A Plan is what a pull does.
type Plan struct {
	// Create are namespaces to be made here, parents first.
	Create []naming.Namespace `json:"create-namespaces"`

	// Groups of the source that the job wants, by namespace and group.
	Groups []GroupPlan `json:"groups"`
	Total  int         `json:"total-groups"` // also those that the filters leave out

	// Vanished groups are here, in the scope of the job, and not at the
	// source. VanishedNamespaces likewise, children first. Both only with
	// RemoveVanished.
	Vanished           []GroupPlan        `json:"vanished-groups,omitempty"`
	VanishedNamespaces []naming.Namespace `json:"vanished-namespaces,omitempty"`
}

// Snapshots returns how many snapshots will be looked at, and their bytes.
func (p *Plan) Snapshots() (n int, size uint64) {
	for _, g := range p.Groups {
		for _, f := range g.Fetch {
			n, size = n+1, size+f.Size
		}
	}
	return n, size
}

// New makes a plan. It fails if the source's namespaces do not fit below To;
// nothing has been transferred by then.
func New(source, local Side, opt Options) (*Plan, error) {
	p := &Plan{}
	here := map[naming.Namespace]bool{"": true}
	for _, ns := range local.Namespaces {
		here[ns] = true
	}
	mapped := map[naming.Namespace]naming.Namespace{} // by that of the source
	for _, ns := range inScope(source.Namespaces, opt) {
		to, err := ns.Map(opt.From, opt.To)
		if err != nil {
			return nil, fmt.Errorf("put namespace %q of the source under %q: %w", ns, opt.To, err)
		}
		mapped[ns] = to
		p.create(to, here)
	}
	groups := map[key]Group{}
	for _, g := range local.Groups {
		groups[key{g.Namespace, g.Group}] = g
	}
	for _, g := range sorted(source.Groups) {
		to, ok := mapped[g.Namespace]
		if !ok {
			continue
		}
		p.Total++
		if opt.Filters.Match(g.Group) {
			mine, have := groups[key{to, g.Group}]
			p.Groups = append(p.Groups, group(g, to, mine, have, opt))
		}
	}
	if opt.RemoveVanished {
		p.vanished(local, mapped, opt)
	}
	return p, nil
}

type key struct {
	ns    naming.Namespace
	group naming.Group
}

// inScope returns the namespaces that the job looks at, shortest first.
func inScope(all []naming.Namespace, opt Options) []naming.Namespace {
	var list []naming.Namespace
	for _, ns := range append([]naming.Namespace{opt.From}, all...) {
		if within(ns, opt.From, opt.MaxDepth) {
			list = append(list, ns)
		}
	}
	slices.SortFunc(list, byDepth)
	return slices.Compact(list)
}

func within(ns, anchor naming.Namespace, depth *int) bool {
	return anchor.Contains(ns) && (depth == nil || ns.Depth()-anchor.Depth() <= *depth)
}

func byDepth(a, b naming.Namespace) int {
	return cmp.Or(cmp.Compare(a.Depth(), b.Depth()), cmp.Compare(a, b))
}

// create notes that ns, and what is above it, has to be made.
func (p *Plan) create(ns naming.Namespace, here map[naming.Namespace]bool) {
	if here[ns] {
		return
	}
	if up, ok := ns.Parent(); ok {
		p.create(up, here)
	}
	here[ns] = true
	p.Create = append(p.Create, ns)
}

func sorted(groups []Group) []Group {
	groups = slices.Clone(groups)
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(byDepth(a.Namespace, b.Namespace), a.Group.Compare(b.Group))
	})
	return groups
}

// group plans one group that is there at the source.
func group(g Group, to naming.Namespace, mine Group, have bool, opt Options) GroupPlan {
	p := GroupPlan{From: g.Namespace, To: to, Group: g.Group}
	if have && mine.Owner != opt.Owner {
		p.Refused = fmt.Sprintf("it belongs to %s here, and the job to %s", mine.Owner, opt.Owner)
		return p
	}
	held := map[int64]Snapshot{}
	last := int64(0)
	for _, s := range mine.Snapshots {
		held[s.Time] = s
		last = max(last, s.Time)
	}
	list := slices.Clone(g.Snapshots)
	slices.SortFunc(list, func(a, b Snapshot) int { return cmp.Compare(a.Time, b.Time) })
	there := map[int64]bool{}
	list = slices.DeleteFunc(list, func(s Snapshot) bool {
		why := unwanted(s, opt)
		if why != "" {
			p.Skip = append(p.Skip, Skip{s.Time, why})
		} else {
			there[s.Time] = true
		}
		return why != ""
	})
	for i, s := range list {
		local, held := held[s.Time]
		why, skip := choose(s, local, held, last, opt.TransferLast > 0 && i < len(list)-opt.TransferLast, opt)
		if skip != "" {
			p.Skip = append(p.Skip, Skip{s.Time, skip})
		} else {
			p.Fetch = append(p.Fetch, Fetch{s, why})
		}
	}
	slices.SortFunc(p.Skip, func(a, b Skip) int { return cmp.Compare(a.Time, b.Time) })
	if opt.RemoveVanished {
		p.Gone = gone(mine.Snapshots, there)
	}
	return p
}

// unwanted says why a job that is choosy leaves a snapshot.
func unwanted(s Snapshot, opt Options) string {
	switch {
	case opt.VerifiedOnly && s.Verified != "ok":
		return "not verified at the source"
	case opt.EncryptedOnly && !s.Encrypted:
		return "not encrypted"
	}
	return ""
}

// choose decides about a snapshot that is wanted: why it is fetched, or else
// why not. early means that TransferLast leaves it out.
func choose(s, local Snapshot, held bool, last int64, early bool, opt Options) (why Why, skip string) {
	switch {
	case held && local.Verified == "failed" && opt.ResyncCorrupt:
		return Corrupt, ""
	case held && s.Time == last && s.Manifest != [16]byte{} && s.Manifest == local.Manifest:
		return "", "unchanged"
	case held && s.Time == last:
		return Changed, ""
	case held:
		return "", "already here"
	case s.Time < last:
		return "", "older than the newest one here"
	case early:
		return "", fmt.Sprintf("not among the newest %d", opt.TransferLast)
	}
	return Fresh, ""
}

func gone(mine []Snapshot, there map[int64]bool) []Snapshot {
	var list []Snapshot
	for _, s := range mine {
		if !there[s.Time] {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Snapshot) int { return cmp.Compare(a.Time, b.Time) })
	return list
}

// vanished finds groups and namespaces in the scope of the job that the source
// does not have. A group that the filters leave out, or that is somebody
// else's, is none of its business.
func (p *Plan) vanished(local Side, mapped map[naming.Namespace]naming.Namespace, opt Options) {
	targets := map[naming.Namespace]bool{}
	for _, to := range mapped {
		targets[to] = true
	}
	there := map[key]bool{}
	for _, g := range p.Groups {
		there[key{g.To, g.Group}] = true
	}
	for _, g := range sorted(local.Groups) {
		if within(g.Namespace, opt.To, opt.MaxDepth) && opt.Filters.Match(g.Group) && g.Owner == opt.Owner && !there[key{g.Namespace, g.Group}] {
			p.Vanished = append(p.Vanished, GroupPlan{To: g.Namespace, Group: g.Group, Gone: gone(g.Snapshots, nil)})
		}
	}
	for _, ns := range local.Namespaces {
		if ns != opt.To && ns != "" && within(ns, opt.To, opt.MaxDepth) && !targets[ns] {
			p.VanishedNamespaces = append(p.VanishedNamespaces, ns)
		}
	}
	slices.SortFunc(p.VanishedNamespaces, func(a, b naming.Namespace) int { return byDepth(b, a) })
}
