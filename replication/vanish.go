package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/vanish"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// A Prune is what a source says of a snapshot that it has no more.
type Prune struct {
	At  time.Time // when it was pruned there
	Why string    // the policy, or who
}

// vanish weighs what the source has no more. Absence alone is never an order;
// see package vanish. What is removed goes to the trash.
func (r *run) vanish(ctx context.Context) error {
	if !r.job.RemoveVanished {
		return nil
	}
	all := append(append([]plan.GroupPlan(nil), r.plan.Groups...), r.plan.Vanished...)
	b := &vanish.Breaker{Rules: r.job.Vanish}
	var absent []string
	for _, g := range all {
		list, err := r.cfg.Local.Snapshots(ctx, g.To, g.Group)
		if err != nil {
			return err
		}
		b.Total += len(list)
		for _, s := range g.Gone {
			absent = append(absent, r.at(g, s).String())
		}
	}
	memory, err := vanish.Open(r.cfg.Local.FS, path.Join(r.cfg.Local.Dir, "vanished", url.PathEscape(r.job.ID)+".json"))
	if err == nil {
		err = memory.Pass(r.cfg.Now(), absent)
	}
	if err != nil {
		return fmt.Errorf("note what vanished: %w", err)
	}
	out := &lines{to: r.cfg.Printf}
	for _, g := range all {
		floor, err := r.floor(ctx, g)
		if err != nil {
			return err
		}
		for _, s := range g.Gone {
			at := r.at(g, s)
			why := r.stays(ctx, g, s, memory.Rows[at.String()], floor[s.Time])
			if why == "" {
				why = b.Trips(groupName(g))
			}
			if why == "" {
				why = r.forget(ctx, at, out)
			}
			if why == "" {
				b.Gone(groupName(g))
				r.count(&r.report.Removed)
				out.printf("delete vanished snapshot %s", at)
			} else {
				r.count(&r.report.Kept)
				out.printf("vanished snapshot %s is kept: %s", at, why)
			}
		}
	}
	for _, ns := range r.plan.VanishedNamespaces {
		out.printf("namespace '%s' vanished from the source; it stays until somebody removes it here", ns)
	}
	return nil
}

// at is a snapshot as it is called here.
func (r *run) at(g plan.GroupPlan, s plan.Snapshot) wire.Snapshot {
	return wire.Snapshot{Namespace: g.To, Snapshot: naming.Snapshot{Group: g.Group, Time: s.Time}}
}

func groupName(g plan.GroupPlan) string { return path.Join(string(g.To), g.Group.String()) }

// floor returns which snapshots of a group the retention of this site keeps,
// and by which rule.
func (r *run) floor(ctx context.Context, g plan.GroupPlan) (map[int64]string, error) {
	if r.job.Floor.IsZero() || len(g.Gone) == 0 {
		return nil, nil
	}
	list, err := r.cfg.Local.Snapshots(ctx, g.To, g.Group)
	if err != nil {
		return nil, err
	}
	var backups []retention.Backup
	for _, s := range list {
		_, err := r.cfg.Local.Manifest(g.To, s)
		backups = append(backups, retention.Backup{Time: s.Time, Finished: err == nil})
	}
	kept := map[int64]string{}
	for _, d := range retention.Plan(backups, r.job.Floor, nil) {
		if d.Keep() {
			kept[d.Time] = cmp.Or(d.Rule, string(d.Mark))
		}
	}
	return kept, nil
}

// stays says why a vanished snapshot stays, "" if it may go.
func (r *run) stays(ctx context.Context, g plan.GroupPlan, s plan.Snapshot, a vanish.Absent, floor string) string {
	at := r.at(g, s)
	if s.Protected {
		return "it is protected"
	}
	if floor != "" {
		return "the retention of this site keeps it: " + floor
	}
	switch {
	case r.cfg.Pruned != nil:
		from, err := g.To.Map(r.job.To, r.job.From) // a group that vanished has no namespace there any more
		if err != nil {
			return err.Error()
		}
		p, err := r.cfg.Pruned(ctx, wire.Snapshot{Namespace: from, Snapshot: at.Snapshot})
		switch {
		case err != nil:
			return "it is not known whether its source pruned it: " + err.Error()
		case p == nil:
			return "its source has not signed that it pruned it"
		}
		return r.job.Vanish.Waits(a)
	case r.cfg.Vanished != nil:
		if ok, why := r.cfg.Vanished(g.To, at.Snapshot); !ok {
			return cmp.Or(why, "it may not go")
		}
		return ""
	}
	return "nobody has signed that it was pruned"
}

// forget moves a snapshot to the trash. It returns why it did not.
func (r *run) forget(ctx context.Context, at wire.Snapshot, out *lines) string {
	err := r.cfg.Local.Forget(ctx, at.Namespace, at.Snapshot)
	if err == nil {
		return ""
	}
	if !errors.Is(err, catalog.ErrGuarded) && !errors.Is(err, catalog.ErrProtected) && !errors.Is(err, catalog.ErrBusy) {
		r.failed(out, "remove vanished snapshot %s: %v", at, err)
	}
	return err.Error()
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
