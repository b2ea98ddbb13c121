package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/replication/plan"
)

// A breaker limits what one pass may remove: whoever empties the source must
// not empty its copies. (Consensus notes §6.4.)
type breaker struct {
	total  int // snapshots here in the job's scope
	groups int // of which something was removed
	gone   int
}

// Limits of a breaker.
const (
	maxVanishedGroups = 5
	maxVanishedShare  = 10 // one in so many snapshots; never fewer than minVanished
	minVanished       = 3
)

func (b *breaker) allows() bool {
	return b.groups <= maxVanishedGroups && b.gone < max(b.total/maxVanishedShare, minVanished)
}

// vanish weighs what the source has no more. Absence alone is never an order;
// see Config.Vanished. What is removed goes to the trash.
func (r *run) vanish(ctx context.Context) error {
	if !r.job.RemoveVanished {
		return nil
	}
	b := breaker{}
	all := append(append([]plan.GroupPlan(nil), r.plan.Groups...), r.plan.Vanished...)
	for _, g := range all {
		list, err := r.cfg.Local.Snapshots(ctx, g.To, g.Group)
		if err != nil {
			return err
		}
		b.total += len(list)
	}
	out := &lines{to: r.cfg.Printf}
	for _, g := range all {
		b.groups++
		before := b.gone
		for _, s := range g.Gone {
			if err := r.vanishOne(ctx, g, s, &b, out); err != nil {
				return err
			}
		}
		if b.gone == before {
			b.groups--
		}
	}
	for _, ns := range r.plan.VanishedNamespaces {
		out.printf("namespace '%s' vanished from the source; it stays until somebody removes it here", ns)
	}
	return nil
}

func (r *run) vanishOne(ctx context.Context, g plan.GroupPlan, s plan.Snapshot, b *breaker, out *lines) error {
	snap := naming.Snapshot{Group: g.Group, Time: s.Time}
	keep := func(why string) error {
		r.count(&r.report.Kept)
		out.printf("vanished snapshot %s is kept: %s", snap, why)
		return nil
	}
	switch {
	case s.Protected:
		return keep("it is protected")
	case r.cfg.Vanished == nil:
		return keep("nobody has signed that it was pruned")
	case !b.allows():
		return keep("more vanished than one pass may remove; look at the source before you run the job again")
	}
	if ok, why := r.cfg.Vanished(g.To, snap); !ok {
		return keep(why)
	}
	err := r.cfg.Local.Forget(ctx, g.To, snap)
	switch {
	case errors.Is(err, catalog.ErrGuarded) || errors.Is(err, catalog.ErrProtected) || errors.Is(err, catalog.ErrBusy):
		return keep(err.Error())
	case err != nil:
		r.failed(out, "remove vanished snapshot %s: %v", snap, err)
		return nil
	}
	b.gone++
	r.count(&r.report.Removed)
	out.printf("delete vanished snapshot %s", snap)
	return nil
}

// summary prints the last lines of the log.
func (r *run) summary() {
	st := r.report.Swarm
	if r.report.Pulled+r.report.Renewed == 0 && st.Fetched == 0 {
		r.cfg.Printf("Summary: sync job found no new data to pull")
	} else {
		secs := max(r.report.Took.Seconds(), 0.001)
		r.cfg.Printf("Summary: sync job pulled %s in %d chunks, %d snapshots (average rate: %s/s)", size(st.Bytes), st.Fetched, r.report.Pulled, size(int64(float64(st.Bytes)/secs)))
	}
	if len(st.BySource) > 1 {
		for _, s := range st.BySource {
			r.cfg.Printf("  %s: %d chunks, %s", s.Name, s.Chunks, size(s.Bytes))
		}
	}
	for _, s := range st.BySource {
		if s.Bad > 0 {
			r.cfg.Printf("WARNING: %s sent %d chunks that were not what they had to be; they were refused", s.Name, s.Bad)
		}
	}
	for _, s := range st.BySource {
		if s.Doubts > 0 {
			r.cfg.Printf("WARNING: %s sent %d encrypted chunks that their origin has not signed; they were refused", s.Name, s.Doubts)
		}
	}
	if r.report.Unproven > 0 {
		r.cfg.Printf("%d encrypted chunks could be checked by their checksums only", r.report.Unproven)
	}
	if r.report.Removed+r.report.Kept > 0 {
		r.cfg.Printf("Summary: removed vanished: snapshots: %d, kept: %d", r.report.Removed, r.report.Kept)
	}
}

// size returns a number of bytes as people read it.
func size(n int64) string {
	f, unit := float64(n), 0
	for f >= 1024 && unit < len(units)-1 {
		f, unit = f/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.3f %s", f, units[unit])
}

var units = []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
