// Package plans says of a job of any kind what a run would do now, without doing it.
package plans

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/node/exports"
	"github.com/holdfast-mesh/holdfast/node/pushes"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/stores/meter"
)

// Config says what is planned. Every field is required.
type Config struct {
	Settings settings.Store
	Stores   *stores.Set
	Exports  *exports.Exports
	Pull     func(ctx context.Context, id string) (any, error) // their plans are of their own
	Offload  func(ctx context.Context, id string) (any, error)
	Push     func(ctx context.Context, j settings.SyncJob) ([]pushes.Step, error)
}

// A Step is something that a run would do.
type Step struct {
	Do    string `json:"do"`             // "push", "write", "verify", "remove", "keep", "skip", …
	What  string `json:"what,omitempty"` // which snapshot, namespace, file or pack
	Why   string `json:"why,omitempty"`
	Bytes int64  `json:"bytes,omitempty"`
}

// A Plan is what a run of a job would do.
type Plan struct {
	Job   string `json:"job"` // KIND:ID
	Steps []Step `json:"steps"`

	Bucket *prices.Use `json:"bucket,omitempty"` // what it would ask of the datastore's bucket; nil: it has none
	Cost   *tier.Bill  `json:"cost,omitempty"`   // of that; nil: the prices are not known
}

// ask notes what a run would ask of the bucket of a datastore, if it has one.
func (c Config) ask(store string, to *Plan, say func(*tier.Tier) (prices.Use, error)) error {
	ti, done, err := c.Stores.UseTier(store)
	if err != nil {
		return nil // it has none
	}
	defer done()
	u, err := say(ti)
	if err != nil {
		return err
	}
	to.Bucket = &u
	to.Cost, _ = ti.Estimate(u, 0, 0)
	return nil
}

// Of returns the plan of a job, KIND:ID. Nothing is changed.
func (c Config) Of(ctx context.Context, job string) (any, error) {
	kind, id, _ := strings.Cut(job, ":")
	p := Plan{Job: job, Steps: []Step{}}
	var err error
	switch kind {
	case "sync":
		j, is := c.Settings.State().SyncJob(id)
		if !is || !j.Pushes() {
			return c.Pull(ctx, id)
		}
		var steps []pushes.Step
		steps, err = c.Push(ctx, j)
		for _, s := range steps {
			p.Steps = append(p.Steps, Step(s))
		}
	case "offload":
		return c.Offload(ctx, id)
	case "export":
		var steps []exports.Step
		steps, err = c.Exports.Plan(ctx, id)
		for _, s := range steps {
			p.Steps = append(p.Steps, Step(s))
		}
	case "prune":
		err = c.prune(ctx, id, &p)
	case "verify":
		err = c.verify(ctx, id, &p)
	case "gc":
		err = c.collect(ctx, id, &p)
	default:
		err = fmt.Errorf("%s jobs have no plan", kind)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (c Config) prune(ctx context.Context, id string, to *Plan) error {
	all := c.Settings.State().PruneJobs
	i := slices.IndexFunc(all, func(j settings.PruneJob) bool { return j.ID == id })
	if i < 0 {
		return fmt.Errorf("no such prune job '%s'", id)
	}
	j := all[i]
	list, err := c.Stores.Prune(ctx, j.Store, "root@pam", stores.Prune{Namespace: j.NS, MaxDepth: j.MaxDepth, Keep: j.Keep, DryRun: true})
	for _, p := range list {
		s := Step{Do: "remove", What: place(p.Namespace, p.Snapshot()), Why: "no rule keeps it"}
		if p.Keep {
			s.Do, s.Why = "keep", p.Reason
		}
		to.Steps = append(to.Steps, s)
	}
	return err
}

func (c Config) verify(ctx context.Context, id string, to *Plan) error {
	all := c.Settings.State().VerifyJobs
	i := slices.IndexFunc(all, func(j settings.VerifyJob) bool { return j.ID == id })
	if i < 0 {
		return fmt.Errorf("no such verify job '%s'", id)
	}
	d, done, err := c.Stores.Use(all[i].Store, false)
	if err != nil {
		return err
	}
	defer done()
	list, err := verify.Plan(ctx, d, stores.VerifyOf(all[i]).Options())
	for _, p := range list {
		s := Step{"verify", place(p.Namespace, p.Snapshot), "", int64(p.Size)}
		if p.Skip {
			s.Do, s.Why, s.Bytes = "skip", "it was verified not long ago", 0
		}
		to.Steps = append(to.Steps, s)
	}
	if err != nil {
		return err
	}
	return c.ask(all[i].Store, to, func(ti *tier.Tier) (prices.Use, error) {
		if j := all[i]; j.Sample > 0 || j.MaxBytes > 0 {
			depth := naming.MaxDepth
			if j.MaxDepth != nil {
				depth = *j.MaxDepth
			}
			_, u, err := meter.Sample(ctx, ti, j, depth) // another choice than the run's
			return u, err
		}
		return meter.Verify(ctx, ti, d, stores.VerifyOf(all[i]).Options())
	})
}

func (c Config) collect(ctx context.Context, store string, to *Plan) error {
	d, done, err := c.Stores.Use(store, false)
	if err != nil {
		return err
	}
	defer done()
	r, err := d.Collect(ctx, gc.Options{DryRun: true})
	var given map[uint32]uint32
	if ti, done, err := c.Stores.UseTier(store); err == nil {
		given = ti.GivenUp()
		done()
	}
	for _, p := range r.Plan.Packs {
		to.Steps = append(to.Steps, Step{p.Method.String(), fmt.Sprintf("pack %d", p.Pack), dead(p, given[p.Pack]), p.DeadBytes})
	}
	if err != nil {
		return err
	}
	return c.ask(store, to, func(ti *tier.Tier) (prices.Use, error) { return ti.ForecastCollect(ctx, r.Plan) })
}

// dead says why chunks of a pack go, of which some were given up before: when they
// were moved to the bucket, or by a collection.
func dead(p gc.PackPlan, given uint32) string {
	given = min(given, p.Dead)
	var why []string
	if n := p.Dead - given; n > 0 || given == 0 {
		why = append(why, fmt.Sprintf("no snapshot names %d of its %d chunks", n, p.Live+p.Dead))
	}
	if given > 0 {
		why = append(why, fmt.Sprintf("%d of its %d chunks were moved to the bucket, or given up by a collection", given, p.Live+p.Dead))
	}
	return strings.Join(why, "; ")
}

// place names a snapshot.
func place(ns naming.Namespace, s naming.Snapshot) string {
	if ns == "" {
		return s.String()
	}
	return string(ns) + ":" + s.String()
}
