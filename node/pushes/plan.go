package pushes

import (
	"context"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/listing"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A Step is something that a run would do.
type Step struct {
	Do    string // "push", "remove", "make", "leave"
	What  string
	Why   string
	Bytes int64 // of the snapshot, as its manifest says; what is there already is not sent
}

// Plan returns what a run would do now. Nothing is changed.
func Plan(ctx context.Context, cfg Config) (steps []Step, err error) {
	leave := func(format string, args ...any) {
		steps = append(steps, Step{Do: "leave", Why: fmt.Sprintf(format, args...)})
	}
	cfg.Printf, cfg.Warnf = func(string, ...any) {}, leave
	p := &push{Config: cfg}
	if p.filters, err = cfg.Job.Filters(); err != nil {
		return nil, err
	}
	if err := p.version(ctx); err != nil {
		return nil, err
	}
	by, err := p.wanted(ctx)
	if err != nil {
		return nil, err
	}
	for _, ns := range p.missing(by) {
		steps = append(steps, Step{Do: "make", What: "namespace " + string(ns), Why: "it is not there"})
	}
	groups, err := p.compare(ctx, by)
	if err != nil {
		return nil, err
	}
	vanish := settings.Is(cfg.Job.RemoveVanished)
	for _, g := range groups {
		for _, i := range g.fresh {
			steps = append(steps, Step{"push", name(g.from, i), "it is newer than the newest there", size(i)})
		}
		if vanish {
			steps = append(steps, removals(g.to, g.vanished(), "it is not here any more")...)
		}
	}
	if vanish {
		all, spaces := p.vanish(ctx, groups)
		for _, g := range all {
			steps = append(steps, removals(g.ns, g.all, "its group is not here any more")...)
		}
		for _, ns := range spaces {
			steps = append(steps, Step{Do: "remove", What: "namespace " + string(ns), Why: "it is not here any more, and empty there then"})
		}
	}
	return steps, ctx.Err()
}

func removals(ns naming.Namespace, all []listing.Info, why string) (steps []Step) {
	for _, i := range all {
		steps = append(steps, Step{Do: "remove", What: name(ns, i), Why: why + "; there it goes"})
	}
	return steps
}

func name(ns naming.Namespace, i listing.Info) string {
	if ns == "" {
		return i.Snapshot().String()
	}
	return string(ns) + ":" + i.Snapshot().String()
}

// size is how large a snapshot is, as its manifest says.
func size(i listing.Info) int64 {
	if i.Size == nil {
		return 0
	}
	return int64(*i.Size)
}
