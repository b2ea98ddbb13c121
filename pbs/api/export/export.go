// Package export has the endpoints about export jobs, which write snapshots to a
// directory in forms that need no Holdfast to be read: /config/export and
// /admin/export, in the manner of prune jobs. All of it is ours.
//
// Who sees a job may look at the datastore. Who makes, changes or runs one needs
// Datastore.Read there, and Sys.Modify on /system, since it writes on this machine.
package export

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A Runner runs jobs.
type Runner interface {
	Sync(ctx context.Context) error // makes schedules follow the settings
	Start(id, auth string) (jobs.UPID, error)
	Schedule(id string) (jobs.ScheduleStatus, error)

	// Claim marks the directory of a job as the one that is meant. It fails if
	// there is none.
	Claim(j settings.ExportJob) error
}

// Config says what the endpoints work on. Both fields are required.
type Config struct {
	Settings settings.Store
	Runner   Runner
}

type api struct{ Config }

// Endpoints returns the endpoints.
func Endpoints(cfg Config) []rest.Endpoint {
	a := &api{cfg}
	get, post, put, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	return []rest.Endpoint{
		{Method: get, Path: "/config/export", Handle: a.list},
		{Method: post, Path: "/config/export", Handle: a.add},
		{Method: get, Path: "/config/export/{id}", Handle: a.show},
		{Method: put, Path: "/config/export/{id}", Handle: a.change},
		{Method: del, Path: "/config/export/{id}", Handle: a.remove},
		{Method: get, Path: "/admin/export", Handle: a.status},
		{Method: post, Path: "/admin/export/{id}/run", Handle: a.run},
	}
}

func sees(c *rest.Call, j settings.ExportJob) bool {
	return c.May(access.PrivDatastoreAudit, "datastore", j.Store, string(j.NS))
}

// require fails if the caller may not run such a job, which writes anywhere on this
// machine what was in the datastore, and in the clear.
func require(c *rest.Call, j settings.ExportJob) error {
	if err := c.Require(access.PrivDatastoreRead, "datastore", j.Store, string(j.NS)); err != nil {
		return err
	}
	for _, name := range j.Keys {
		if err := c.Require(access.PrivSysModify, "system", "encryption-keys", name); err != nil {
			return err
		}
	}
	return c.Require(access.PrivSysModify, "system")
}

func withDigest(data any, all []settings.ExportJob) rest.Answer {
	return rest.Answer{Data: data, Beside: map[string]any{"digest": settings.Digest(all)}}
}

func noSuch(id string) error {
	return upgrade.Errorf(http.StatusBadRequest, "no such export job '%s'", id)
}

func jobID(c *rest.Call) string { return upgrade.Parsed(c.Params, "id", upgrade.ParseStore) }

// visible returns the jobs that the caller may look at, of one datastore if that
// is asked for.
func (a *api) visible(c *rest.Call) (list, all []settings.ExportJob) {
	all, list = a.Settings.State().ExportJobs, []settings.ExportJob{}
	for _, j := range all {
		if sees(c, j) && (!c.Has("store") || c.Text("store") == j.Store) {
			list = append(list, j)
		}
	}
	return list, all
}

func (a *api) list(_ context.Context, c *rest.Call) (any, error) {
	list, all := a.visible(c)
	return withDigest(list, all), c.Err()
}

// A status is a job with its runs.
type status struct {
	settings.ExportJob
	Next    int64      `json:"next-run,omitempty"`
	LastUID *jobs.UPID `json:"last-run-upid,omitempty"`
	LastEnd int64      `json:"last-run-endtime,omitempty"`
	Last    string     `json:"last-run-state,omitempty"`
}

func (a *api) status(_ context.Context, c *rest.Call) (any, error) {
	visible, all := a.visible(c)
	list := []status{}
	for _, j := range visible {
		s := status{ExportJob: j}
		if runs, err := a.Runner.Schedule(j.ID); err == nil { // else it has just been made
			if !runs.Next.IsZero() {
				s.Next = runs.Next.Unix()
			}
			s.LastUID = runs.Last
			if runs.Last != nil && !runs.End.IsZero() {
				s.LastEnd, s.Last = runs.End.Unix(), runs.State
			}
		}
		list = append(list, s)
	}
	return withDigest(list, all), c.Err()
}

// find returns a job that the caller may look at, or run.
func (a *api) find(c *rest.Call, toRun bool) (settings.ExportJob, error) {
	id := jobID(c)
	if err := c.Err(); err != nil {
		return settings.ExportJob{}, err
	}
	j, is := a.Settings.State().ExportJob(id)
	switch {
	case !is:
		return j, noSuch(id)
	case toRun:
		return j, require(c, j)
	case !sees(c, j):
		return j, upgrade.Errorf(http.StatusForbidden, "permission check failed")
	}
	return j, nil
}

func (a *api) show(_ context.Context, c *rest.Call) (any, error) {
	j, err := a.find(c, false)
	if err != nil {
		return nil, err
	}
	return withDigest(j, a.Settings.State().ExportJobs), nil
}

func (a *api) run(_ context.Context, c *rest.Call) (any, error) {
	j, err := a.find(c, true)
	if err != nil {
		return nil, err
	}
	u, err := a.Runner.Start(j.ID, string(c.Who))
	return u, err
}

func (a *api) add(ctx context.Context, c *rest.Call) (any, error) {
	j := settings.ExportJob{ID: jobID(c)}
	c.Text("store") // is required, as the next
	c.Text("path")
	set(c.Params, &j)
	if err := check(c, j); err != nil {
		return nil, err
	}
	if err := a.claim(j); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, func(s *settings.State) error {
		if _, is := s.ExportJob(j.ID); is {
			return upgrade.Errorf(http.StatusBadRequest, "parameter verification failed - 'id': job '%s' already exists.", j.ID)
		}
		s.ExportJobs = append(s.ExportJobs, j)
		return a.fits(s, j)
	})
}

// check fails if parameters are wrong or do not fit together, or if the caller may
// not run such a job.
func check(c *rest.Call, j settings.ExportJob) error {
	if err := c.Err(); err != nil {
		return err
	}
	if err := j.Check(); err != nil {
		return upgrade.Errorf(http.StatusBadRequest, "%w", err)
	}
	return require(c, j)
}

// fits fails if the datastore or the directory of a job are not there.
func (a *api) fits(s *settings.State, j settings.ExportJob) error {
	if _, is := s.Datastore(j.Store); !is {
		return upgrade.Errorf(http.StatusBadRequest, "no such datastore '%s'", j.Store)
	}
	return nil
}

// claim marks the directory of a job as the one that is meant: a directory that
// something else is mounted on, or nothing any more, has no such mark.
func (a *api) claim(j settings.ExportJob) error {
	if err := a.Runner.Claim(j); err != nil {
		return upgrade.Errorf(http.StatusBadRequest, "%w", err)
	}
	return nil
}

func (a *api) change(ctx context.Context, c *rest.Call) (any, error) {
	digest := optional(c.Params, "digest")
	j, err := a.find(c, true)
	if err != nil {
		return nil, err
	}
	set(c.Params, &j)
	if err := check(c, j); err != nil { // what it is to be
		return nil, err
	}
	if c.Has("path") {
		if err := a.claim(j); err != nil {
			return nil, err
		}
	}
	return nil, a.update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.ExportJobs, strings.ToLower(digest)); err != nil {
			return err
		}
		i := slices.IndexFunc(s.ExportJobs, func(o settings.ExportJob) bool { return o.ID == j.ID })
		if i < 0 {
			return noSuch(j.ID)
		}
		s.ExportJobs[i] = j
		return a.fits(s, j)
	})
}

func (a *api) remove(ctx context.Context, c *rest.Call) (any, error) {
	digest := optional(c.Params, "digest")
	j, err := a.find(c, true)
	if err != nil {
		return nil, err
	}
	return nil, a.update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.ExportJobs, strings.ToLower(digest)); err != nil {
			return err
		}
		s.ExportJobs = slices.DeleteFunc(s.ExportJobs, func(o settings.ExportJob) bool { return o.ID == j.ID })
		return nil
	})
}

// update changes the settings, and makes the schedules follow.
func (a *api) update(ctx context.Context, change func(*settings.State) error) error {
	if err := a.Settings.Update(ctx, change); err != nil {
		return err
	}
	return a.Runner.Sync(ctx)
}

func optional(p *upgrade.Params, name string) string {
	if !p.Has(name) {
		return ""
	}
	return p.Text(name)
}

// set sets the options that came, and takes back those that are to be deleted.
func set(p *upgrade.Params, j *settings.ExportJob) {
	for _, name := range p.Texts("delete") {
		if !reset(j, name) {
			p.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
	}
	if p.Has("store") {
		j.Store = p.Store()
	}
	for name, to := range keeps(j) {
		if p.Has(name) {
			*to = int(p.Int(name, 0, math.MaxInt32))
		}
	}
	if p.Has("associated-key") {
		j.Keys = slices.DeleteFunc(slices.Clone(p.Texts("associated-key")), func(t string) bool { return t == "" })
	}
	if p.Has("ns") {
		j.NS = p.Namespace()
	}
	if p.Has("max-depth") {
		j.MaxDepth = upgrade.Maybe(p, "max-depth", func(name string) int { return int(p.Int(name, 0, naming.MaxDepth)) })
	}
	if p.Has("group-filter") {
		j.GroupFilter = slices.DeleteFunc(slices.Clone(p.Texts("group-filter")), func(t string) bool { return t == "" })
	}
	for name, to := range map[string]*bool{"disable": &j.Disable} {
		if p.Has(name) {
			*to = p.Bool(name)
		}
	}
	if p.Has("path") {
		j.Path = p.Text("path")
	}
	for name, read := range parsers {
		if p.Has(name) {
			*texts(j)[name] = upgrade.Parsed(p, name, read)
		}
	}
}

// texts are the options that are text.
func texts(j *settings.ExportJob) map[string]*string {
	return map[string]*string{"schedule": &j.Schedule, "comment": &j.Comment}
}

// keeps are the rules of what stays in the directory.
func keeps(j *settings.ExportJob) map[string]*int {
	return map[string]*int{
		"keep-last": &j.Last, "keep-hourly": &j.Hourly, "keep-daily": &j.Daily, "keep-weekly": &j.Weekly, "keep-monthly": &j.Monthly, "keep-yearly": &j.Yearly,
	}
}

var parsers = map[string]func(string) (string, error){
	"schedule": func(text string) (string, error) {
		if text == "" {
			return "", nil
		}
		_, err := jobs.ParseEvent(text)
		return text, err
	},
	"comment": func(text string) (string, error) {
		if len([]rune(text)) > 128 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "", upgrade.Errorf(http.StatusBadRequest, "want a line of at most 128 characters")
		}
		return text, nil
	},
}

// reset gives an option its default, and reports whether there is one of that name
// that has one.
func reset(j *settings.ExportJob, name string) bool {
	if text := texts(j)[name]; text != nil {
		*text = ""
		return true
	}
	if n := keeps(j)[name]; n != nil {
		*n = 0
		return true
	}
	switch name {
	case "ns":
		j.NS = ""
	case "associated-key":
		j.Keys = nil
	case "max-depth":
		j.MaxDepth = nil
	case "group-filter":
		j.GroupFilter = nil
	case "disable":
		j.Disable = false
	default:
		return false
	}
	return true
}
