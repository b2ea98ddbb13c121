// Package rules has the endpoints about when jobs run, whatever their kind: what
// their rules say beyond a schedule, and why a job ran, or did not. They are below
// /holdfast, as all that is ours.
package rules

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Config says what the endpoints work on. Every field is required.
type Config struct {
	Settings  settings.Store
	Scheduler *jobs.Scheduler
	Follow    func(context.Context) error          // has the schedules follow the settings
	Claims    func(job string) ([]Claim, []string) // who had the slots of a shared job, and who comes next, by name
}

// A Claim is who had a slot of a job that nodes share.
type Claim struct {
	Slot  int64  `json:"slot"`
	Node  string `json:"node"`
	State string `json:"state"` // running, done, failed, lost
	Fence uint64 `json:"fence"`
	At    int64  `json:"at"` // of the last change
}

type api struct{ Config }

// Endpoints returns the endpoints.
func Endpoints(cfg Config) []rest.Endpoint {
	a := &api{cfg}
	const one = "/holdfast/jobs/{job}"
	return []rest.Endpoint{
		{Method: http.MethodGet, Path: one + "/why", Handle: a.why},
		{Method: http.MethodGet, Path: one + "/rule", Handle: a.rule},
		{Method: http.MethodPut, Path: one + "/rule", Handle: a.change},
	}
}

// find returns the job that is asked about, if the caller has one of the
// privileges where it works.
func (a *api) find(c *rest.Call, any access.Privilege) (job string, err error) {
	job = upgrade.Parsed(c.Params, "job", settings.ParseJob)
	if err := c.Err(); err != nil {
		return "", err
	}
	store, ns, is := a.Settings.State().Place(job)
	if !is {
		if err := c.Require(any, "datastore"); err != nil {
			return "", err
		}
		return "", upgrade.Errorf(http.StatusNotFound, "no such job '%s'", job)
	}
	return job, c.Require(any, "datastore", store, ns)
}

func (a *api) rule(_ context.Context, c *rest.Call) (any, error) {
	job, err := a.find(c, access.PrivDatastoreAudit)
	if err != nil {
		return nil, err
	}
	return a.Settings.State().Rule(job), nil
}

// set sets what came, and takes back what is to be deleted.
func set(p *upgrade.Params, r *settings.JobRule) {
	texts := map[string]*string{"catch-up": &r.CatchUp, "after": &r.After, "timezone": &r.TimeZone}
	flags := map[string]*bool{"stagger": &r.Stagger, "shared": &r.Shared}
	for _, name := range p.Texts("delete") {
		switch {
		case texts[name] != nil:
			*texts[name] = ""
		case flags[name] != nil:
			*flags[name] = false
		default:
			p.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
	}
	for name, to := range texts {
		if p.Has(name) {
			*to = p.Text(name)
		}
	}
	for name, to := range flags {
		if p.Has(name) {
			*to = p.Bool(name)
		}
	}
}

func (a *api) change(ctx context.Context, c *rest.Call) (any, error) {
	job, err := a.find(c, access.PrivDatastoreModify)
	if err != nil {
		return nil, err
	}
	r := a.Settings.State().Rule(job)
	set(c.Params, &r)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, upgrade.Errorf(http.StatusBadRequest, "%w", err)
	}
	err = a.Settings.Update(ctx, func(s *settings.State) error {
		if err := fits(s, r); err != nil {
			return upgrade.Errorf(http.StatusBadRequest, "%w", err)
		}
		s.JobRules = slices.DeleteFunc(s.JobRules, func(o settings.JobRule) bool { return o.Job == job })
		if r != (settings.JobRule{Job: job}) {
			s.JobRules = append(s.JobRules, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return nil, a.Follow(ctx)
}

// fits says what is wrong with a rule beside what else is set up.
func fits(s *settings.State, r settings.JobRule) error {
	if r.After == "" {
		return nil
	}
	for job, n := r.After, 0; job != ""; n++ {
		job, _ = settings.ParseJob(job) // was checked
		switch _, _, is := s.Place(job); {
		case !is:
			return upgrade.Errorf(http.StatusBadRequest, "after: no such job '%s'", job)
		case job == r.Job || n > len(s.JobRules):
			return upgrade.Errorf(http.StatusBadRequest, "after: %s comes after this job itself", job)
		}
		job = s.Rule(job).After
	}
	return nil
}

// A why is what is known of why a job runs, or does not.
type why struct {
	settings.JobRule
	Schedule string     `json:"schedule,omitempty"`
	Now      string     `json:"now"`
	Next     int64      `json:"next-run,omitempty"`
	Delay    int64      `json:"delay,omitempty"` // seconds after the times of the schedule
	Notes    []note     `json:"notes"`           // the newest last
	Claims   []Claim    `json:"claims,omitempty"`
	Order    []string   `json:"order,omitempty"` // of the nodes that share it
	Task     *jobs.UPID `json:"last-run-upid,omitempty"`
	State    string     `json:"last-run-state,omitempty"`
}

type note struct {
	At   int64      `json:"at"`
	Slot int64      `json:"slot,omitempty"`
	Text string     `json:"text"`
	Task *jobs.UPID `json:"upid,omitempty"`
}

func (a *api) why(_ context.Context, c *rest.Call) (any, error) {
	job, err := a.find(c, access.PrivDatastoreAudit)
	if err != nil {
		return nil, err
	}
	all, err := a.Scheduler.Why(settings.ScheduleOf(job))
	if err != nil {
		return nil, err
	}
	w := why{
		JobRule: a.Settings.State().Rule(job), Schedule: all.Event, Now: all.Now, Next: unix(all.Next),
		Delay: int64(all.Delay / time.Second), Notes: []note{}, Task: all.Last, State: all.State,
	}
	for _, n := range all.Notes {
		w.Notes = append(w.Notes, note{n.At.Unix(), unix(n.Slot), n.Text, n.Task})
	}
	if w.Shared {
		w.Claims, w.Order = a.Claims(job)
	}
	return w, nil
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
