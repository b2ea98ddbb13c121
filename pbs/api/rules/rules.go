// Package rules has the endpoints about when jobs run, whatever their kind: what
// their rules say beyond a schedule, and why a job ran, or did not. They are below
// /holdfast, as all that is ours.
package rules

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
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

	// Plan returns what a run of a job would do now, as it is shown.
	Plan func(ctx context.Context, job string) (any, error)

	// Calendar returns when the jobs of all nodes are due between two times, in order.
	Calendar func(from, until time.Time) []Slot
}

// A Slot is a time at which a job is due.
type Slot struct {
	At       int64    `json:"at"`
	Node     string   `json:"node"`
	Site     string   `json:"site"`
	Job      string   `json:"job"` // KIND:ID
	Store    string   `json:"store"`
	NS       string   `json:"ns,omitempty"`
	Flow     string   `json:"flow"`               // "home/main → dc/main:home"
	Took     int64    `json:"duration,omitempty"` // seconds, of the last run; 0: not known
	Shared   bool     `json:"shared,omitempty"`
	Overlaps []string `json:"overlaps,omitempty"` // NODE/KIND:ID, of those that work on the same datastore
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
		{Method: http.MethodGet, Path: one + "/history", Handle: a.history},
		{Method: http.MethodGet, Path: one + "/plan", Handle: a.plan},
		{Method: http.MethodGet, Path: "/holdfast/jobs", Handle: a.all},
		{Method: http.MethodGet, Path: "/holdfast/calendar", Handle: a.calendar},
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

// all lists the rules of jobs that have one.
func (a *api) all(_ context.Context, c *rest.Call) (any, error) {
	list := []settings.JobRule{}
	state := a.Settings.State()
	for _, r := range state.JobRules {
		if store, ns, is := state.Place(r.Job); is && c.May(access.PrivDatastoreAudit, "datastore", store, ns) {
			list = append(list, r)
		}
	}
	return list, nil
}

// set sets what came, and takes back what is to be deleted.
func set(p *upgrade.Params, r *settings.JobRule) {
	texts := map[string]*string{"catch-up": &r.CatchUp, "after": &r.After, "timezone": &r.TimeZone, "overlap": &r.Overlap, "window-end": &r.WindowEnd}
	flags := map[string]*bool{"stagger": &r.Stagger, "shared": &r.Shared, "paused": &r.Paused}
	for _, name := range p.Texts("delete") {
		switch {
		case texts[name] != nil:
			*texts[name] = ""
		case flags[name] != nil:
			*flags[name] = false
		case name == "window":
			r.Window, r.WindowEnd = nil, ""
		case name == "weight":
			r.Weight = 0
		default:
			p.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
	}
	if p.Has("window") {
		r.Window = p.Texts("window")
	}
	if p.Has("weight") {
		r.Weight = int(p.Int("weight", 1, settings.MaxWeight))
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
		if !r.IsZero() {
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
	if r.Shared && !s.Floats(r.Job) {
		return errors.New("shared: only pushes, exports and what works on a bucket can be shared by nodes: anything else belongs to the node that has the datastore")
	}
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
	if more := a.startedBy(job); more != "" && strings.HasPrefix(w.Now, "it runs only when") {
		w.Now = more
	}
	if w.After != "" { // by its name as people know it
		w.Now = strings.ReplaceAll(w.Now, all.After, w.After)
	}
	for _, n := range all.Notes {
		w.Notes = append(w.Notes, note{n.At.Unix(), unix(n.Slot), n.Text, n.Task})
	}
	if w.Shared {
		w.Claims, w.Order = a.Claims(job)
	}
	return w, nil
}

// startedBy says what starts a job that has no time of its own, "" if that is nothing
// but somebody who asks for it.
func (a *api) startedBy(job string) string {
	kind, id, _ := strings.Cut(job, ":")
	j, is := a.Settings.State().SyncJob(id)
	switch {
	case kind != "sync" || !is || j.Disable:
		return ""
	case j.OnChange:
		return "it runs when something is new at its source"
	case settings.Is(j.RunOnMount):
		return "it runs when its datastore is mounted"
	}
	return ""
}

// A ran is a run that has ended.
type ran struct {
	Task  jobs.UPID        `json:"upid"`
	Start int64            `json:"starttime"`
	End   int64            `json:"endtime"`
	State string           `json:"status"`
	Stats map[string]int64 `json:"statistics,omitempty"` // by what was counted
}

// history returns the last runs of a job, the newest first, as tasks are listed.
func (a *api) history(_ context.Context, c *rest.Call) (any, error) {
	job, err := a.find(c, access.PrivDatastoreAudit)
	if err != nil {
		return nil, err
	}
	list := []ran{}
	for _, r := range slices.Backward(a.Scheduler.History(settings.ScheduleOf(job))) {
		list = append(list, ran{r.Task, r.Task.Time().Unix(), unix(r.End), r.State, r.Stats})
	}
	return list, nil
}

// plan returns what a run would do now. Nothing is changed.
func (a *api) plan(ctx context.Context, c *rest.Call) (any, error) {
	job, err := a.find(c, access.PrivDatastoreAudit)
	if err != nil {
		return nil, err
	}
	return a.Plan(ctx, job)
}

// calendar lists when jobs of all nodes are due, of datastores that the caller may look
// at: the ACL is that of the cluster.
func (a *api) calendar(_ context.Context, c *rest.Call) (any, error) {
	hours := int64(24)
	if c.Has("hours") {
		hours = c.Int("hours", 1, 24*31)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	now, list := time.Now(), []Slot{}
	for _, s := range a.Calendar(now, now.Add(time.Duration(hours)*time.Hour)) {
		if c.May(access.PrivDatastoreAudit, "datastore", s.Store, s.NS) {
			list = append(list, s)
		}
	}
	return list, nil
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
