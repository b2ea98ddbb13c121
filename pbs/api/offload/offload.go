// Package offload has the endpoints about offload jobs, which copy snapshots of a
// datastore on a disk into one whose home is a bucket: /config/offload and
// /admin/offload, in the manner of sync jobs, and the plan of a job. All of it is
// ours.
//
// Who sees a job may look at both datastores. Who makes, changes or runs one needs
// Datastore.Read where the snapshots are and Datastore.Backup where they go;
// Datastore.Modify too if they are to be somebody else's.
package offload

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

	// Plan returns what a run would do now, as it is shown.
	Plan(ctx context.Context, id string) (any, error)
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
		{Method: get, Path: "/config/offload", Handle: a.list},
		{Method: post, Path: "/config/offload", Handle: a.add},
		{Method: get, Path: "/config/offload/{id}", Handle: a.show},
		{Method: put, Path: "/config/offload/{id}", Handle: a.change},
		{Method: del, Path: "/config/offload/{id}", Handle: a.remove},
		{Method: get, Path: "/admin/offload", Handle: a.status},
		{Method: post, Path: "/admin/offload/{id}/run", Handle: a.run},
		{Method: get, Path: "/holdfast/offload/{id}/plan", Handle: a.plan},
	}
}

func sees(c *rest.Call, j settings.OffloadJob) bool {
	return c.May(access.PrivDatastoreAudit, "datastore", j.Store, string(j.NS)) && c.May(access.PrivDatastoreAudit, "datastore", j.To, string(j.ToNS))
}

// require fails if the caller may not run such a job.
func require(c *rest.Call, j settings.OffloadJob) error {
	if err := c.Require(access.PrivDatastoreRead, "datastore", j.Store, string(j.NS)); err != nil {
		return err
	}
	if err := c.Require(access.PrivDatastoreBackup, "datastore", j.To, string(j.ToNS)); err != nil {
		return err
	}
	if access.AuthID(j.OwnerOrRoot()) == c.Who {
		return nil
	}
	return c.Require(access.PrivDatastoreModify, "datastore", j.To, string(j.ToNS))
}

func withDigest(data any, all []settings.OffloadJob) rest.Answer {
	return rest.Answer{Data: data, Beside: map[string]any{"digest": settings.Digest(all)}}
}

func noSuch(id string) error {
	return upgrade.Errorf(http.StatusBadRequest, "no such offload job '%s'", id)
}

func jobID(c *rest.Call) string { return upgrade.Parsed(c.Params, "id", upgrade.ParseStore) }

// visible returns the jobs that the caller may look at, of one datastore if that
// is asked for.
func (a *api) visible(c *rest.Call) (list, all []settings.OffloadJob) {
	all, list = a.Settings.State().OffloadJobs, []settings.OffloadJob{}
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
	settings.OffloadJob
	Next    int64      `json:"next-run,omitempty"`
	LastUID *jobs.UPID `json:"last-run-upid,omitempty"`
	LastEnd int64      `json:"last-run-endtime,omitempty"`
	Last    string     `json:"last-run-state,omitempty"`
}

func (a *api) status(_ context.Context, c *rest.Call) (any, error) {
	visible, all := a.visible(c)
	list := []status{}
	for _, j := range visible {
		s := status{OffloadJob: j}
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
func (a *api) find(c *rest.Call, toRun bool) (settings.OffloadJob, error) {
	id := jobID(c)
	if err := c.Err(); err != nil {
		return settings.OffloadJob{}, err
	}
	j, is := a.Settings.State().OffloadJob(id)
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
	return withDigest(j, a.Settings.State().OffloadJobs), nil
}

func (a *api) run(_ context.Context, c *rest.Call) (any, error) {
	j, err := a.find(c, true)
	if err != nil {
		return nil, err
	}
	u, err := a.Runner.Start(j.ID, string(c.Who))
	return u, err
}

func (a *api) plan(ctx context.Context, c *rest.Call) (any, error) {
	j, err := a.find(c, false)
	if err != nil {
		return nil, err
	}
	return a.Runner.Plan(ctx, j.ID)
}

func (a *api) add(ctx context.Context, c *rest.Call) (any, error) {
	j := settings.OffloadJob{ID: jobID(c)}
	c.Text("store") // is required, as the next
	c.Text("to")
	set(c.Params, &j)
	if err := check(c, j); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, func(s *settings.State) error {
		if _, is := s.OffloadJob(j.ID); is {
			return upgrade.Errorf(http.StatusBadRequest, "parameter verification failed - 'id': job '%s' already exists.", j.ID)
		}
		s.OffloadJobs = append(s.OffloadJobs, j)
		return fits(s, j)
	})
}

// check fails if parameters are wrong or do not fit together, or if the caller may
// not run such a job.
func check(c *rest.Call, j settings.OffloadJob) error {
	if err := c.Err(); err != nil {
		return err
	}
	if err := j.Check(); err != nil {
		return upgrade.Errorf(http.StatusBadRequest, "%w", err)
	}
	return require(c, j)
}

// fits fails if the datastores of a job are not what they have to be.
func fits(s *settings.State, j settings.OffloadJob) error {
	from, is := s.Datastore(j.Store)
	if !is {
		return upgrade.Errorf(http.StatusBadRequest, "no such datastore '%s'", j.Store)
	}
	to, is := s.Datastore(j.To)
	if !is {
		return upgrade.Errorf(http.StatusBadRequest, "no such datastore '%s'", j.To)
	}
	switch {
	case !from.Backend.IsZero():
		return upgrade.Errorf(http.StatusBadRequest, "datastore '%s' has a bucket: what is in it moves there by itself, and a sync job copies it elsewhere", j.Store)
	case to.Backend.IsZero():
		return upgrade.Errorf(http.StatusBadRequest, "datastore '%s' has no bucket: use a sync job", j.To)
	case to.Backend.ReadOnly:
		return upgrade.Errorf(http.StatusBadRequest, "datastore '%s' only reads its bucket", j.To)
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
	return nil, a.update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.OffloadJobs, strings.ToLower(digest)); err != nil {
			return err
		}
		i := slices.IndexFunc(s.OffloadJobs, func(o settings.OffloadJob) bool { return o.ID == j.ID })
		if i < 0 {
			return noSuch(j.ID)
		}
		s.OffloadJobs[i] = j
		return fits(s, j)
	})
}

func (a *api) remove(ctx context.Context, c *rest.Call) (any, error) {
	digest := optional(c.Params, "digest")
	j, err := a.find(c, true)
	if err != nil {
		return nil, err
	}
	return nil, a.update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.OffloadJobs, strings.ToLower(digest)); err != nil {
			return err
		}
		s.OffloadJobs = slices.DeleteFunc(s.OffloadJobs, func(o settings.OffloadJob) bool { return o.ID == j.ID })
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
func set(p *upgrade.Params, j *settings.OffloadJob) {
	for _, name := range p.Texts("delete") {
		if !reset(j, name) {
			p.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
	}
	if p.Has("store") {
		j.Store = p.Store()
	}
	if p.Has("to") {
		j.To = upgrade.Parsed(p, "to", upgrade.ParseStore)
	}
	if p.Has("ns") {
		j.NS = p.Namespace()
	}
	if p.Has("to-ns") {
		j.ToNS = upgrade.Parsed(p, "to-ns", naming.ParseNamespace)
	}
	if p.Has("max-depth") {
		j.MaxDepth = upgrade.Maybe(p, "max-depth", func(name string) int { return int(p.Int(name, 0, naming.MaxDepth)) })
	}
	if p.Has("transfer-last") {
		j.TransferLast = int(p.Int("transfer-last", 1, math.MaxInt32))
	}
	if p.Has("group-filter") {
		j.GroupFilter = slices.DeleteFunc(slices.Clone(p.Texts("group-filter")), func(t string) bool { return t == "" })
	}
	for name, to := range map[string]*bool{"disable": &j.Disable, "verified-only": &j.VerifiedOnly} {
		if p.Has(name) {
			*to = p.Bool(name)
		}
	}
	for name, read := range parsers {
		if p.Has(name) {
			*texts(j)[name] = upgrade.Parsed(p, name, read)
		}
	}
}

// texts are the options that are text.
func texts(j *settings.OffloadJob) map[string]*string {
	return map[string]*string{"after": &j.After, "owner": &j.Owner, "schedule": &j.Schedule, "comment": &j.Comment}
}

var parsers = map[string]func(string) (string, error){
	"after": func(text string) (string, error) {
		_, err := settings.OffloadJob{After: text}.Age()
		return text, err
	},
	"owner": func(text string) (string, error) {
		id, err := access.ParseAuthID(text)
		return string(id), err
	},
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
func reset(j *settings.OffloadJob, name string) bool {
	if text := texts(j)[name]; text != nil {
		*text = ""
		return true
	}
	switch name {
	case "ns":
		j.NS = ""
	case "to-ns":
		j.ToNS = ""
	case "max-depth":
		j.MaxDepth = nil
	case "group-filter":
		j.GroupFilter = nil
	case "transfer-last":
		j.TransferLast = 0
	case "verified-only":
		j.VerifiedOnly = false
	case "disable":
		j.Disable = false
	default:
		return false
	}
	return true
}
