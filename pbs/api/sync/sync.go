// Package sync has the endpoints about sync jobs, which copy what another node
// holds into a datastore of this one: /config/sync and /admin/sync as a Proxmox
// Backup Server has them (PBS protocol notes §6.6, §7.4), and the plan of a job,
// which is ours.
//
// Who sees a job may look at the datastore and at the other node. Who makes,
// changes or runs one needs Datastore.Backup where the copies go and Remote.Read
// on /remote/NODE/STORE; Datastore.Prune too if it removes what vanished, and
// Datastore.Modify if the copies are to be somebody else's.
package sync

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
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

	// Known fails if there is no such node in the cluster.
	Known(node string) error
}

// Config says what the endpoints work on.
type Config struct {
	Settings settings.Store // required
	Runner   Runner         // required

	// Key tells whether a key is archived, and fails if there is none of the name.
	// Default: there are no keys.
	Key func(name string) (archived bool, err error)

	// Of returns the settings of another node, for the parameter on-node, which
	// is ours: jobs can be made where one is and run where they belong. Default:
	// there is no other.
	Of func(node string) (settings.Store, error)
}

type api struct{ Config }

// Endpoints returns the endpoints.
func Endpoints(cfg Config) []rest.Endpoint {
	a := &api{cfg}
	get, post, put, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	return []rest.Endpoint{
		{Method: get, Path: "/config/sync", Handle: a.list},
		{Method: post, Path: "/config/sync", Handle: a.add},
		{Method: get, Path: "/config/sync/{id}", Handle: a.show},
		{Method: put, Path: "/config/sync/{id}", Handle: a.change},
		{Method: del, Path: "/config/sync/{id}", Handle: a.remove},
		{Method: get, Path: "/admin/sync", Handle: a.status},
		{Method: post, Path: "/admin/sync/{id}/run", Handle: a.run},
		{Method: get, Path: "/holdfast/sync/{id}/plan", Handle: a.plan},
	}
}

// remote is where the ACL keeps what one may read of another node. What is
// pulled from a datastore of this node is an object there.
func remote(j settings.SyncJob) []string {
	if j.Remote == "" {
		return []string{"datastore", j.RemoteStore, string(j.RemoteNS)}
	}
	return []string{"remote", j.Remote, j.RemoteStore}
}

// sees tells whether the caller may look at a job.
func sees(c *rest.Call, j settings.SyncJob) bool {
	if !c.May(access.PrivDatastoreAudit, "datastore", j.Store, string(j.NS)) {
		return false
	}
	if j.Remote == "" {
		return c.May(access.PrivDatastoreAudit, remote(j)...)
	}
	return c.May(access.PrivRemoteAudit, "remote", j.Remote, j.RemoteStore)
}

// require fails if the caller may not run such a job.
func require(c *rest.Call, j settings.SyncJob) error {
	if j.Pushes() {
		return requirePush(c, j)
	}
	here := []string{"datastore", j.Store, string(j.NS)}
	read := access.PrivRemoteRead
	if j.Remote == "" {
		read = access.PrivDatastoreRead
	}
	needs := []struct {
		is   bool
		what access.Privilege
		on   []string
	}{
		{true, access.PrivDatastoreBackup, here},
		{settings.Is(j.RemoveVanished), access.PrivDatastorePrune, here},
		{access.AuthID(j.OwnerOrRoot()) != c.Who, access.PrivDatastoreModify, here},
		{true, read, remote(j)},
	}
	for _, n := range needs {
		if n.is {
			if err := c.Require(n.what, n.on...); err != nil {
				return err
			}
		}
	}
	return nil
}

// requirePush does so for a job that pushes (features rows 75 to 77).
func requirePush(c *rest.Call, j settings.SyncJob) error {
	here := []string{"datastore", j.Store, string(j.NS)}
	there := []string{"remote", j.Remote, j.RemoteStore, string(j.RemoteNS)}
	if err := c.Require(access.PrivRemoteAudit, "remote", j.Remote); err != nil {
		return err
	}
	if err := c.Require(access.PrivRemoteDatastoreBackup, there...); err != nil {
		return err
	}
	if settings.Is(j.RemoveVanished) {
		if err := c.Require(access.PrivRemoteDatastorePrune, there...); err != nil {
			return err
		}
	}
	if access.AuthID(j.OwnerOrRoot()) != c.Who { // it reads as somebody else
		if err := c.Require(access.PrivDatastoreModify, here...); err != nil {
			return err
		}
	}
	if c.May(access.PrivDatastoreRead, here...) && c.May(access.PrivDatastoreAudit, here...) {
		return nil
	}
	return c.Require(access.PrivDatastoreBackup, here...)
}

func withDigest(data any, all []settings.SyncJob) rest.Answer {
	return rest.Answer{Data: data, Beside: map[string]any{"digest": settings.Digest(all)}}
}

// on returns the settings of the node that a call is about.
func (a *api) on(c *rest.Call) (settings.Store, error) {
	if !c.Has("on-node") {
		return a.Settings, nil
	}
	node := c.Text("on-node")
	if a.Of == nil {
		return nil, upgrade.Errorf(http.StatusBadRequest, "there is no node '%s'", node)
	}
	s, err := a.Of(node)
	if err != nil {
		return nil, upgrade.Errorf(http.StatusBadRequest, "%w", err)
	}
	return s, nil
}

func noSuch(id string) error {
	return upgrade.Errorf(http.StatusBadRequest, "no such sync '%s'", id)
}

func jobID(c *rest.Call) string { return upgrade.Parsed(c.Params, "id", upgrade.ParseStore) }

// visible returns the jobs that the caller may look at, of one datastore if
// that is asked for.
func (a *api) visible(c *rest.Call) (list, all []settings.SyncJob, err error) {
	s, err := a.on(c)
	if err != nil {
		return nil, nil, err
	}
	all, list = s.State().SyncJobs, []settings.SyncJob{}
	for _, j := range all {
		if sees(c, j) && (!c.Has("store") || c.Text("store") == j.Store) {
			list = append(list, j)
		}
	}
	return list, all, nil
}

func (a *api) list(_ context.Context, c *rest.Call) (any, error) {
	list, all, err := a.visible(c)
	return withDigest(list, all), err
}

// A status is a job with its runs.
type status struct {
	settings.SyncJob
	Next    int64      `json:"next-run,omitempty"`
	LastUID *jobs.UPID `json:"last-run-upid,omitempty"`
	LastEnd int64      `json:"last-run-endtime,omitempty"`
	Last    string     `json:"last-run-state,omitempty"`
}

func (a *api) status(_ context.Context, c *rest.Call) (any, error) {
	visible, all, err := a.visible(c)
	if err != nil {
		return nil, err
	}
	list := []status{}
	for _, j := range visible {
		s := status{SyncJob: j}
		if runs, err := a.Runner.Schedule(j.ID); err == nil && !c.Has("on-node") { // else it has just been made
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
	return withDigest(list, all), nil
}

// find returns a job.
func (a *api) find(c *rest.Call) (settings.SyncJob, error) {
	id := jobID(c)
	if err := c.Err(); err != nil {
		return settings.SyncJob{}, err
	}
	s, err := a.on(c)
	if err != nil {
		return settings.SyncJob{}, err
	}
	j, is := s.State().SyncJob(id)
	if !is {
		return j, noSuch(id)
	}
	return j, nil
}

// findVisible returns a job that the caller may look at.
func (a *api) findVisible(c *rest.Call) (settings.SyncJob, error) {
	j, err := a.find(c)
	if err == nil && !sees(c, j) {
		err = upgrade.Errorf(http.StatusForbidden, "permission check failed")
	}
	return j, err
}

func (a *api) show(_ context.Context, c *rest.Call) (any, error) {
	j, err := a.findVisible(c)
	if err != nil {
		return nil, err
	}
	s, err := a.on(c)
	if err != nil {
		return nil, err
	}
	return withDigest(j, s.State().SyncJobs), nil
}

func (a *api) run(_ context.Context, c *rest.Call) (any, error) {
	j, err := a.find(c)
	if err != nil {
		return nil, err
	}
	if err := require(c, j); err != nil {
		return nil, err
	}
	if err := onlyHere(c); err != nil {
		return nil, err
	}
	u, err := a.Runner.Start(j.ID, string(c.Who))
	return u, err
}

func (a *api) plan(ctx context.Context, c *rest.Call) (any, error) {
	j, err := a.findVisible(c)
	if err != nil {
		return nil, err
	}
	if err := onlyHere(c); err != nil {
		return nil, err
	}
	return a.Runner.Plan(ctx, j.ID)
}

// onlyHere refuses what another node would have to do.
func onlyHere(c *rest.Call) error {
	if c.Has("on-node") {
		return upgrade.Errorf(http.StatusBadRequest, "a job is run and planned on its own node: say so there")
	}
	return nil
}

func (a *api) add(ctx context.Context, c *rest.Call) (any, error) {
	j := settings.SyncJob{ID: jobID(c)}
	c.Text("store") // is required, as the next
	c.Text("remote-store")
	set(c.Params, &j)
	if err := errors.Join(a.check(c, j), a.checkKeys(c, settings.SyncJob{}, j)); err != nil {
		return nil, err
	}
	if err := require(c, j); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, c, func(s *settings.State) error {
		if _, ok := s.Datastore(j.Store); !ok {
			return upgrade.Errorf(http.StatusBadRequest, "no such datastore '%s'", j.Store)
		}
		if _, is := s.SyncJob(j.ID); is {
			return upgrade.Errorf(http.StatusBadRequest, "parameter verification failed - 'id': job '%s' already exists.", j.ID)
		}
		s.SyncJobs = append(s.SyncJobs, j)
		return nil
	})
}

// check fails if parameters are wrong, or do not fit together.
func (a *api) check(c *rest.Call, j settings.SyncJob) error {
	if err := c.Err(); err != nil {
		return err
	}
	if err := j.Check(); err != nil {
		return upgrade.Errorf(http.StatusBadRequest, "%w", err)
	}
	if access.AuthID(j.Owner).Realm() == access.RealmNode {
		return upgrade.Errorf(http.StatusBadRequest, "owner %s is the account of a node, which owns no backups and never logs in: take a user or an API token", j.Owner)
	}
	s, err := a.on(c)
	if err != nil {
		return err
	}
	if j.Pushes() {
		if _, is := s.State().Remote(j.Remote); !is {
			return upgrade.Errorf(http.StatusBadRequest, "there is no remote '%s': nothing is pushed to the nodes of this mesh, which fetch what they are to have", j.Remote)
		}
		return nil
	}
	for _, node := range nodes(j) {
		if err := a.Runner.Known(node); err != nil {
			return upgrade.Errorf(http.StatusBadRequest, "%w", err)
		}
	}
	return nil
}

// checkKeys fails if a job is to have a key that it had not, and that is not there,
// may not be used by the caller, or encrypts nothing any more (features rows 78, 95).
func (a *api) checkKeys(c *rest.Call, was, j settings.SyncJob) error {
	for _, name := range j.Keys() {
		fresh := name == j.ActiveKey && name != was.ActiveKey
		if !fresh && slices.Contains(was.Keys(), name) {
			continue
		}
		if err := c.Require(access.PrivSysModify, "system", "encryption-keys", name); err != nil {
			return err
		}
		if a.Key == nil {
			return upgrade.Errorf(http.StatusBadRequest, "there is no key '%s'", name)
		}
		archived, err := a.Key(name)
		if err != nil {
			return upgrade.Errorf(http.StatusBadRequest, "%w", err)
		}
		if archived && fresh {
			return upgrade.Errorf(http.StatusBadRequest, "key '%s' is archived, and encrypts nothing any more", name)
		}
	}
	return nil
}

// nodes are those that a job names.
func nodes(j settings.SyncJob) (all []string) {
	if j.Remote != "" {
		all = append(all, j.Remote)
	}
	for _, s := range j.Sources {
		if node, _, _ := strings.Cut(s, ":"); s != settings.AnySource {
			all = append(all, node)
		}
	}
	return all
}

func (a *api) change(ctx context.Context, c *rest.Call) (any, error) {
	digest := digestParam(c.Params)
	j, err := a.find(c)
	if err != nil {
		return nil, err
	}
	if err := require(c, j); err != nil {
		return nil, err
	}
	was := j
	set(c.Params, &j)
	if err := errors.Join(a.check(c, j), a.checkKeys(c, was, j)); err != nil {
		return nil, err
	}
	if err := require(c, j); err != nil { // what it is to be
		return nil, err
	}
	return nil, a.update(ctx, c, func(s *settings.State) error {
		if err := settings.CheckDigest(s.SyncJobs, strings.ToLower(digest)); err != nil {
			return err
		}
		i := slices.IndexFunc(s.SyncJobs, func(o settings.SyncJob) bool { return o.ID == j.ID })
		if i < 0 {
			return noSuch(j.ID)
		}
		if _, ok := s.Datastore(j.Store); !ok {
			return upgrade.Errorf(http.StatusBadRequest, "no such datastore '%s'", j.Store)
		}
		s.SyncJobs[i] = j
		return nil
	})
}

func (a *api) remove(ctx context.Context, c *rest.Call) (any, error) {
	digest := digestParam(c.Params)
	j, err := a.find(c)
	if err != nil {
		return nil, err
	}
	if err := require(c, j); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, c, func(s *settings.State) error {
		if err := settings.CheckDigest(s.SyncJobs, strings.ToLower(digest)); err != nil {
			return err
		}
		s.SyncJobs = slices.DeleteFunc(s.SyncJobs, func(o settings.SyncJob) bool { return o.ID == j.ID })
		return nil
	})
}

// update changes the settings, and makes the schedules follow.
func (a *api) update(ctx context.Context, c *rest.Call, change func(*settings.State) error) error {
	s, err := a.on(c)
	if err != nil {
		return err
	}
	if err := s.Update(ctx, change); err != nil {
		return err
	}
	return a.Runner.Sync(ctx)
}
