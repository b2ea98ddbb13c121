package stores

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/migrate"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/fit"
	"github.com/holdfast-mesh/holdfast/pbs/stores/logs"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A Migration says where a store is copied to.
type Migration struct {
	Client, Bucket, Prefix string
	Home                   bool     // and that this is its home from then on
	Override               []string // checks of the doctor whose critical findings are accepted
}

// moved is a datastore as it is after a migration.
func (s *Set) moved(name string, m Migration) (d settings.Datastore, b *bucket.Bucket, err error) {
	if _, err := s.bucketOf(name); err != nil {
		return d, nil, err
	}
	d, _ = s.cfg.Settings.State().Datastore(name)
	if d.Backend.Client == m.Client && d.Backend.Bucket == m.Bucket && d.Backend.Prefix == m.Prefix {
		return d, nil, upgrade.Errorf(http.StatusBadRequest, "datastore '%s' has its home there already", name)
	}
	d.Backend.Client, d.Backend.Bucket, d.Backend.Prefix = m.Client, m.Bucket, m.Prefix
	if b, err = s.cfg.Clouds.Bucket(m.Client, m.Bucket, m.Prefix); err != nil {
		return d, nil, err
	}
	return d, b.Locked(d.Backend.Lock), nil
}

// StartMigrate begins to copy a store into another bucket.
func (s *Set) StartMigrate(name, auth string, m Migration) (jobs.UPID, error) {
	if _, _, err := s.moved(name, m); err != nil {
		return jobs.UPID{}, err
	}
	return s.cfg.Tasks.Start(context.Background(), "migrate", name, auth, func(ctx context.Context, t *jobs.Task) error {
		return s.afford(ctx, t, name, func(ctx context.Context) error { return s.migrate(ctx, t, name, m) })
	})
}

func (s *Set) migrate(ctx context.Context, t *jobs.Task, name string, m Migration) error {
	d, to, err := s.moved(name, m)
	if err != nil {
		return err
	}
	if m.Home && s.cfg.Agreed != nil { // else the change of its home waits, and the old one goes on
		if err := s.cfg.Agreed(ctx); err != nil {
			return fmt.Errorf("datastore '%s' does not move while the cluster has no quorum: %w", name, err)
		}
	}
	cfg, err := s.tierConfig(ctx, d)
	if err != nil {
		return err
	}
	found, err := s.admit(ctx, t, cfg, m.Override)
	if err != nil {
		return err
	}
	err = s.Claimed(ctx, t, name, func(ctx context.Context) error {
		ti, done, err := s.UseTier(name)
		if err != nil {
			return err
		}
		defer done()
		work := ti.CopyTo
		if m.Home {
			work = ti.MoveTo
		}
		sum, err := work(ctx, to, func(n migrate.Sum) { t.Progress(0, logs.Human(n.Bytes)+" copied") })
		t.Logf("%d objects, %s, were copied to %s", sum.Objects, logs.Human(sum.Bytes), to)
		return err
	})
	if err != nil || !m.Home {
		return err
	}
	t.Logf("the home of '%s' is %s now; nothing was removed from the old bucket", name, to)
	return errors.Join(
		s.Update(ctx, name, "", func(is *Described) error { is.Backend = d.Backend; return nil }),
		fit.Keep(s.cfg.FS, d.Path, found)) // what was found of the old one is over
}
