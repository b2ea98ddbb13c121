// Package meter sets what work asked of a bucket beside what it was to ask.
package meter

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/catalog/tier/sample"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/logs"
)

// A Run is work on a bucket that goes on.
type Run struct {
	task  *jobs.Task
	tier  *tier.Tier
	meter *bucket.Meter
	run   usage.Run
	keep  func(usage.Run)
}

// Begin returns a context whose requests are counted until End, which hands the run
// to keep.
func Begin(ctx context.Context, t *jobs.Task, ti *tier.Tier, store string, keep func(usage.Run)) (context.Context, *Run) {
	ctx, m := bucket.Metered(Notify(ctx, t))
	t.Watch(m.Moved)
	run := usage.Run{Task: t.UPID().String(), Type: t.UPID().Type, Store: store, Began: time.Now().UTC()}
	return ctx, &Run{task: t, tier: ti, meter: m, run: run, keep: keep}
}

// Notify has the log of a task say that the store does not answer, while it waits.
func Notify(ctx context.Context, t *jobs.Task) context.Context {
	return bucket.Notify(ctx, func(text string) { t.Logf("%s", text) })
}

// Says notes what the work is going to take. That this is not known is no reason not
// to work.
func (r *Run) Says(u prices.Use, err error) {
	if err != nil {
		r.task.Logf("what it will take is not known: %v", err)
		return
	}
	r.run.Forecast = &u
	text := ""
	if once, _ := r.tier.Estimate(u, 0, 0); once != nil {
		text = "; by the prices of " + once.Provider + " of " + once.Date + " " + once.Text
	}
	r.task.Logf("it will take %s, %s to be read and %s to be written%s", Requests(u.Requests), logs.Human(u.In), logs.Human(u.Out), text)
}

// End writes down what the work took, for people into the log of the task and as its
// figures, and has the run kept.
func (r *Run) End(err error) {
	r.run.Made.Requests = r.meter.Requests()
	r.run.Made.In, r.run.Made.Out = r.meter.Bytes()
	r.run.Ended, r.run.Failed = time.Now().UTC(), err != nil
	r.count("", r.run.Made)
	if r.run.Forecast != nil {
		r.count("forecast-", *r.run.Forecast)
	}
	r.task.Logf("requests to the store: %s", r.beside())
	r.keep(r.run)
}

func (r *Run) count(prefix string, u prices.Use) {
	for class, n := range u.Requests {
		r.task.Count(prefix+class+"-requests", n)
	}
	r.task.Count(prefix+"read-bytes", u.In)
	r.task.Count(prefix+"written-bytes", u.Out)
}

// beside is "3 put (forecast 3), …", or what was made alone.
func (r *Run) beside() string {
	made := r.run.Made
	if r.run.Forecast == nil {
		return Requests(made.Requests)
	}
	said, classes := *r.run.Forecast, maps.Clone(made.Requests)
	for class := range said.Requests {
		classes[class] += 0
	}
	if len(classes) == 0 {
		return "none, as forecast"
	}
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		parts = append(parts, fmt.Sprintf("%d %s (forecast %d)", made.Requests[class], class, said.Requests[class]))
	}
	add := func(what, fact, forecast string) {
		parts = append(parts, fmt.Sprintf("%s %s (forecast %s)", fact, what, forecast))
	}
	add("read", logs.Human(made.In), logs.Human(said.In))
	add("written", logs.Human(made.Out), logs.Human(said.Out))
	before, _ := r.tier.Estimate(said, 0, 0)
	if after, _ := r.tier.Estimate(made, 0, 0); before != nil && after != nil {
		add("paid", after.Text, before.Text)
	}
	return strings.Join(parts, ", ")
}

// Requests writes requests for people: "3 get, 7 put".
func Requests(made map[string]int64) string {
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(made)) {
		parts = append(parts, fmt.Sprintf("%d %s", made[class], class))
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

// Sample chooses what a verification job that reads a little is going to read, and
// says what that takes.
func Sample(ctx context.Context, ti *tier.Tier, j settings.VerifyJob, depth int) (sample.Choice, prices.Use, error) {
	c, err := sample.Choose(ctx, ti.Datastore(), sample.Options{
		Namespace: j.NS, Depth: depth, Stretches: j.Sample, MaxBytes: j.MaxBytes, Cost: ti.Cost,
	})
	return c, prices.Use{Requests: map[string]int64{"get": c.Requests}, In: c.Bytes}, err
}

// Verify says what it takes to read what a verification would.
func Verify(ctx context.Context, ti *tier.Tier, d *catalog.Datastore, opt verify.Options) (prices.Use, error) {
	plan, err := verify.Plan(ctx, d, opt)
	if err != nil {
		return prices.Use{}, err
	}
	return ti.ForecastRead(ctx, func(yield func(catalog.Namespace, catalog.Snapshot) bool) {
		for _, p := range plan {
			if !p.Skip && !yield(p.Namespace, p.Snapshot) {
				return
			}
		}
	})
}
