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

// A Fate is what becomes of a snapshot that the source has no more.
type Fate struct {
	Snapshot wire.Snapshot
	Keep     string // why it stays; "": it goes to the trash
}

// Vanishing returns what a complete pass would do now about what the source has no
// more. Nothing is changed.
func (p *Puller) Vanishing(ctx context.Context, j Job, pl *plan.Plan) ([]Fate, error) {
	if !j.RemoveVanished {
		return nil, nil
	}
	r := &run{Puller: p, job: j, plan: pl}
	memory, err := r.memory()
	if err != nil {
		return nil, err
	}
	rows, _ := memory.After(p.cfg.Now(), r.absent())
	return r.fates(ctx, rows)
}

// vanish weighs what the source has no more. Absence alone is never an order;
// see package vanish. What is removed goes to the trash.
func (r *run) vanish(ctx context.Context) error {
	if !r.job.RemoveVanished {
		return nil
	}
	memory, err := r.memory()
	if err == nil {
		err = memory.Pass(r.cfg.Now(), r.absent())
	}
	if err != nil {
		return fmt.Errorf("note what vanished: %w", err)
	}
	out := &lines{to: r.cfg.Printf}
	fates, err := r.fates(ctx, memory.Rows)
	if err != nil {
		return err
	}
	for _, f := range fates {
		if f.Keep == "" {
			f.Keep = r.forget(ctx, f.Snapshot, out)
		}
		if f.Keep == "" {
			r.count(&r.report.Removed)
			out.printf("delete vanished snapshot %s", f.Snapshot)
		} else {
			r.count(&r.report.Kept)
			out.printf("vanished snapshot %s is kept: %s", f.Snapshot, f.Keep)
		}
	}
	for _, g := range r.plan.Vanished {
		list, err := r.cfg.Local.Snapshots(ctx, g.To, g.Group)
		if err != nil || len(list) > 0 {
			continue
		}
		if _, err := r.cfg.Local.ForgetGroup(ctx, g.To, g.Group); err == nil { // else somebody begins a backup
			out.printf("delete vanished group %s, of which nothing is left", groupName(g))
		}
	}
	for _, ns := range r.plan.VanishedNamespaces { // children first
		why := r.nsStays(memory.Rows[nsRow(ns)], ns)
		if why == "" {
			if err := r.cfg.Local.RemoveNamespace(ctx, ns, false); err != nil { // it refuses one with snapshots
				why = err.Error()
			}
		}
		if why == "" {
			out.printf("delete vanished namespace '%s', in which nothing is left", ns)
		} else {
			out.printf("vanished namespace '%s' is kept: %s", ns, why)
		}
	}
	return nil
}

// nsStays says why a namespace stays that the source has no more. What is in it
// goes snapshot by snapshot, and by the rules; here is only asked what is left.
func (r *run) nsStays(a vanish.Absent, ns naming.Namespace) string {
	if r.job.MayMake != nil && !r.job.MayMake(ns) {
		return r.job.Owner + " may not remove it"
	}
	return r.rules().Waits(a)
}

// nsRow is the row of a namespace among those of snapshots.
func nsRow(ns naming.Namespace) string { return "namespace " + string(ns) }

// memory is what the passes before have found absent.
func (r *run) memory() (*vanish.Memory, error) {
	return vanish.Open(r.cfg.Local.FS, path.Join(r.cfg.Local.Dir, vanishedDir, url.PathEscape(r.job.ID)+memorySuf))
}

// touched are the groups in the scope of the job.
func (r *run) touched() []plan.GroupPlan {
	return append(append([]plan.GroupPlan(nil), r.plan.Groups...), r.plan.Vanished...)
}

func (r *run) absent() (names []string) {
	for _, g := range r.touched() {
		for _, s := range g.Gone {
			names = append(names, r.at(g, s).String())
		}
	}
	for _, ns := range r.plan.VanishedNamespaces {
		names = append(names, nsRow(ns))
	}
	return names
}

// rules are those of the job. A source that signs nothing has to be without a
// snapshot for longer.
func (r *run) rules() vanish.Rules {
	rules := r.job.Vanish
	if r.cfg.Unsigned {
		rules.Passes, rules.Over = cmp.Or(rules.Passes, unsignedPasses), cmp.Or(rules.Over, unsignedOver)
	}
	return rules
}

const (
	unsignedPasses = 5
	unsignedOver   = 7 * 24 * time.Hour
)

// fates decides about all that vanished, given for how long it was absent.
func (r *run) fates(ctx context.Context, rows map[string]vanish.Absent) (all []Fate, err error) {
	b := &vanish.Breaker{Rules: r.rules()}
	for _, g := range r.touched() {
		list, err := r.cfg.Local.Snapshots(ctx, g.To, g.Group)
		if err != nil {
			return nil, err
		}
		b.Total += len(list)
	}
	for _, g := range r.touched() {
		floor, err := r.floor(ctx, g)
		if err != nil {
			return nil, err
		}
		for _, s := range g.Gone {
			at := r.at(g, s)
			why := r.stays(ctx, g, s, rows[at.String()], floor[s.Time])
			if why == "" {
				why = r.cfg.Local.Forbids(at.Namespace, at.Snapshot)
			}
			if why == "" {
				why = b.Trips(groupName(g))
			}
			if why == "" {
				b.Gone(groupName(g))
			}
			all = append(all, Fate{at, why})
		}
	}
	return all, nil
}

// at is a snapshot as it is called here.
func (r *run) at(g plan.GroupPlan, s plan.Snapshot) wire.Snapshot {
	return wire.Snapshot{Namespace: g.To, Snapshot: naming.Snapshot{Group: g.Group, Time: s.Time}}
}

func groupName(g plan.GroupPlan) string { return path.Join(string(g.To), g.Group.String()) }

// floor returns which snapshots of a group the retention of this site keeps,
// and by which rule.
func (r *run) floor(ctx context.Context, g plan.GroupPlan) (map[int64]string, error) {
	if r.job.Floor == nil || len(g.Gone) == 0 {
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
	for _, keep := range r.job.Floor(g.To) {
		for _, d := range retention.Plan(backups, keep, nil) {
			if d.Keep() {
				kept[d.Time] = cmp.Or(d.Rule, string(d.Mark))
			}
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
		return r.rules().Waits(a)
	case r.cfg.Unsigned:
		return r.rules().Waits(a)
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
