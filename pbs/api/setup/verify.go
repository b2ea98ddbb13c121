package setup

import (
	"context"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

func (a *api) verifyJobs(_ context.Context, c *rest.Call) (any, error) {
	all := a.Settings.State().VerifyJobs
	list := []settings.VerifyJob{}
	for _, j := range all {
		if jobMay(c, seesVerify, j.Store, string(j.NS)) {
			list = append(list, j)
		}
	}
	return withDigest(list, settings.Digest(all)), nil
}

// A verifyStatus is a job with its runs.
type verifyStatus struct {
	settings.VerifyJob
	runs
}

func (a *api) verifyStatus(_ context.Context, c *rest.Call) (any, error) {
	all := a.Settings.State().VerifyJobs
	list := []verifyStatus{}
	for _, j := range all {
		if jobMay(c, seesVerify, j.Store, string(j.NS)) && (!c.Has("store") || c.Text("store") == j.Store) {
			list = append(list, verifyStatus{j, runsOf(a.Stores.VerifySchedule(j.ID))})
		}
	}
	return withDigest(list, settings.Digest(all)), nil
}

// findVerify returns a job that the caller may see, or change.
func (a *api) findVerify(c *rest.Call, any access.Privilege) (settings.VerifyJob, error) {
	id := jobID(c)
	if err := c.Err(); err != nil {
		return settings.VerifyJob{}, err
	}
	all := a.Settings.State().VerifyJobs
	i := slices.IndexFunc(all, func(j settings.VerifyJob) bool { return j.ID == id })
	if i < 0 {
		return settings.VerifyJob{}, noSuch("verify", id)
	}
	return all[i], c.Require(any, "datastore", all[i].Store, string(all[i].NS))
}

func (a *api) verifyJob(_ context.Context, c *rest.Call) (any, error) {
	j, err := a.findVerify(c, seesVerify)
	if err != nil {
		return nil, err
	}
	return withDigest(j, settings.Digest(a.Settings.State().VerifyJobs)), nil
}

func (a *api) runVerifyJob(_ context.Context, c *rest.Call) (any, error) {
	j, err := a.findVerify(c, verify)
	if err != nil {
		return nil, err
	}
	u, err := a.Stores.RunVerifyJob(j.ID, string(c.Who))
	return u, err
}

// setVerify sets what came, and takes back what is to be deleted.
func setVerify(p *upgrade.Params, j *settings.VerifyJob) {
	for _, name := range p.Texts("delete") {
		if !resetVerify(j, name) {
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
	if p.Has("ignore-verified") {
		j.IgnoreVerified = upgrade.Maybe(p, "ignore-verified", p.Bool)
	}
	if p.Has("outdated-after") {
		j.OutdatedAfter = number(p, "outdated-after", 0, math.MaxInt32)
	}
	if n := number(p, "sample", 0, 100_000); n != nil {
		j.Sample = *n
	}
	if p.Has("max-bytes") {
		j.MaxBytes = upgrade.Parsed(p, "max-bytes", settings.ParseSize)
	}
	if n := number(p, "read-threads", 1, 32); n != nil {
		j.ReadThreads = *n
	}
	if n := number(p, "verify-threads", 1, 32); n != nil {
		j.VerifyThreads = *n
	}
}

// resetVerify gives a property its default, and reports whether there is one
// of that name.
func resetVerify(j *settings.VerifyJob, name string) bool {
	switch name {
	case "comment":
		j.Comment = ""
	case "schedule":
		j.Schedule = ""
	case "ns":
		j.NS = ""
	case "max-depth":
		j.MaxDepth = nil
	case "ignore-verified":
		j.IgnoreVerified = nil
	case "outdated-after":
		j.OutdatedAfter = nil
	case "sample":
		j.Sample = 0
	case "max-bytes":
		j.MaxBytes = 0
	case "read-threads":
		j.ReadThreads = 0
	case "verify-threads":
		j.VerifyThreads = 0
	default:
		return false
	}
	return true
}

func (a *api) addVerifyJob(ctx context.Context, c *rest.Call) (any, error) {
	j := settings.VerifyJob{ID: jobID(c)}
	c.Text("store") // is required
	setVerify(c.Params, &j)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := c.Require(verify, "datastore", j.Store, string(j.NS)); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, func(s *settings.State) error {
		if _, ok := s.Datastore(j.Store); !ok {
			return noSuch("datastore", j.Store)
		}
		if slices.ContainsFunc(s.VerifyJobs, func(o settings.VerifyJob) bool { return o.ID == j.ID }) {
			return upgrade.Errorf(400, "parameter verification failed - 'id': job '%s' already exists.", j.ID)
		}
		s.VerifyJobs = append(s.VerifyJobs, j)
		return nil
	})
}

func (a *api) changeVerifyJob(ctx context.Context, c *rest.Call) (any, error) {
	digest := digestParam(c.Params)
	j, err := a.findVerify(c, verify)
	if err != nil {
		return nil, err
	}
	setVerify(c.Params, &j)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := c.Require(verify, "datastore", j.Store, string(j.NS)); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.VerifyJobs, strings.ToLower(digest)); err != nil {
			return err
		}
		if _, ok := s.Datastore(j.Store); !ok {
			return noSuch("datastore", j.Store)
		}
		i := slices.IndexFunc(s.VerifyJobs, func(o settings.VerifyJob) bool { return o.ID == j.ID })
		if i < 0 {
			return noSuch("verify", j.ID)
		}
		s.VerifyJobs[i] = j
		return nil
	})
}

func (a *api) removeVerifyJob(ctx context.Context, c *rest.Call) (any, error) {
	digest := digestParam(c.Params)
	j, err := a.findVerify(c, verify)
	if err != nil {
		return nil, err
	}
	return nil, a.update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.VerifyJobs, strings.ToLower(digest)); err != nil {
			return err
		}
		s.VerifyJobs = slices.DeleteFunc(s.VerifyJobs, func(o settings.VerifyJob) bool { return o.ID == j.ID })
		return nil
	})
}
