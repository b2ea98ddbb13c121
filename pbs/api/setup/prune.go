package setup

import (
	"context"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// runs is when a job ran, and will run.
type runs struct {
	Next    int64      `json:"next-run,omitempty"`
	LastUID *jobs.UPID `json:"last-run-upid,omitempty"`
	LastEnd int64      `json:"last-run-endtime,omitempty"`
	Last    string     `json:"last-run-state,omitempty"`
}

func runsOf(s jobs.ScheduleStatus, err error) (r runs) {
	if err != nil {
		return r // it has just been made
	}
	if !s.Next.IsZero() {
		r.Next = s.Next.Unix()
	}
	r.LastUID = s.Last
	if s.Last != nil && !s.End.IsZero() {
		r.LastEnd, r.Last = s.End.Unix(), s.State
	}
	return r
}

// jobMay tells whether the caller has one of the privileges where a job works.
func jobMay(c *rest.Call, any access.Privilege, store, ns string) bool {
	return c.May(any, "datastore", store, ns)
}

// seesPrune are the privileges with which a job is seen: the one to know what
// there is, or the one to change it.
const (
	seesPrune  = audit | modify
	seesVerify = audit | verify
)

func (a *api) pruneJobs(_ context.Context, c *rest.Call) (any, error) {
	all := a.Settings.State().PruneJobs
	list := []settings.PruneJob{}
	for _, j := range all {
		if jobMay(c, seesPrune, j.Store, string(j.NS)) {
			list = append(list, j)
		}
	}
	return withDigest(list, settings.Digest(all)), nil
}

// A pruneStatus is a job with its runs.
type pruneStatus struct {
	settings.PruneJob
	runs
}

func (a *api) pruneStatus(_ context.Context, c *rest.Call) (any, error) {
	all := a.Settings.State().PruneJobs
	list := []pruneStatus{}
	for _, j := range all {
		if jobMay(c, seesPrune, j.Store, string(j.NS)) && (!c.Has("store") || c.Text("store") == j.Store) {
			list = append(list, pruneStatus{j, runsOf(a.Stores.PruneSchedule(j.ID))})
		}
	}
	return withDigest(list, settings.Digest(all)), nil
}

// findPrune returns a job that the caller may see, or change.
func (a *api) findPrune(c *rest.Call, any access.Privilege) (settings.PruneJob, error) {
	id := jobID(c)
	if err := c.Err(); err != nil {
		return settings.PruneJob{}, err
	}
	all := a.Settings.State().PruneJobs
	i := slices.IndexFunc(all, func(j settings.PruneJob) bool { return j.ID == id })
	if i < 0 {
		return settings.PruneJob{}, noSuch("prune", id)
	}
	return all[i], c.Require(any, "datastore", all[i].Store, string(all[i].NS))
}

func (a *api) pruneJob(_ context.Context, c *rest.Call) (any, error) {
	j, err := a.findPrune(c, seesPrune)
	if err != nil {
		return nil, err
	}
	return withDigest(j, settings.Digest(a.Settings.State().PruneJobs)), nil
}

func (a *api) runPruneJob(_ context.Context, c *rest.Call) (any, error) {
	j, err := a.findPrune(c, modify)
	if err != nil {
		return nil, err
	}
	u, err := a.Stores.RunPruneJob(j.ID, string(c.Who))
	return u, err
}

// setPrune sets what came, and takes back what is to be deleted.
func setPrune(p *upgrade.Params, j *settings.PruneJob) {
	for _, name := range p.Texts("delete") {
		switch i := slices.Index(keepNames, name); {
		case i >= 0:
			*keepFields(j)[i] = 0
		case name == "comment":
			j.Comment = ""
		case name == "disable":
			j.Disable = false
		case name == "ns":
			j.NS = ""
		case name == "max-depth":
			j.MaxDepth = nil
		default:
			p.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
	}
	if p.Has("store") {
		j.Store = p.Store()
	}
	if p.Has("ns") {
		j.NS = p.Namespace()
	}
	if p.Has("max-depth") {
		j.MaxDepth = maxDepth(p)
	}
	if p.Has("schedule") {
		j.Schedule = event(p, "schedule")
	}
	if p.Has("comment") {
		j.Comment = comment(p, "comment")
	}
	if p.Has("disable") {
		j.Disable = p.Bool("disable")
	}
	setKeep(p, j)
}

func (a *api) addPruneJob(ctx context.Context, c *rest.Call) (any, error) {
	j := settings.PruneJob{ID: jobID(c)}
	c.Text("store") // is required, as the next
	c.Text("schedule")
	setPrune(c.Params, &j)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := c.Require(modify, "datastore", j.Store, string(j.NS)); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, func(s *settings.State) error {
		if _, ok := s.Datastore(j.Store); !ok {
			return noSuch("datastore", j.Store)
		}
		if slices.ContainsFunc(s.PruneJobs, func(o settings.PruneJob) bool { return o.ID == j.ID }) {
			return upgrade.Errorf(400, "parameter verification failed - 'id': job '%s' already exists.", j.ID)
		}
		s.PruneJobs = append(s.PruneJobs, j)
		return nil
	})
}

func (a *api) changePruneJob(ctx context.Context, c *rest.Call) (any, error) {
	digest := digestParam(c.Params)
	j, err := a.findPrune(c, modify)
	if err != nil {
		return nil, err
	}
	setPrune(c.Params, &j)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := c.Require(modify, "datastore", j.Store, string(j.NS)); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.PruneJobs, strings.ToLower(digest)); err != nil {
			return err
		}
		if _, ok := s.Datastore(j.Store); !ok {
			return noSuch("datastore", j.Store)
		}
		i := slices.IndexFunc(s.PruneJobs, func(o settings.PruneJob) bool { return o.ID == j.ID })
		if i < 0 {
			return noSuch("prune", j.ID)
		}
		s.PruneJobs[i] = j
		return nil
	})
}

func (a *api) removePruneJob(ctx context.Context, c *rest.Call) (any, error) {
	digest := digestParam(c.Params)
	j, err := a.findPrune(c, modify)
	if err != nil {
		return nil, err
	}
	return nil, a.update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.PruneJobs, strings.ToLower(digest)); err != nil {
			return err
		}
		s.PruneJobs = slices.DeleteFunc(s.PruneJobs, func(o settings.PruneJob) bool { return o.ID == j.ID })
		return nil
	})
}

// update changes the settings, and makes the schedules follow.
func (a *api) update(ctx context.Context, change func(*settings.State) error) error {
	if err := a.Settings.Update(ctx, change); err != nil {
		return err
	}
	return a.Stores.Sync(ctx)
}
