package stores

import (
	"context"
	"net/http"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/thaw"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

const thawType = "thaw"

// Thawing says how archived objects are asked for.
type Thawing struct {
	Tier string // "Bulk", "Standard" or "Expedited"
	Days int    // the copies stay
}

// bucketOf is the bucket of a datastore, which need not be open: what it needs
// first may be archived.
func (s *Set) bucketOf(name string) (*bucket.Bucket, error) {
	d, ok := s.cfg.Settings.State().Datastore(name)
	switch {
	case !ok:
		return nil, upgrade.Errorf(http.StatusNotFound, "no such datastore '%s'", name)
	case d.Backend.IsZero() || s.cfg.Clouds == nil:
		return nil, upgrade.Errorf(http.StatusBadRequest, "datastore '%s' has no bucket", name)
	}
	return s.cfg.Clouds.Bucket(d.Backend.Client, d.Backend.Bucket, d.Backend.Prefix)
}

// PlanThaw lists the bucket of a datastore and says what is archived, and what it
// takes to read it again.
func (s *Set) PlanThaw(ctx context.Context, name string, how Thawing) (p thaw.Plan, manifest string, err error) {
	b, err := s.bucketOf(name)
	if err != nil {
		return p, "", err
	}
	state, err := thaw.Look(ctx, b)
	if err != nil {
		return p, "", err
	}
	var out strings.Builder
	if err := state.Manifest(&out, b); err != nil {
		return p, "", err
	}
	if p, err = state.Plan(how.Tier, how.Days); err != nil {
		err = upgrade.Errorf(http.StatusBadRequest, "%v", err)
	}
	return p, out.String(), err
}

// StartThaw begins to ask for all that is archived in the bucket of a datastore.
func (s *Set) StartThaw(name, auth string, how Thawing) (jobs.UPID, error) {
	if _, err := s.bucketOf(name); err != nil {
		return jobs.UPID{}, err
	}
	return s.cfg.Tasks.Start(context.Background(), thawType, name, auth, func(ctx context.Context, t *jobs.Task) error {
		p, _, err := s.PlanThaw(ctx, name, how)
		if err != nil {
			return err
		}
		t.Logf("%d objects are archived; %d are being restored already, %d were, %d never were archived", p.Requests, p.Restoring.Objects, p.Restored.Objects, p.Readable.Objects)
		if p.Requests == 0 {
			return nil
		}
		t.Logf("asking for %d objects for %d days, tier %s: usually within %d hours, for about %.2f USD at AWS", p.Requests, p.Days, p.Tier, p.Hours, p.Cost)
		b, err := s.bucketOf(name)
		if err != nil {
			return err
		}
		asked, err := thaw.Ask(ctx, b, p, func(n int64) {
			if n%1000 == 0 {
				t.Logf("%d of %d", n, p.Requests)
			}
		})
		t.Logf("%d objects were asked for, %d had been before", asked.Now, asked.Before)
		return err
	})
}
